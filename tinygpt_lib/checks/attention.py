"""Notebook 04: scores, softmax, the causal mask, the backward of softmax, a sliding window."""

import math
from functools import partial

import numpy as np

from tinygpt_lib.sampling import softmax

from .judge import Exercise, strided

_rng = np.random.default_rng(4)
_strided = partial(strided, _rng)


def _qk(Tq, Tk, D, *batch, scale=1.0):
    return scale * _rng.normal(size=(*batch, Tq, D)), scale * _rng.normal(size=(*batch, Tk, D))


def _scores(q, k):
    return q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])


def _naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def _masked(scores, allowed):
    return softmax(np.where(allowed, scores, -np.inf))


def _past(Tq, Tk, last=0, first=None):
    """True where key j is at most `last` after query i, and at least `first`; the last query stands at the last key."""
    distance = np.arange(Tk) - (np.arange(Tq)[:, None] + Tk - Tq)
    return (distance <= last) & (distance >= (-Tk if first is None else first))


def _causal(q, k):
    return _masked(_scores(q, k), _past(len(q), len(k)))


def _aftersoftmax(q, k, renormalise, allowed=None):
    w = softmax(_scores(q, k)) * (_past(len(q), len(k)) if allowed is None else allowed)
    return w / w.sum(axis=-1, keepdims=True) if renormalise else w


_FUTURE_WINS = 40 * np.eye(2), np.array([[1.0, 0.0], [100.0, 1.0]])  # the first query scores 2828 with the second key
_PAST_WINS = np.array([[1.0], [40.0]]), np.array([[100.0], [1.0]])  # the second query scores 4000 with the first key
_PAST_LOSES = np.array([[1e6], [1.0]]), np.array([[-1.0], [1.0]])  # no score below the mask's, whatever number it is

SCORES = Exercise(
    "Scaled scores",
    _scores,
    cases=(_qk(2, 3, 4), _qk(5, 5, 1), _qk(3, 3, 16, 2), (_strided(4, 6), _strided(2, 6)), _qk(2, 3, 8, 2, 3)),
    mistakes={
        "Right shape, but every score is too large: did you scale by the head's width, 1/sqrt(D)?":
            lambda q, k: q @ k.swapaxes(-1, -2),
        "Divide by the square root of the width: dividing by D itself makes the scores' spread shrink as 1/sqrt(D).":
            lambda q, k: q @ k.swapaxes(-1, -2) / q.shape[-1],
        "The scale comes from the width D, the last axis, not from the number of keys.":
            lambda q, k: q @ k.swapaxes(-1, -2) / math.sqrt(k.shape[-2]),
        "Rows are queries and columns keys: this is the other way round.": lambda q, k: _scores(k, q),
        "One pair of matrices works, a batch of them doesn't: `.T` turns all axes round, swapaxes(-1, -2) only the last two.":
            lambda q, k: q @ k.T / math.sqrt(q.shape[-1]),
    },
)

SOFTMAX = Exercise(
    "Softmax of each row",
    softmax,
    cases=(
        (_rng.normal(size=(3, 5)),),
        (np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]),),
        (np.array([[1000.0, 999.0], [-1000.0, -1000.0]]),),
        (np.array([[0.0, -np.inf, 1.0], [800.0, 3.0, -np.inf]]),),
        (_strided(2, 3, 4),),
    ),
    mistakes={
        "exp(1000) is infinite and inf/inf is nan. Subtract each row's largest score first: "
        "the result stays the same, and nothing overflows.":
            _naive_softmax,
        "Each query's weights must sum to 1, so the sum runs along the last axis; here it runs down the columns.":
            lambda x: softmax(x.swapaxes(0, -1)).swapaxes(0, -1),
        "Each row needs its own sum: here one sum is shared by all rows.":
            lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
        "Subtract each row's own largest score, not the largest of all: "
        "a row far below it has only zeros to add up, and 0/0 is nan.":
            lambda x: _naive_softmax(x - x.max()),
    },
)

CAUSAL = Exercise(
    "Causal weights",
    _causal,
    cases=(
        _qk(4, 4, 3), _qk(1, 1, 2), _qk(6, 6, 8, scale=9), _qk(2, 5, 4), _FUTURE_WINS, _PAST_LOSES,
        (_strided(3, 4), _strided(3, 4)),
    ),
    mistakes={
        "The rows don't sum to 1: this masks after the softmax, whose sums have already seen the future. Mask the scores.":
            lambda q, k: _aftersoftmax(q, k, False),
        "These rows were masked after the softmax and scaled up again. "
        "Where the future held all the weight, little or nothing is left to scale. Mask the scores.":
            lambda q, k: _aftersoftmax(q, k, True),
        "A word may look at itself: your mask also removes the diagonal.":
            lambda q, k: _masked(_scores(q, k), _past(len(q), len(k), -1)),
        "This looks at the future only: the mask is the wrong way round.":
            lambda q, k: _masked(_scores(q, k), _past(len(q), len(k), len(k), 0)),
        "This sees one word into the future: which diagonal does k= of np.triu start at?":
            lambda q, k: _masked(_scores(q, k), _past(len(q), len(k), 1)),
        "With as many queries as keys it's right. With fewer, the queries are the last words of the text: "
        "query i stands at position i + Tk - Tq.":
            lambda q, k: _masked(_scores(q, k), np.tri(len(q), len(k), dtype=bool)),
        "The mask is right, the scale is missing: divide by sqrt(D).": lambda q, k: _causal(q * math.sqrt(q.shape[-1]), k),
        "A score of 0 isn't a weight of 0: exp(0) is 1. The future's scores must become -inf.":
            lambda q, k: softmax(np.where(_past(len(q), len(k)), _scores(q, k), 0)),
    },
)


def _softmax_backward(w, dw):
    return w * (dw - (dw * w).sum(axis=-1, keepdims=True))


SOFTMAX_BACKWARD = Exercise(
    "Softmax, backwards",
    _softmax_backward,
    cases=(
        (softmax(_rng.normal(size=(3, 5))), _rng.normal(size=(3, 5))),
        (np.array([[1.0, 0.0, 0.0]]), np.array([[2.0, 3.0, 4.0]])),
        (np.full((2, 4), 0.25), np.ones((2, 4))),
        (softmax(_strided(2, 3, 4)), _strided(2, 3, 4)),
    ),
    mistakes={
        "This is what one weight owes to its own score only, w (1 - w). "
        "Raising a score also lowers all other weights of its row.":
            lambda w, dw: w * (1 - w) * dw,
        "The other weights are missing: subtract the row's weighted mean of dw, sum(dw * w), before multiplying by w.":
            lambda w, dw: w * dw,
        "The mean that is subtracted is weighted by w: sum(dw * w), not sum(dw).":
            lambda w, dw: w * (dw - dw.sum(axis=-1, keepdims=True)),
        "The mean that is subtracted is weighted by w, it isn't the plain mean.":
            lambda w, dw: w * (dw - dw.mean(axis=-1, keepdims=True)),
        "Sum within each row: keepdims=True, axis=-1. Here rows are mixed.": lambda w, dw: w * (dw - (dw * w).sum()),
        "Almost: the subtracted part must be multiplied by w, too. Check the brackets.":
            lambda w, dw: w * dw - (dw * w).sum(axis=-1, keepdims=True),
    },
)


def _window(q, k, n):
    return _masked(_scores(q, k), _past(len(q), len(k), 0, 1 - n))


WINDOW = Exercise(
    "A sliding window",
    _window,
    cases=(
        (*_qk(6, 6, 4), 3), (*_qk(5, 5, 2), 1), (*_qk(4, 4, 8, scale=6), 9), (*_FUTURE_WINS, 2), (*_PAST_WINS, 1),
        (_strided(7, 4), _strided(7, 4), 2),
    ),
    mistakes={
        "One word too many: the n words include the query's own.": lambda q, k, n: _window(q, k, n + 1),
        "That's plain causal attention: words more than n - 1 back must be masked, too.": lambda q, k, n: _causal(q, k),
        "This sees the future: the window holds the word itself and the n - 1 before it.":
            lambda q, k, n: _masked(_scores(q, k), _past(len(q), len(k), n - 1, 1 - n)),
        "This is the first n words of the text for everyone. The window moves along with the query.":
            lambda q, k, n: _masked(_scores(q, k), _past(len(q), len(k)) & (np.arange(len(k)) < n)),
        "The window's weights don't sum to 1: mask the scores, not the weights.":
            lambda q, k, n: _causal(q, k) * _past(len(q), len(k), 0, 1 - n),
        "These rows were masked after the softmax and scaled up again. "
        "Where the words outside held all the weight, little or nothing is left to scale. Mask the scores.":
            lambda q, k, n: _aftersoftmax(q, k, True, _past(len(q), len(k), 0, 1 - n)),
    },
)

EXERCISES = [SCORES, SOFTMAX, CAUSAL, SOFTMAX_BACKWARD, WINDOW]
