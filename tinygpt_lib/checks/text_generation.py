"""Notebook 09: temperature with zero, the nucleus and its crossing token, min-p, a repetition penalty, typical sampling."""

import numpy as np

from tinygpt_lib import sampling
from tinygpt_lib.sampling import softmax

from .judge import Exercise

_rng = np.random.default_rng(9)
_P = np.array([0.1, 0.2, 0.3, 0.4])
_HALVES = np.array([0.5, 0.25, 0.125, 0.125])  # surprises of 1, 2, 3 and 3 bits


def _logits(V, spread=3.0):
    return spread * _rng.normal(size=V)


def _strided(V):
    return _rng.normal(size=2 * V)[::2]


def _at(logits, T):
    return softmax(sampling.temperature(logits, T))


def _unless_zero(probabilities):
    """Right at T = 0, `probabilities` elsewhere."""
    return lambda logits, T: probabilities(logits, T) if T else _at(logits, 0)


def _naive_softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def _shared(logits):
    return (logits == logits.max()) / (logits == logits.max()).sum()


TEMPERATURE = Exercise(
    "Any temperature, zero included",
    _at,
    cases=(
        (np.log(_P), 0.5),
        (np.log(_P), 2),
        (np.log(_P), 0),
        (np.array([1.0, 7.0, 7.0, 2.0]), 0),
        (np.array([-3.0, 1e6, 999_999.0]), 1e-305),
        (np.array([-1.0, 1.0, 0.5]), 1e-4),
        (np.array([-np.inf, 2.0, 1.0, -np.inf]), 1.5),
        (np.array([-np.inf, 2.0, 1.0]), 0),
        (np.array([2, 9, 9]), 0),
        (_strided(6), 0.7),
    ),
    mistakes={
        "At T = 0 this divides by zero, and infinity minus infinity is nan: treat 0 on its own, before dividing.": lambda x, T: (
            _at(x, T) if T else np.full(len(x), np.nan)
        ),
        "At T = 0 and with several largest logits, all the mass belongs to the one with the lowest id: here they share it.":
            lambda x, T: _at(x, T) if T else _shared(x),
        "At T = 0 and with several largest logits, the lowest id wins: here it's the highest.":
            lambda x, T: _at(x, T) if T else _at(x[::-1], 0)[::-1],
        "A tiny T overflows: logits / T is infinite, and then nan. Subtract the largest logit before dividing, not after.":
            _unless_zero(lambda x, T: _naive_softmax(x / T)),
        "At a tiny T all powers of the probabilities are 0, and 0/0 is nan: divide the logits, less their largest, by T instead.":
            _unless_zero(lambda x, T: softmax(x) ** (1 / T) / (softmax(x) ** (1 / T)).sum()),
        "This multiplies by T: cold and hot are exchanged. Divide.": _unless_zero(lambda x, T: softmax(x * T)),
        "Temperature divides the logits, before the softmax. Dividing the probabilities and scaling them again changes nothing.":
            _unless_zero(lambda x, T: softmax(x)),
        "The power 1/T belongs to probabilities, not to logits: divide the logits by T, or raise softmax(logits) to 1/T.":
            _unless_zero(lambda x, T: softmax(np.power(x, 1 / T))),
        "These are logits still: a softmax is missing.": lambda x, T: x / T if T else sampling.temperature(x, 0),
    },
)


def _size(probs, p):
    return np.isfinite(sampling.top_p(np.log(probs), p)).sum(axis=-1)


def _sums(probs):
    return np.sort(probs, axis=-1)[:, ::-1].cumsum(axis=-1)


NUCLEUS = Exercise(
    "The size of the nucleus",
    _size,
    cases=(
        (_P[None], 0.8),
        (np.stack([_P, _P[::-1], _HALVES, [0.97, 0.01, 0.01, 0.01]]), 0.5),
        (np.stack([_P, _HALVES]), 0.0),
        (_P[None], 0.9),  # .4 + .3 + .2 falls short of it by the last bit
        (np.full((1, 10), 0.1), 0.95),
        (softmax(_logits((5, 50))), 0.9),
        (softmax(_logits((3, 20), 0.1)), 0.999),
        (np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]), 0.75),
        (np.asfortranarray(softmax(_logits((4, 7)))), 0.6),
    ),
    mistakes={
        "One too few: the sums that fall short of p are counted, and the token that crosses p is missing.":
            lambda q, p: (_sums(q) < p - 1e-7).sum(axis=-1),
        "This counts the sums up to and including p, and no more: "
        "a token that crosses p is missing, and at p = 0 nothing is left.":
            lambda q, p: ((_sums(q) <= p + 1e-7).sum(axis=-1)),
        "0.4 + 0.3 + 0.2 falls short of 0.9 by the last bit. Let a sum that misses p by less than 1e-7 count as reaching it.":
            lambda q, p: 1 + (_sums(q) < p).sum(axis=-1),
        "Where a sum meets p exactly, that's enough: here one more is kept. Count the sums that fall short, and then one.":
            lambda q, p: (1 + (_sums(q) <= p + 1e-7).sum(axis=-1)),
        "The sums must start at the likeliest token: here the probabilities are added in the order of their ids. Sort first.":
            lambda q, p: (1 + (q.cumsum(axis=-1) < p - 1e-7).sum(axis=-1)),
        "np.sort rises, so the least likely come first. Turn each row round: [..., ::-1].":
            lambda q, p: 1 + (np.sort(q).cumsum(axis=-1) < p - 1e-7).sum(axis=-1),
        "This counts what is cut. The nucleus is the other part.": lambda q, p: q.shape[-1] - _size(q, p),
        "Each row has a nucleus of its own: sort, add and count along the last axis.":
            lambda q, p: np.asarray(1 + (np.sort(q.ravel())[::-1].cumsum() < p - 1e-7).sum()),
    },
)


def _kept(logits, mask):
    return np.where(mask, logits, -np.inf)


MIN_P = Exercise(
    "Min-p",
    sampling.min_p,
    cases=(
        (np.log(_P), 0.51),
        (np.log(_P), 0.2),
        (np.log(_P), 0.0),
        (np.array([7.0, 7.0, 6.0]), 1.0),
        (np.array([-np.inf, 2.0, 1.9, -3.0]), 0.1),
        (np.array([-800.0, -801.0, -860.0]), 0.3),
        (_logits(40, 0.2), 0.7),
        (_logits(200), 0.05),
        (_strided(30), 0.3),
    ),
    mistakes={
        "exp(-800) is 0, and 0 divided by 0 nan: "
        "subtract the largest logit before exp, or compare logits - logits.max() with log(p).":
            lambda x, p: _kept(x, np.exp(x) / np.exp(x).sum() >= p * (np.exp(x) / np.exp(x).sum()).max()),
        "Compare probabilities, not logits: p times the largest logit means nothing, as a constant may be added to all logits.":
            lambda x, p: _kept(x, x >= p * x.max()),
        "At least p times as likely: the comparison is >=. With p = 1 even the likeliest token is cut here.": lambda x, p: _kept(
            x, softmax(x) > p * softmax(x).max() * (1 + 1e-9)
        ),
        "The threshold isn't p itself but p times the largest probability: where the model is unsure, no token reaches p.":
            lambda x, p: _kept(x, softmax(x) >= p),
        "These are probabilities: the filter returns logits, those that stay as they were and -inf for the others.":
            lambda x, p: softmax(sampling.min_p(x, p)),
        "A logit of 0 isn't a probability of 0: tokens that are cut get -inf.":
            lambda x, p: np.where(np.isfinite(sampling.min_p(x, p)), x, 0.0),
        "This cuts the likely tokens and keeps the others: the comparison is the wrong way round.":
            lambda x, p: _kept(x, softmax(x) <= p * softmax(x).max()),
    },
)


def _with(logits, ids, change):
    """A copy in which each of ids, in turn, was changed."""
    out = np.array(logits, dtype=np.float64)
    for i in ids:
        out[i] = change(out[i])
    return out


def _penalised(logits, ids, r):
    return sampling.repetition_penalty(logits, ids, r)


PENALTY = Exercise(
    "A repetition penalty",
    _penalised,
    cases=(
        (np.array([2.0, -2.0, 1.0, 0.0]), [0, 1, 3], 2.0),
        (np.array([2.0, -2.0, 1.0, 0.0]), [0, 1, 0, 1, 0], 2.0),
        (np.array([2.0, -2.0, 1.0]), [], 1.5),
        (np.array([-np.inf, 3.0, -1.0]), [0, 2], 1.2),
        (np.array([4, -4, 1]), [0, 1], 1.5),
        (_logits(50), _rng.integers(0, 50, 80), 1.3),
        (_strided(9), np.array([8, 2, 2]), 1.1),
        (_logits(5), [1, 2], 1.0),
    ),
    mistakes={
        "Dividing a negative logit brings it nearer to 0, so the token becomes likelier: multiply where it's negative.":
            lambda x, ids, r: _with(x, set(map(int, ids)), lambda v: v / r),
        "Multiplying a positive logit makes the token likelier: divide where it's positive.":
            lambda x, ids, r: _with(x, set(map(int, ids)), lambda v: v * r),
        "The two cases are exchanged: divide what is positive, multiply what is negative. Here said tokens become likelier.":
            lambda x, ids, r: _penalised(x, ids, 1 / r),
        "A token that was said three times is penalised three times here. Once is meant: "
        "go over set(ids), or assign by out[ids] = ...":
            lambda x, ids, r: _with(x, np.asarray(ids, dtype=int), lambda v: v / r if v > 0 else v * r),
        "All tokens were penalised: only those in ids are meant.": lambda x, ids, r: np.where(x > 0, x / r, x * r),
        "This subtracts r, which is another penalty (for presence): divide or multiply.":
            lambda x, ids, r: _with(x, set(map(int, ids)), lambda v: v - r),
        "Your copy holds whole numbers, so the new values are cut off: make it one of floats.": lambda x, ids, r: (
            _penalised(x, ids, r) if np.asarray(x).dtype.kind == "f" else _penalised(x, ids, r).astype(np.int64)
        ),
        "With no ids it fails: an empty list becomes an array of floats, which can't be an index. "
        "Make it np.asarray(ids, dtype=int).":
            lambda x, ids, r: (_penalised(x, ids, r) if len(ids) else np.zeros(1)[np.asarray(ids)]),
    },
)


def _nearest(logits, p, rank):
    """Keep tokens by rising rank until their mass reaches p, the crossing one included."""
    probs = softmax(logits)
    order = np.argsort(np.where(probs > 0, rank, np.inf), kind="stable")
    short = probs[order].cumsum()[:-1] < p - 1e-7
    mask = np.zeros(len(probs), dtype=bool)
    mask[order[: 1 + short.sum()]] = True
    return _kept(logits, mask)


def _distance(logits, entropy=lambda probs, surprise: (probs * surprise).sum()):
    probs = softmax(logits)
    surprise = -np.log(np.where(probs > 0, probs, 1))
    return np.abs(surprise - entropy(probs, surprise))


def _distance_with_nan(logits):
    probs = softmax(logits)
    return np.abs(-np.log(probs) - (probs * -np.log(probs)).sum())


def _without_crossing(logits, p):
    probs, order = softmax(logits), np.argsort(np.where(np.isfinite(logits), _distance(logits), np.inf), kind="stable")
    mask = np.zeros(len(probs), dtype=bool)
    mask[order[probs[order].cumsum() <= p]] = True
    return _kept(logits, mask)


TYPICAL = Exercise(
    "Typical sampling",
    sampling.typical_p,
    cases=(
        (np.log(_HALVES), 0.2),
        (np.log(_HALVES), 0.6),
        (np.log(_HALVES), 0.8),
        (np.array([-np.inf, 2.0, 1.5, -np.inf, 0.0]), 0.5),
        (_logits(60, 2.0), 0.3),
        (_logits(60, 1.0), 0.7),
        (_logits(300), 0.9),
        (-1.5 * np.log(_rng.permutation(200) + 1.0), 0.1),
        (_strided(25), 0.5),
    ),
    mistakes={
        "A token of probability 0 spoils the entropy: 0 times infinity is nan. Leave such tokens out of the sum.":
            lambda x, p: _nearest(x, p, _distance_with_nan(x)),
        "This ranks as top-p does, the least surprising tokens first. "
        "Rank by the distance from the entropy, abs(surprise - entropy).":
            sampling.top_p,
        "The tokens furthest from the entropy come first here: the smallest distance should.":
            lambda x, p: _nearest(x, p, -_distance(x)),
        "The entropy is the average surprise weighted by the probabilities, sum(p * surprise), not its plain mean.":
            lambda x, p: _nearest(x, p, _distance(x, entropy=lambda q, s: s[q > 0].mean())),
        "Surprise and entropy must have the same unit: here one is in bits (log2) and the other in nats (log).":
            lambda x, p: _nearest(x, p, _distance(x, entropy=lambda q, s: (q * s).sum() / np.log(2))),
        "Surprise and entropy must have the same unit: one is in nats (log) here and the other in bits (log2).":
            lambda x, p: _nearest(x, p, _distance(x, entropy=lambda q, s: (q * s).sum() * np.log(2))),
        "The ranking is right, the end isn't: the token whose probability crosses p is kept, too.": _without_crossing,
        "These are probabilities: the filter returns logits, those that stay as they were and -inf for the others.":
            lambda x, p: softmax(sampling.typical_p(x, p)),
    },
)

EXERCISES = [TEMPERATURE, NUCLEUS, MIN_P, PENALTY, TYPICAL]
