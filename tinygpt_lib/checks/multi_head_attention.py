"""Notebook 05: splitting and joining heads, one head's share of the fused product, a cached step, grouped queries."""

import math
from functools import partial

import numpy as np

from tinygpt_lib.functional import attend, future_mask

from .judge import Exercise, strided

_rng = np.random.default_rng(5)
_strided = partial(strided, _rng)


def _random(*shape):
    return _rng.normal(size=shape)


def _split(x, H):
    return x.reshape(*x.shape[:-1], H, -1).swapaxes(-3, -2)


def _split_batch_only(x, H):
    B, T, C = x.shape
    return x.reshape(B, T, H, C // H).transpose(0, 2, 1, 3)


def _in_turn(x, H):
    return np.moveaxis(x.reshape(*x.shape[:-1], -1, H), -1, -3)


SPLIT = Exercise(
    "Split heads",
    _split,
    cases=(
        (_random(2, 5, 12), 3),
        (_random(6, 12), 3),
        (_random(2, 4, 4), 4),
        (_random(3, 4, 6), 1),
        (_random(2, 2, 3, 8), 2),
        (_random(4, 5, 8).transpose(1, 0, 2), 4),
        (_strided(3, 6), 3),
    ),
    mistakes={
        "Right shape, wrong values: reshaping straight to (..., H, T, D) hands whole tokens to a head. "
        "Cut C into H and D first, then let H and T change places.":
            lambda x, H: x.reshape(*x.shape[:-2], H, x.shape[-2], -1),
        "This is (..., T, H, D): the cut is right, but H and T must still change places.":
            lambda x, H: x.reshape(*x.shape[:-1], H, -1),
        "A head owns D neighbouring channels, h*D to (h+1)*D; here it gets every H-th. Reshape to (..., H, D), in this order.":
            _in_turn,
        "It works for (B, T, C) only. Count the axes from the end: "
        "x.shape[:-1] holds all leading ones, swapaxes(-3, -2) leaves them alone.":
            _split_batch_only,
    },
)


def _join(y):
    *batch, H, T, D = y.shape
    return y.swapaxes(-3, -2).reshape(*batch, T, H * D)


def _straight(y):
    *batch, H, T, D = y.shape
    return y.reshape(*batch, T, H * D)


def _join_batch_only(y):
    B, H, T, D = y.shape
    return y.transpose(0, 2, 1, 3).reshape(B, T, H * D)


def _interleaved(y):
    *batch, H, T, D = y.shape
    return np.moveaxis(y, -3, -1).reshape(*batch, T, D * H)


JOIN = Exercise(
    "Join heads",
    _join,
    cases=(
        (_random(2, 3, 5, 4),),
        (_random(3, 6, 4),),
        (_random(2, 4, 4, 4),),
        (_random(1, 1, 3, 2),),
        (_random(2, 2, 2, 3, 5),),
        (_random(2, 5, 3, 4).transpose(0, 2, 1, 3),),
        (_strided(2, 3, 2),),
    ),
    mistakes={
        "Right shape, wrong values: reshaped at once, a token's row is filled from one head's "
        "neighbours in time, later ones among them. First let H and T change places.":
            _straight,
        "Right shape, but each head's D numbers must stay together; here the heads take turns, one number each.": _interleaved,
        "The heads' results stand side by side in C = H*D channels; they aren't added up or averaged.": lambda y: y.sum(axis=-3),
        "Averaging loses what each head found: put the results side by side, in C = H*D channels.": lambda y: y.mean(axis=-3),
        "H and T have changed places, the last step is missing: a reshape that makes one axis of H and D.":
            lambda y: y.swapaxes(-3, -2),
        "It works for (B, H, T, D) only. Count the axes from the end: swapaxes(-3, -2) leaves all leading ones alone.":
            _join_batch_only,
    },
)


def _parts(x, weight, bias, rows):
    return tuple(x @ weight[r].T + bias[r] for r in rows)


def _head_qkv(x, weight, bias, H, h):
    C = x.shape[-1]
    D = C // H
    return _parts(x, weight, bias, [slice(i * C + h * D, i * C + (h + 1) * D) for i in range(3)])


def _by_head_first(x, weight, bias, H, h):
    D = x.shape[-1] // H
    return _parts(x, weight, bias, [slice((3 * h + i) * D, (3 * h + i + 1) * D) for i in range(3)])


def _every_hth(x, weight, bias, H, h):
    C = x.shape[-1]
    return _parts(x, weight, bias, [slice(i * C + h, (i + 1) * C, H) for i in range(3)])


def _fused(B, T, C, H, h, make=_random):
    return make(B, T, C), make(3 * C, C), make(3 * C), H, h


HEAD = Exercise(
    "One head of the fused product",
    _head_qkv,
    cases=(
        _fused(2, 5, 12, 3, 1), _fused(1, 1, 4, 4, 3), _fused(2, 3, 6, 1, 0), _fused(3, 4, 6, 2, 0),
        _fused(2, 3, 8, 2, 1, _strided),
    ),
    mistakes={
        "The weight is (3C, C), a row for each output, as Linear keeps it: take a head's rows, and multiply by their transpose.":
            lambda x, weight, bias, H, h: (x @ weight,) * 3,
        "Right shape, but the bias is missing: a head has its share of it, too, in the same places.":
            lambda x, weight, bias, H, h: _head_qkv(x, weight, 0 * bias, H, h),
        "This takes q, k and v of a head as neighbours. "
        "In the fused matrix the queries of all heads come first, then all keys, then all values.":
            _by_head_first,
        "This takes every H-th row. A head owns D neighbouring ones, h*D to (h+1)*D within its third.": _every_hth,
        "This is head 0, whichever is asked for: the start of the slice must move with h.":
            lambda x, weight, bias, H, h: _head_qkv(x, weight, bias, H, 0),
        "These are all heads' queries, keys and values: a head has D = C/H of the C columns.":
            lambda x, weight, bias, H, h: _head_qkv(x, weight, bias, 1, 0),
    },
)


def _attend_to(q, keys, values, mask=None, scale=1.0):
    return attend(q * (scale / math.sqrt(q.shape[-1])), keys, values, mask)


def _step(q, k, v, past_k, past_v, axis=-2, front=False, **options):
    keys, values = (np.concatenate([new, past] if front else [past, new], axis=axis) for new, past in ((k, past_k), (v, past_v)))
    return _attend_to(q, keys, values, **options), keys, values


def _itself_forgotten(q, k, v, past_k, past_v):
    _, keys, values = _step(q, k, v, past_k, past_v)
    return _attend_to(q, past_k, past_v), keys, values


def _unguarded(q, k, v, past_k, past_v, itself=True):
    _, keys, values = _step(q, k, v, past_k, past_v)
    seen_k, seen_v = (keys, values) if itself else (past_k, past_v)
    weights = np.exp(q @ seen_k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]))
    return weights / weights.sum(axis=-1, keepdims=True) @ seen_v, keys, values


def _first_key_only(q, k, v, past_k, past_v):
    return _step(q, k, v, past_k, past_v, mask=np.where(np.tri(1, past_k.shape[-2] + 1) == 1, 0, -np.inf))


def _new_and_past(H, T, D, *batch, make=_random, scale=1.0):
    new, past = (*batch, H, 1, D), (*batch, H, T, D)
    return scale * make(*new), make(*new), make(*new), make(*past), make(*past)


STEP = Exercise(
    "One cached step",
    _step,
    cases=(
        _new_and_past(3, 5, 4),
        _new_and_past(2, 1, 3),
        _new_and_past(2, 0, 4),
        _new_and_past(3, 2, 4, 2),
        _new_and_past(2, 6, 16, scale=3000),
        _new_and_past(2, 4, 6, make=_strided),
    ),
    mistakes={
        "exp of a large score is infinite, and inf/inf is nan: subtract the largest score first.": _unguarded,
        "The new token may look at itself, too: append its key and value first, then attend.": _itself_forgotten,
        "The new token's own key and value are missing from its choice: append first, then attend. "
        "(And subtract the largest score before exp.)":
            partial(_unguarded, itself=False),
        "The output is right, as attention doesn't mind the order of its keys, but the new key belongs behind the old ones: "
        "position t stays at place t.":
            lambda *a: _step(*a, front=True),
        "The time axis is the last but one: concatenate with axis=-2.": lambda *a: _step(*a, axis=0),
        "The scores are too large: divide by sqrt(D), as ever.": lambda q, *a: _step(q, *a, scale=math.sqrt(q.shape[-1])),
        "The new token stands at the end, so nothing needs masking. This mask lets it see the first key only.": _first_key_only,
        "Return three things: the output, and the keys and values with the new ones appended, for the next step.":
            lambda *a: _step(*a)[0],
    },
)


def _grouped(q, k, v, shared=np.repeat, mask=True):
    times = q.shape[0] // k.shape[0]
    future = future_mask(q.shape[1], k.shape[1], q.dtype) if mask else None
    return _attend_to(q, *(shared(a, times, axis=0) for a in (k, v)), future)


def _tiled(a, times, axis):
    return np.tile(a, (times, 1, 1))


def _heads(H, G, T, D, make=_random):
    return make(H, T, D), make(G, T, D), make(G, T, D)


GROUPED = Exercise(
    "Grouped queries",
    _grouped,
    cases=(_heads(6, 2, 5, 4), _heads(4, 4, 3, 2), _heads(3, 1, 4, 5), _heads(4, 2, 1, 3), _heads(8, 4, 6, 2, _strided)),
    mistakes={
        "Right shape, but the groups are dealt out in turn, as np.tile does. Neighbours share: "
        "with H = 6 and G = 2, heads 0, 1, 2 use keys 0 (np.repeat).":
            lambda q, k, v: _grouped(q, k, v, _tiled),
        "This sees the future: each head is still causal attention.": lambda q, k, v: _grouped(q, k, v, mask=False),
        "All heads use the first keys and values here: each group of H/G query heads has its own.":
            lambda q, k, v: _grouped(q, *(np.repeat(a[:1], len(a), axis=0) for a in (k, v))),
        "The scores are too large: divide by sqrt(D), as ever.": lambda q, k, v: _grouped(q * math.sqrt(q.shape[-1]), k, v),
        "H query heads and G key heads don't broadcast, unless G is 1 or H: "
        "repeat each key head H/G times first, along the first axis.":
            lambda q, k, v: _grouped(q, k, v, lambda a, times, axis: a),
    },
)

EXERCISES = [SPLIT, JOIN, HEAD, STEP, GROUPED]
