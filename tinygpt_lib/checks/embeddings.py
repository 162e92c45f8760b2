"""Notebook 03: one-hot rows, the gradient of a lookup, nearest neighbours, sinusoidal positions and their rotation."""

from functools import partial

import numpy as np

from tinygpt_lib.functional import embedding
from tinygpt_lib.tensor import Tensor

from .judge import Exercise, strided

_rng = np.random.default_rng(3)
_strided = partial(strided, _rng)


# ---- one-hot rows


def _one_hot(ids, V):
    return np.eye(V)[ids]


def _place_by_place(ids, V, columns):
    x = np.zeros((len(ids), V))
    x[slice(None) if columns else np.arange(len(ids)), ids] = 1
    return x


ONE_HOT = Exercise(
    "One-hot rows",
    _one_hot,
    cases=(
        (np.array([2, 0, 3]), 4),
        (np.array([1, 1, 0]), 3),
        (np.array([4]), 9),
        (np.array([[0, 5, 2], [2, 2, 1]]), 7),
        (_rng.integers(0, 6, (2, 3, 8))[..., ::2], 6),
    ),
    mistakes={
        "Rows are places and columns the vocabulary: this is the other way round.": lambda ids, V: _one_hot(ids, V).T,
        "Every row has a 1 for every id of the text: x[:, ids] means all rows. Each row gets one 1, at its own id.":
            lambda ids, V: _place_by_place(ids, V, True),
        "One text works, a batch of them doesn't: ids may have any number of axes. Comparing ids[..., None] with np.arange(V) "
        "needn't know how many.":
            lambda ids, V: _place_by_place(ids, V, False),
        "Ids start at 0, the first column's: here the 1 stands one column too far to the left.":
            lambda ids, V: (ids[..., None] == np.arange(1, V + 1)).astype(float),
        "There is a column for each token of the vocabulary, also for those that don't occur: "
        "the width is V, not the largest id + 1.":
            lambda ids, V: _one_hot(ids, ids.max() + 1),
    },
)

# ---- the gradient of a lookup


def _scatter(g, ids, V):
    table = Tensor(np.zeros((V, g.shape[-1])), requires_grad=True, dtype=np.float64)
    embedding(table, ids).backward(g)
    return table.grad


def _last_wins(g, ids, V):
    grad = np.zeros((V, g.shape[-1]))
    grad[ids] = g
    return grad


def _row_by_row(g, ids, V):
    grad = np.zeros((V, g.shape[-1]))
    for t, v in enumerate(ids):
        grad[v] += g[t]
    return grad


def _mean_of_occurrences(g, ids, V):
    return _scatter(g, ids, V) / np.maximum(np.bincount(ids.reshape(-1), minlength=V), 1)[:, None]


BACKWARD = Exercise(
    "The gradient of a lookup",
    _scatter,
    cases=(
        (_rng.normal(size=(4, 3)), np.array([0, 2, 0, 3]), 5),
        (_rng.normal(size=(300, 2)), _rng.integers(0, 5, 300), 7),
        (_rng.normal(size=(2, 4, 3)), np.array([[1, 1, 0, 2], [2, 2, 2, 0]]), 4),
        (_strided(3, 4), np.array([1, 0, 2]), 3),
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), 2),
    ),
    mistakes={
        "Of a word's occurrences only the last counts: "
        "grad[ids] += g fetches, adds and writes back, so repeated ids overwrite each other. np.add.at adds them one by one.":
            _last_wins,
        "One text is right. In a batch grad[ids[b]] += g[b] loses the ids that occur twice in one row of it.": _row_by_row,
        "A word that occurs twice gets both gradients, added, not their mean: the loss depends on its row in both places.":
            _mean_of_occurrences,
        "The gradient has the table's shape (V, C): the sum runs over the batch, too.":
            lambda g, ids, V: _one_hot(ids, V).swapaxes(-1, -2) @ g,
        "One text is right. For a batch, give ids one axis and g two first: reshape(-1) and reshape(-1, C).":
            lambda g, ids, V: _one_hot(ids, V).T @ g,
        "The gradient has a row for each token of the vocabulary, zero for those that don't occur: "
        "V rows, not the largest id + 1.":
            lambda g, ids, V: _scatter(g, ids, ids.max() + 1),
    },
)

# ---- nearest neighbours


def _cosines(rows, i):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit[i]


def _downwards(scores):
    return np.argsort(-scores, kind="stable")


def _reversed(scores):
    return np.argsort(scores, kind="stable")[::-1]  # as _downwards, but for equal scores


def _best(scores, i, n):
    order = _downwards(scores)
    return order[order != i][:n]


def _other_directions(rows, i, n):
    cosines = _cosines(rows, i)
    order = _downwards(cosines)
    return order[cosines[order] < 1 - 1e-9][:n]


_LENGTHS = np.exp(_rng.normal(size=(20, 1)))

NEAREST = Exercise(
    "Nearest neighbours",
    lambda rows, i, n: _best(_cosines(rows, i), i, n),
    cases=(
        (_LENGTHS * _rng.normal(size=(20, 6)), 4, 5),
        (_rng.normal(size=(5, 3)), 0, 4),
        (_strided(30, 8), 29, 1),
        (np.array([[1.0, 0.0], [0.0, 2.0], [2.0, 0.0], [3.0, 4.0]]), 2, 3),  # row 0 points where row 2 does
        (np.array([[3.0, -4.0], [0.0, 4.0], [3.0, 4.0], [0.0, 1.0]]), 1, 2),
    ),
    mistakes={
        "The word itself is in the list: its cosine with itself is 1, which nothing beats.":
            lambda rows, i, n: _downwards(_cosines(rows, i))[:n],
        "The word itself is in the list: nothing beats its cosine with itself, which is 1.":
            lambda rows, i, n: _reversed(_cosines(rows, i))[:n],
        "Almost: this drops the first of the list, which isn't always row i. "
        "Another row may point exactly the same way. Drop i itself.":
            lambda rows, i, n: _downwards(_cosines(rows, i))[1 : n + 1],
        "Almost: the first of the list, which this drops, isn't always row i. "
        "Another row may point exactly the same way. Drop i itself.":
            lambda rows, i, n: _reversed(_cosines(rows, i))[1 : n + 1],
        "This drops every row that points where row i does. Only row i itself is to go: "
        "a row of another length with the same direction is its nearest neighbour.":
            _other_directions,
        "Long rows win here: this ranks by the dot product. Divide each row by its length first.":
            lambda rows, i, n: _best(rows @ rows[i], i, n),
        "This ranks by distance, which a row's length changes too. The cosine looks at the direction only.":
            lambda rows, i, n: _best(-np.linalg.norm(rows - rows[i], axis=1), i, n),
        "These are the least similar ones: argsort goes upwards.":
            lambda rows, i, n: np.argsort(_cosines(rows, i), kind="stable")[:n],
        "These are the n largest cosines. Wanted are the ids of the rows that have them.":
            lambda rows, i, n: np.sort(np.delete(_cosines(rows, i), i))[::-1][:n],
    },
)

# ---- positions


def _angles(T, C, exponent=lambda pair, C: 2 * pair / C, first=0):
    return np.arange(first, first + T)[:, None] * 10000.0 ** -exponent(np.arange(C // 2), C)  # (T, C/2)


def _alternate(even, odd):
    return np.stack([even, odd], axis=-1).reshape(*even.shape[:-1], -1)


def _sinusoids(T, C, angles=_angles):
    a = angles(T, C)
    return _alternate(np.sin(a), np.cos(a))


def _column_by_column(T, C, factor):
    columns = np.arange(C)
    a = np.arange(T)[:, None] * 10000.0 ** (-factor * columns / C)
    return np.where(columns % 2 == 0, np.sin(a), np.cos(a))


SINUSOIDS = Exercise(
    "Sinusoidal positions",
    _sinusoids,
    cases=((4, 2), (10, 6), (1, 8), (50, 16), (6, 6)),
    mistakes={
        "The values are right, their order isn't the paper's: "
        "sine and cosine of a pair stand side by side, in columns 2i and 2i + 1.":
            lambda T, C: np.concatenate([np.sin(_angles(T, C)), np.cos(_angles(T, C))], axis=1),
        "A sine and its cosine belong to the same hand: "
        "both columns of a pair have the exponent 2i/C, also the odd column 2i + 1.":
            lambda T, C: _column_by_column(T, C, 1),
        "In the formula i counts the pairs, and 2i is the column. With i as the column the hands slow down twice as fast.":
            lambda T, C: _column_by_column(T, C, 2),
        "The exponent is 2i/C for pair i: with i/C the last hand isn't slow enough.":
            lambda T, C: _sinusoids(T, C, lambda T, C: _angles(T, C, lambda pair, C: pair / C)),
        "Each hand is slower than the one before: divide the place by 10000^(2i/C), don't multiply.":
            lambda T, C: _sinusoids(T, C, lambda T, C: _angles(T, C, lambda pair, C: -2 * pair / C)),
        "Places start at 0, where every sine is 0 and every cosine 1.":
            lambda T, C: _sinusoids(T, C, lambda T, C: _angles(T, C, first=1)),
        "The sine belongs in the even columns 0, 2, 4, ..., the cosine in the odd ones.":
            lambda T, C: _alternate(np.cos(_angles(T, C)), np.sin(_angles(T, C))),
        "A row is a place: shape (T, C), not (C, T).": lambda T, C: _sinusoids(T, C).T,
    },
)


def _turned(rows, k, sign=1, speed=lambda pair, C: 10000.0 ** (-2 * pair / C)):
    sine, cosine = rows[..., 0::2], rows[..., 1::2]
    angle = sign * k * speed(np.arange(sine.shape[-1]), rows.shape[-1])
    return _alternate(sine * np.cos(angle) + cosine * np.sin(angle), cosine * np.cos(angle) - sine * np.sin(angle))


def _by_arcsin(rows, k):
    C = rows.shape[-1]
    angle = np.arcsin(rows[..., 0::2]) + k * 10000.0 ** (-2 * np.arange(C // 2) / C)
    return _alternate(np.sin(angle), np.cos(angle))


def _halves(rows, k):
    C = rows.shape[-1]
    sine, cosine = np.split(rows, 2, axis=-1)
    angle = k * 10000.0 ** (-2 * np.arange(C // 2) / C)
    return np.concatenate([sine * np.cos(angle) + cosine * np.sin(angle), cosine * np.cos(angle) - sine * np.sin(angle)], axis=-1)


TURN = Exercise(
    "Turning the hands",
    _turned,
    cases=(
        (_sinusoids(12, 8), 3),
        (_sinusoids(40, 4)[::2], -5),
        (_sinusoids(30, 6)[17], 1),
        (_sinusoids(24, 10).reshape(4, 6, 10), 100),
        (_sinusoids(5, 2), 0),
    ),
    mistakes={
        "This goes k places back: check the signs in sin(a + b) and cos(a + b).": lambda rows, k: _turned(rows, k, -1),
        "Each pair has its own speed: turn pair i by k / 10000^(2i/C), not all by k.":
            lambda rows, k: _turned(rows, k, speed=lambda pair, C: np.ones_like(pair, dtype=float)),
        "Moving the rows along brings the first ones back in at the other end. "
        "The rows of new places must come from turning each row.":
            lambda rows, k: np.roll(rows, -k, axis=0),
        "Adding the row of place k isn't turning by k: sin(a) + sin(b) isn't sin(a + b).":
            lambda rows, k: rows + _turned(np.tile([0.0, 1.0], rows.shape[-1] // 2), k),
        "Right for the first quarter of a turn: arcsin can't tell the angles that share a sine. Use the cosine, too.": _by_arcsin,
        "Here sines and cosines alternate: rows[..., 0::2] and rows[..., 1::2], not two halves.": _halves,
    },
)

EXERCISES = [ONE_HOT, BACKWARD, NEAREST, SINUSOIDS, TURN]
