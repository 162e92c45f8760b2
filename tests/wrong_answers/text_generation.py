"""Notebook 09."""

import numpy as np


def _softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def _one_hot(i, n):
    out = np.zeros(n)
    out[i] = 1.0
    return out


def temperature_divides_by_zero(logits, T):
    shifted = logits - logits.max()
    return _softmax(shifted / T)


def temperature_shares_ties(logits, T):
    if T == 0:
        largest = logits == np.max(logits)
        return largest / np.sum(largest)
    return _softmax((logits - np.max(logits)) / T)


def temperature_last_of_ties(logits, T):
    if T == 0:
        return _one_hot(np.argsort(logits, kind="stable")[-1], len(logits))
    return _softmax((logits - np.max(logits)) / T)


def temperature_overflows(logits, T):
    if T == 0:
        return _one_hot(np.argmax(logits), len(logits))
    return _softmax(logits / T)


def temperature_multiplies(logits, T):
    if T == 0:
        return _one_hot(np.argmax(logits), len(logits))
    return _softmax(logits * T)


def temperature_after_softmax(logits, T):
    if T == 0:
        return _one_hot(np.argmax(logits), len(logits))
    probs = _softmax(logits) / T
    return probs / probs.sum()


def temperature_without_softmax(logits, T):
    if T == 0:
        out = np.full(len(logits), -np.inf)
        out[np.argmax(logits)] = 0.0
        return out
    return logits / T


def _falling_sums(probs):
    return np.cumsum(-np.sort(-probs, axis=1), axis=1)


def size_without_crossing(probs, p):
    return np.count_nonzero(_falling_sums(probs) < p - 1e-7, axis=1)


def size_up_to_p(probs, p):
    return (_falling_sums(probs) <= p).sum(axis=1)


def size_one_too_many(probs, p):
    return (_falling_sums(probs) <= p + 1e-7).sum(axis=1) + 1


def size_without_tolerance(probs, p):
    return (_falling_sums(probs) < p).sum(axis=1) + 1


def size_unsorted(probs, p):
    return (np.cumsum(probs, axis=1) < p - 1e-7).sum(axis=1) + 1


def size_rising(probs, p):
    ordered = np.sort(probs, axis=1)
    return (np.cumsum(ordered, axis=1) < p - 1e-7).sum(axis=1) + 1


def size_of_the_rest(probs, p):
    return probs.shape[1] - size_right(probs, p)


def size_right(probs, p):
    return (_falling_sums(probs) < p - 1e-7).sum(axis=1) + 1


def min_p_absolute(logits, p):
    probs = _softmax(logits)
    return np.where(probs < p, -np.inf, logits)


def min_p_of_logits(logits, p):
    out = logits.copy()
    out[logits < p * logits.max()] = -np.inf
    return out


def min_p_strict(logits, p):
    ratio = np.exp(logits - logits.max())
    return np.where(ratio > p, logits, -np.inf)


def min_p_probabilities(logits, p):
    probs = _softmax(logits)
    probs[probs < p * probs.max()] = 0
    return probs / probs.sum()


def min_p_zeros(logits, p):
    probs = _softmax(logits)
    return logits * (probs >= p * probs.max()) if np.isfinite(logits).all() else np.where(probs >= p * probs.max(), logits, 0)


def min_p_overflow(logits, p):
    probs = np.exp(logits) / sum(np.exp(logits))
    return np.where(probs >= p * probs.max(), logits, -np.inf)


def penalty_divides(logits, ids, r):
    out = logits.astype(float)
    for i in set(ids):
        out[i] /= r
    return out


def penalty_multiplies(logits, ids, r):
    out = logits.astype(float)
    for i in np.unique(np.array(ids, dtype=int)):
        out[i] *= r
    return out


def penalty_exchanged(logits, ids, r):
    out = logits.astype(float)
    for i in set(ids):
        out[i] = out[i] * r if out[i] > 0 else out[i] / r
    return out


def penalty_each_time(logits, ids, r):
    out = logits.astype(float)
    for i in ids:
        if out[i] > 0:
            out[i] = out[i] / r
        else:
            out[i] = out[i] * r
    return out


def penalty_for_all(logits, ids, r):
    return np.where(logits < 0, logits * r, logits / r)


def penalty_subtracts(logits, ids, r):
    out = logits.astype(float)
    out[list(ids)] -= r
    return out


def penalty_in_integers(logits, ids, r):
    out = logits.copy()
    for i in set(ids):
        out[i] = out[i] / r if out[i] > 0 else out[i] * r
    return out


def penalty_in_place(logits, ids, r):
    for i in set(ids):
        logits[i] = logits[i] / r if logits[i] > 0 else logits[i] * r
    return logits


def penalty_needs_ids(logits, ids, r):
    ids = np.array(ids)
    out = logits.astype(float)
    out[ids] = np.where(out[ids] > 0, out[ids] / r, out[ids] * r)
    return out


def _by_rank(logits, p, rank):
    probs = _softmax(logits)
    order = np.argsort(rank, kind="stable")
    n = int((np.cumsum(probs[order]) < p).sum()) + 1
    out = np.full(len(logits), -np.inf)
    out[order[:n]] = logits[order[:n]]
    return out


def _surprise_and_entropy(logits):
    probs = _softmax(logits)
    seen = probs > 0
    surprise = np.full(len(probs), np.inf)
    surprise[seen] = -np.log(probs[seen])
    return surprise, float(np.sum(probs[seen] * surprise[seen])), seen


def typical_signed(logits, p):
    surprise, entropy, _ = _surprise_and_entropy(logits)
    return _by_rank(logits, p, surprise - entropy)


def typical_plain_mean(logits, p):
    surprise, _, seen = _surprise_and_entropy(logits)
    return _by_rank(logits, p, abs(surprise - surprise[seen].mean()))


def typical_two_units(logits, p):
    surprise, entropy, _ = _surprise_and_entropy(logits)
    return _by_rank(logits, p, abs(surprise - entropy / np.log(2)))


def typical_two_other_units(logits, p):
    surprise, entropy, _ = _surprise_and_entropy(logits)
    return _by_rank(logits, p, abs(surprise / np.log(2) - entropy))


def typical_furthest(logits, p):
    surprise, entropy, seen = _surprise_and_entropy(logits)
    return _by_rank(logits, p, np.where(seen, -abs(surprise - entropy), np.inf))


def typical_nan(logits, p):
    probs = _softmax(logits)
    surprise = -np.log(probs)
    return _by_rank(logits, p, np.abs(surprise - np.sum(probs * surprise)))


def typical_without_crossing(logits, p):
    surprise, entropy, _ = _surprise_and_entropy(logits)
    probs, order = _softmax(logits), np.argsort(abs(surprise - entropy), kind="stable")
    inside = order[np.cumsum(probs[order]) <= p]
    out = np.full(len(logits), -np.inf)
    out[inside] = logits[inside]
    return out


def typical_probabilities(logits, p):
    surprise, entropy, _ = _surprise_and_entropy(logits)
    return _softmax(_by_rank(logits, p, abs(surprise - entropy)))


WRONG = {
    "9.1": [
        (temperature_divides_by_zero, "divides by zero"),
        (temperature_shares_ties, "share it"),
        (temperature_last_of_ties, "it's the highest"),
        (temperature_overflows, "not after"),
        (temperature_multiplies, "cold and hot are exchanged"),
        (temperature_after_softmax, "before the softmax"),
        (temperature_without_softmax, "a softmax is missing"),
    ],
    "9.2": [
        (size_without_crossing, "the token that crosses p is missing"),
        (size_up_to_p, "up to and including p"),
        (size_one_too_many, "that's enough"),
        (size_without_tolerance, "by the last bit"),
        (size_unsorted, "order of their ids"),
        (size_rising, "np.sort rises"),
        (size_of_the_rest, "counts what is cut"),
    ],
    "9.3": [
        (min_p_absolute, "p times the largest probability"),
        (min_p_of_logits, "not logits"),
        (min_p_strict, "the comparison is >="),
        (min_p_probabilities, "These are probabilities"),
        (min_p_zeros, "isn't a probability of 0"),
        (min_p_overflow, "subtract the largest logit before exp"),
    ],
    "9.4": [
        (penalty_divides, "Dividing a negative logit"),
        (penalty_multiplies, "Multiplying a positive logit"),
        (penalty_exchanged, "The two cases are exchanged"),
        (penalty_each_time, "penalised three times"),
        (penalty_for_all, "All tokens were penalised"),
        (penalty_subtracts, "This subtracts r"),
        (penalty_in_integers, "holds whole numbers"),
        (penalty_in_place, "changes its arguments"),
        (penalty_needs_ids, "With no ids it fails"),
    ],
    "9.5": [
        (typical_signed, "ranks as top-p does"),
        (typical_plain_mean, "plain mean"),
        (typical_two_units, "in bits (log2) and the other in nats"),
        (typical_two_other_units, "in nats"),
        (typical_furthest, "furthest from the entropy"),
        (typical_nan, "0 times infinity"),
        (typical_without_crossing, "the end isn't"),
        (typical_probabilities, "These are probabilities"),
    ],
}
