"""Notebook 03."""

import numpy as np


def hot_turned(ids, V):
    return np.transpose(ids[..., None] == np.arange(V))


def hot_all_rows(ids, V):
    x = np.zeros([len(ids), V])
    x[:, ids] = 1.0
    return x


def hot_one_text_only(ids, V):
    x = np.zeros([len(ids), V])
    x[range(len(ids)), ids] = 1.0
    return x


def hot_from_one(ids, V):
    return np.equal(ids[..., None], 1 + np.arange(V))


def hot_narrow(ids, V):
    return np.eye(np.max(ids) + 1)[ids]


def scatter_plus_equals(g, ids, V):
    grad = np.zeros((V, g.shape[-1]))
    grad[ids] += g
    return grad


def scatter_texts(g, ids, V):
    grad = np.zeros((V, g.shape[-1]))
    for place, token in zip(g, ids):
        grad[token] = grad[token] + place
    return grad


def scatter_means(g, ids, V):
    g, ids = g.reshape(-1, g.shape[-1]), ids.ravel()
    return np.array([g[ids == v].mean(axis=0) if (ids == v).any() else np.zeros(g.shape[1]) for v in range(V)])


def scatter_per_text(g, ids, V):
    return np.einsum("...tv,...tc->...vc", np.equal(ids[..., None], np.arange(V)).astype(float), g)


def scatter_narrow(g, ids, V):
    grad = np.zeros((ids.max() + 1, g.shape[-1]))
    np.add.at(grad, ids, g)
    return grad


def scatter_product(g, ids, V):
    return (ids[..., None] == np.arange(V)).astype(float).T @ g


def _cos(rows, i):
    return rows @ rows[i] / (np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[i]))


def near_with_itself(rows, i, n):
    return np.argsort(-_cos(rows, i), kind="stable")[:n]


def near_with_itself_from_the_end(rows, i, n):
    return np.flip(np.argsort(_cos(rows, i), kind="stable"))[:n]


def near_drops_first(rows, i, n):
    c = _cos(rows, i)
    return sorted(range(len(rows)), key=lambda j: -c[j])[1 : n + 1]


def near_drops_last(rows, i, n):
    return np.argsort(_cos(rows, i), kind="stable")[-n - 1 : -1][::-1]


def near_drops_same(rows, i, n):
    c = _cos(rows, i)
    return [j for j in sorted(range(len(rows)), key=lambda j: -c[j]) if not np.isclose(c[j], 1)][:n]


def near_by_dot(rows, i, n):
    scores = rows @ rows[i]
    scores[i] = -np.inf
    return np.argsort(scores)[::-1][:n]


def near_by_distance(rows, i, n):
    distances = ((rows - rows[i]) ** 2).sum(axis=1)
    distances[i] = np.inf
    return np.argsort(distances)[:n]


def near_worst(rows, i, n):
    return np.argsort(_cos(rows, i))[:n].tolist()


def near_values(rows, i, n):
    c = _cos(rows, i)
    c[i] = -2
    return -np.sort(-c)[:n]


def _table(T, C, angle, sine=np.sin, cosine=np.cos):
    table = np.empty((T, C))
    for p in range(T):
        for i in range(C // 2):
            table[p, 2 * i], table[p, 2 * i + 1] = sine(angle(p, i, C)), cosine(angle(p, i, C))
    return table


def wave_halves(T, C):
    i = np.arange(C // 2)
    a = np.arange(T).reshape(-1, 1) / np.power(10000, 2 * i / C)
    return np.hstack((np.sin(a), np.cos(a)))


def wave_each_column(T, C):
    table = np.zeros((T, C))
    for j in range(C):
        a = np.arange(T) / 10000 ** (j / C)
        table[:, j] = np.cos(a) if j % 2 else np.sin(a)
    return table


def wave_column_as_pair(T, C):
    a = np.arange(T)[:, None] / 10000 ** (2 * np.arange(C) / C)
    a[:, 0::2], a[:, 1::2] = np.sin(a[:, 0::2]), np.cos(a[:, 1::2])
    return a


def wave_half_exponent(T, C):
    return _table(T, C, lambda p, i, C: p / 10000 ** (i / C))


def wave_times(T, C):
    return _table(T, C, lambda p, i, C: p * 10000 ** (2 * i / C))


def wave_from_one(T, C):
    return _table(T, C, lambda p, i, C: (p + 1) / 10000 ** (2 * i / C))


def wave_swapped(T, C):
    return _table(T, C, lambda p, i, C: p / 10000 ** (2 * i / C), np.cos, np.sin)


def wave_columns(T, C):
    return _table(T, C, lambda p, i, C: p / 10000 ** (2 * i / C)).T


def _turn(rows, angle):
    out = np.empty_like(rows)
    s, c = rows[..., ::2], rows[..., 1::2]
    out[..., ::2], out[..., 1::2] = s * np.cos(angle) + c * np.sin(angle), c * np.cos(angle) - s * np.sin(angle)
    return out


def _steps(rows, k):
    C = rows.shape[-1]
    return k / 10000 ** (np.arange(0, C, 2) / C)


def turn_back(rows, k):
    return _turn(rows, -_steps(rows, k))


def turn_all_by_k(rows, k):
    return _turn(rows, k)


def turn_by_rolling(rows, k):
    return np.roll(rows, -k, axis=0)


def turn_by_adding(rows, k):
    angle = _steps(rows, k)
    row = np.empty(rows.shape[-1])
    row[::2], row[1::2] = np.sin(angle), np.cos(angle)
    return rows + row


def turn_by_arcsin(rows, k):
    out, angle = np.empty_like(rows), np.arcsin(rows[..., ::2]) + _steps(rows, k)
    out[..., ::2], out[..., 1::2] = np.sin(angle), np.cos(angle)
    return out


def turn_halves(rows, k):
    half, angle = rows.shape[-1] // 2, _steps(rows, k)
    s, c = rows[..., :half], rows[..., half:]
    return np.concatenate([s * np.cos(angle) + c * np.sin(angle), c * np.cos(angle) - s * np.sin(angle)], axis=-1)


WRONG = {
    "3.1": [
        (hot_turned, "the other way round"),
        (hot_all_rows, "means all rows"),
        (hot_one_text_only, "a batch of them doesn't"),
        (hot_from_one, "Ids start at 0"),
        (hot_narrow, "not the largest id + 1"),
    ],
    "3.2": [
        (scatter_plus_equals, "only the last counts"),
        (scatter_texts, "twice in one row of it"),
        (scatter_means, "not their mean"),
        (scatter_per_text, "over the batch, too"),
        (scatter_product, "reshape(-1, C)"),
        (scatter_narrow, "V rows"),
    ],
    "3.3": [
        (near_with_itself, "The word itself is in the list"),
        (near_with_itself_from_the_end, "nothing beats its cosine"),
        (near_drops_first, "this drops the first of the list"),
        (near_drops_last, "which this drops"),
        (near_drops_same, "Only row i itself is to go"),
        (near_by_dot, "Long rows win"),
        (near_by_distance, "ranks by distance"),
        (near_worst, "argsort goes upwards"),
        (near_values, "Wanted are the ids"),
    ],
    "3.4": [
        (wave_halves, "side by side"),
        (wave_each_column, "belong to the same hand"),
        (wave_column_as_pair, "i counts the pairs"),
        (wave_half_exponent, "isn't slow enough"),
        (wave_times, "don't multiply"),
        (wave_from_one, "Places start at 0"),
        (wave_swapped, "in the even columns"),
        (wave_columns, "not (C, T)"),
    ],
    "3.5": [
        (turn_back, "k places back"),
        (turn_all_by_k, "its own speed"),
        (turn_by_rolling, "at the other end"),
        (turn_by_adding, "isn't turning by k"),
        (turn_by_arcsin, "share a sine"),
        (turn_halves, "not two halves"),
    ],
}
