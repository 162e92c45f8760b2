"""What the library answers to a wrong argument: one sentence with what was expected and what came."""

from numbers import Integral, Real

import numpy as np


def whole_number(name, value, least=0):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def number(name, value, valid, rule):
    """`valid` tells of a real number whether it follows the `rule` that the error names."""
    if isinstance(value, bool) or not isinstance(value, Real) or not valid(value):
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def below_one(name, value):
    number(name, value, lambda p: 0 <= p < 1, "at least 0 and below 1")


def string(name, value):
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")


def token_ids(name, ids, n):
    """`ids` as an integer array, each in [0, n)."""
    ids = np.asarray(ids)
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {ids.dtype}")
    if ids.size and not (0 <= ids.item(ids.argmin()) and ids.item(ids.argmax()) < n):  # of one id in half the time of min, max
        raise ValueError(f"{name} must lie from 0 to {n - 1}, got {ids.min()} to {ids.max()}: is this another model's tokenizer?")
    return ids.astype(np.int64, copy=False)


def generator(rng):
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator (np.random.default_rng(0)), got {type(rng).__name__}")
    return rng


def seeded(seed):
    """A Generator of `seed`, or of fresh entropy for None."""
    if seed is not None:
        whole_number("seed", seed)
    return np.random.default_rng(seed)
