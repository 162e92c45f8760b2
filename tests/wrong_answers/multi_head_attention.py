"""Notebook 05."""

import numpy as np


def split_straight(x, H):
    T, C = x.shape[-2:]
    return np.reshape(x, x.shape[:-2] + (H, T, C // H))


def split_not_exchanged(x, H):
    return np.stack(np.split(x, H, axis=-1), axis=-2)


def split_every_hth(x, H):
    return np.stack([x[..., h::H] for h in range(H)], axis=-3)


def split_three_axes_only(x, H):
    B, T, C = x.shape
    return np.einsum("bthd->bhtd", x.reshape(B, T, H, C // H))


def join_straight(y):
    H, T, D = y.shape[-3:]
    return np.reshape(y, y.shape[:-3] + (T, H * D))


def join_in_turn(y):
    heads = [y[..., h, :, :] for h in range(y.shape[-3])]
    return np.stack(heads, axis=-1).reshape(y.shape[:-3] + (y.shape[-2], -1))


def join_added(y):
    return sum(y[..., h, :, :] for h in range(y.shape[-3]))


def join_averaged(y):
    return sum(y[..., h, :, :] for h in range(y.shape[-3])) / y.shape[-3]


def join_half(y):
    return np.moveaxis(y, -2, -3)


def join_four_axes_only(y):
    B, H, T, D = y.shape
    return np.einsum("bhtd->bthd", y).reshape(B, T, -1)


def head_untransposed(x, weight, bias, H, h):
    C = x.shape[-1]
    qkv = x @ weight + bias
    return tuple(part[..., h * C // H : (h + 1) * C // H] for part in np.split(qkv, 3, axis=-1))


def _cut(x, weight, bias, rows):
    return [x @ weight[r].T + bias[r] for r in rows]


def head_without_bias(x, weight, bias, H, h):
    D = x.shape[-1] // H
    q, k, v = np.split(weight, 3)
    return tuple(x @ part[h * D : (h + 1) * D].T for part in (q, k, v))


def head_by_head(x, weight, bias, H, h):
    D = weight.shape[0] // (3 * H)
    qkv = x @ weight.T + bias
    mine = qkv[..., 3 * D * h : 3 * D * (h + 1)]
    return mine[..., :D], mine[..., D : 2 * D], mine[..., 2 * D :]


def head_strided(x, weight, bias, H, h):
    return tuple(part[..., h::H] for part in np.split(x @ weight.T + bias, 3, axis=-1))


def head_always_first(x, weight, bias, H, h):
    C = weight.shape[1]
    return _cut(x, weight, bias, [range(i * C, i * C + C // H) for i in range(3)])


def head_all(x, weight, bias, H, h):
    return tuple(np.split(x @ weight.T + bias, 3, axis=-1))


def _attention(q, k, v):
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ v


def step_without_itself(q, k, v, past_k, past_v):
    y = _attention(q, past_k, past_v)
    return y, np.concatenate([past_k, k], axis=-2), np.concatenate([past_v, v], axis=-2)


def step_in_front(q, k, v, past_k, past_v):
    keys, values = np.concatenate([k, past_k], axis=-2), np.concatenate([v, past_v], axis=-2)
    return _attention(q, keys, values), keys, values


def step_default_axis(q, k, v, past_k, past_v):
    keys, values = np.concatenate([past_k, k]), np.concatenate([past_v, v])
    return _attention(q, keys, values), keys, values


def step_unscaled(q, k, v, past_k, past_v):
    keys, values = np.concatenate([past_k, k], axis=-2), np.concatenate([past_v, v], axis=-2)
    return _attention(q * np.sqrt(q.shape[-1]), keys, values), keys, values


def step_masked(q, k, v, past_k, past_v):
    keys, values = np.concatenate([past_k, k], axis=-2), np.concatenate([past_v, v], axis=-2)
    scores = q @ np.swapaxes(keys, -1, -2) / np.sqrt(q.shape[-1])
    scores[..., np.triu(np.ones(scores.shape[-2:], dtype=bool), k=1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ values, keys, values


def step_output_only(q, k, v, past_k, past_v):
    return _attention(q, np.concatenate([past_k, k], axis=-2), np.concatenate([past_v, v], axis=-2))


def _causal(q, k, v):
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    scores = np.where(np.tri(*scores.shape[-2:]) == 1, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def grouped_in_turn(q, k, v):
    G = len(k)
    return np.stack([_causal(q[h], k[h % G], v[h % G]) for h in range(len(q))])


def grouped_future(q, k, v):
    n = len(q) // len(k)
    return np.stack([_attention(q[h], k[h // n], v[h // n]) for h in range(len(q))])


def grouped_first(q, k, v):
    return _causal(q, k[0], v[0])


def grouped_unscaled(q, k, v):
    n = len(q) // len(k)
    return _causal(q * np.sqrt(q.shape[-1]), k.repeat(n, 0), v.repeat(n, 0))


def grouped_not_repeated(q, k, v):
    return _causal(q, k, v)


def step_unsafe(q, k, v, past_k, past_v):
    keys, values = np.concatenate([past_k, k], axis=-2), np.concatenate([past_v, v], axis=-2)
    exps = np.exp(np.einsum("...id,...jd->...ij", q, keys) / np.sqrt(q.shape[-1]))
    return exps / exps.sum(axis=-1, keepdims=True) @ values, keys, values


WRONG = {
    "5.1": [
        (split_straight, "hands whole tokens to a head"),
        (split_not_exchanged, "must still change places"),
        (split_every_hth, "every H-th"),
        (split_three_axes_only, "for (B, T, C) only"),
    ],
    "5.2": [
        (join_straight, "one head's neighbours in time"),
        (join_in_turn, "the heads take turns"),
        (join_added, "aren't added up"),
        (join_averaged, "Averaging loses"),
        (join_half, "the last step is missing"),
        (join_four_axes_only, "for (B, H, T, D) only"),
    ],
    "5.3": [
        (head_untransposed, "multiply by their transpose"),
        (head_without_bias, "the bias is missing"),
        (head_by_head, "the queries of all heads come first"),
        (head_strided, "every H-th row"),
        (head_always_first, "whichever is asked for"),
        (head_all, "all heads' queries"),
    ],
    "5.4": [
        (step_without_itself, "may look at itself"),
        (step_in_front, "behind the old ones"),
        (step_default_axis, "the last but one"),
        (step_unscaled, "too large"),
        (step_masked, "the first key only"),
        (step_output_only, "Return three things"),
        (step_unsafe, "exp of a large score"),
    ],
    "5.5": [
        (grouped_in_turn, "dealt out in turn"),
        (grouped_future, "sees the future"),
        (grouped_first, "use the first keys"),
        (grouped_unscaled, "too large"),
        (grouped_not_repeated, "don't broadcast"),
    ],
}
