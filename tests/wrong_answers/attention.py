"""Notebook 04."""

import numpy as np


def scores_unscaled(q, k):
    return np.einsum("...id,...jd->...ij", q, k)


def scores_over_width(q, k):
    return np.einsum("...id,...jd->...ij", q, k) / q.shape[-1]


def scores_over_keys(q, k):
    return np.matmul(q, np.moveaxis(k, -1, -2)) / np.sqrt(k.shape[-2])


def scores_turned(q, k):
    return np.matmul(k, np.moveaxis(q, -1, -2)) / np.sqrt(k.shape[-1])


def scores_with_T(q, k):
    return (q @ k.T) / np.sqrt(q.shape[-1])


def softmax_unsafe(scores):
    exps = np.exp(scores)
    return exps / np.sum(exps, axis=-1)[..., None]


def softmax_down(scores):
    e = np.exp(scores - scores.max(axis=0))
    return e / e.sum(axis=0)


def softmax_all(scores):
    e = np.exp(scores - np.max(scores))
    return e / np.sum(e)


def softmax_largest_of_all(scores):
    e = np.exp(scores - np.max(scores))
    return e / np.sum(e, axis=-1, keepdims=True)


def _softmax(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def _causal(q, k, diagonal, scale=True):
    scores = q @ k.T / (np.sqrt(q.shape[1]) if scale else 1)
    future = np.triu(np.ones(scores.shape, dtype=bool), diagonal)
    scores[future] = -np.inf
    return _softmax(scores)


def causal_too_late(q, k):
    weights = _softmax(q @ k.T / np.sqrt(q.shape[1]))
    return np.tril(weights, len(k) - len(q))


def causal_scaled_up(q, k):
    weights = causal_too_late(q, k)
    return weights / weights.sum(axis=1, keepdims=True)


def causal_without_self(q, k):
    return _causal(q, k, len(k) - len(q))


def causal_one_ahead(q, k):
    return _causal(q, k, len(k) - len(q) + 2)


def causal_square_only(q, k):
    return _causal(q, k, 1)


def causal_unscaled(q, k):
    return _causal(q, k, len(k) - len(q) + 1, scale=False)


def causal_zero_scores(q, k):
    return _softmax(np.tril(q @ k.T / np.sqrt(q.shape[1]), len(k) - len(q)))


def causal_upside_down(q, k):
    scores = q @ k.T / np.sqrt(q.shape[1])
    scores[np.tril(np.ones(scores.shape), len(k) - len(q) - 1) == 1] = -np.inf
    return _softmax(scores)


def backward_diagonal(w, dw):
    return dw * (w - w**2)


def backward_no_mean(w, dw):
    return dw * w


def backward_plain_sum(w, dw):
    return w * (dw - np.sum(dw, -1, keepdims=True))


def backward_all_rows(w, dw):
    return w * (dw - np.sum(dw * w))


def backward_brackets(w, dw):
    return w * dw - np.sum(w * dw, axis=-1, keepdims=True)


def _window(q, k, low, high):
    back = np.arange(len(q))[:, None] - np.arange(len(k))
    scores = q @ k.T / np.sqrt(q.shape[1])
    return _softmax(np.where((back >= low) & (back <= high), scores, -np.inf))


def window_too_long(q, k, n):
    return _window(q, k, 0, n)


def window_forgotten(q, k, n):
    return _window(q, k, 0, len(q))


def window_both_sides(q, k, n):
    return _window(q, k, 1 - n, n - 1)


def window_too_late(q, k, n):
    back = np.arange(len(q))[:, None] - np.arange(len(k))
    return window_forgotten(q, k, n) * (back < n)


def window_scaled_up(q, k, n):
    weights = window_too_late(q, k, n)
    return weights / weights.sum(axis=1, keepdims=True)


WRONG = {
    "4.1": [
        (scores_unscaled, "every score is too large"),
        (scores_over_width, "square root of the width"),
        (scores_over_keys, "not from the number of keys"),
        (scores_turned, "the other way round"),
        (scores_with_T, "turns all axes round"),
    ],
    "4.2": [
        (softmax_unsafe, "inf/inf is nan"),
        (softmax_down, "runs down the columns"),
        (softmax_all, "one sum is shared by all rows"),
        (softmax_largest_of_all, "not the largest of all"),
    ],
    "4.3": [
        (causal_too_late, "masks after the softmax"),
        (causal_scaled_up, "scaled up again"),
        (causal_without_self, "removes the diagonal"),
        (causal_one_ahead, "one word into the future"),
        (causal_square_only, "With fewer"),
        (causal_unscaled, "the scale is missing"),
        (causal_zero_scores, "exp(0) is 1"),
        (causal_upside_down, "the wrong way round"),
    ],
    "4.4": [
        (backward_diagonal, "its own score only"),
        (backward_no_mean, "The other weights are missing"),
        (backward_plain_sum, "not sum(dw)"),
        (backward_all_rows, "Sum within each row"),
        (backward_brackets, "Check the brackets"),
    ],
    "4.5": [
        (window_too_long, "One word too many"),
        (window_forgotten, "plain causal attention"),
        (window_both_sides, "sees the future"),
        (window_too_late, "mask the scores, not the weights"),
        (window_scaled_up, "scaled up again"),
    ],
}
