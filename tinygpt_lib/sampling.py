"""From logits to a token: pure functions on arrays (V,) or (B, V), in float64, their input left as it is.

A filter returns logits in which the tokens that it cuts are -inf. Their order is fixed: repetition
penalty, temperature, top-k, top-p, min-p, typical-p; what is left is renormalised and drawn from.
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from . import validate

TOLERANCE = 1e-7  # so that a mass of 0.7 isn't missed because .4 + .3 was rounded down


@dataclass(frozen=True)
class SamplingSettings:
    """How to choose the next token; the defaults leave the model's distribution as it is."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        for field in fields(self):
            _check(field.name, getattr(self, field.name))


# ---- the filters


def temperature(logits, value):
    """Logits divided by `value`: below 1 the likely become likelier; 0 is greedy, all mass on the largest."""
    return _apply("temperature", logits, value)


def top_k(logits, k):
    """Keep the k largest logits; of equal ones those with the lower ids. None or 0 keeps all."""
    return _apply("top_k", logits, k)


def top_p(logits, p):
    """Keep the fewest most likely tokens whose mass reaches p (Holtzman et al., 2020, arXiv 1904.09751).

    The token that crosses p is kept, and at least one always is. 1 keeps all.
    """
    return _apply("top_p", logits, p)


def min_p(logits, p):
    """Keep tokens at least p times as likely as the likeliest (Nguyen et al., 2024, arXiv 2407.01082). 0 keeps all."""
    return _apply("min_p", logits, p)


def typical_p(logits, p):
    """Keep the tokens whose surprise is nearest to the entropy until their mass reaches p. 1 keeps all.

    Meister et al., 2023 (arXiv 2202.00666).
    """
    return _apply("typical_p", logits, p)


def repetition_penalty(logits, seen, penalty):
    """Make tokens of `seen` less likely: positive logits divided by penalty, negative multiplied, each token once.

    seen: ids (T,) or, for logits (B, V), (B, T). Keskar et al., 2019 (arXiv 1909.05858), section 4.1.
    """
    _check("repetition_penalty", penalty)
    return _penalised(_logits(logits), seen, penalty)


def _apply(name, logits, value):
    _check(name, value)
    x = _logits(logits)
    return _after(x, name, value) if _is_on(name, value) else x.copy()


def _after(x, name, value):
    """Logits (V,) or (B, V) after one setting that is on."""
    rows = np.atleast_2d(x)
    if name == "temperature":
        return _scaled(rows, value).reshape(x.shape)
    kept = _largest(rows, value) if name == "top_k" else _BY_PROBABILITY[name](softmax(rows), value)
    return np.where(kept.reshape(x.shape), x, -np.inf)


def _scaled(x, value):
    if value == 0:
        return np.where(np.arange(x.shape[-1]) == x.argmax(axis=-1)[:, None], 0.0, -np.inf)
    with np.errstate(over="ignore"):
        y = x / value
        if np.isfinite(y.max(axis=-1)).all():
            return y
        return (x - x.max(axis=-1, keepdims=True)) / value  # the same distribution, and 0 can't overflow


def _largest(x, k):
    """True for the min(k, V) largest of each row; of equal ones those with the lower ids."""
    k = min(int(k), x.shape[-1])
    return _first(x, k, np.partition(x, -k, axis=-1)[:, -k, None], k * len(x))


def _top_places(x, k):
    """(B, min(k, V)) rising places in x.reshape(-1) of the numbers that `_largest` keeps."""
    if len(x) == 1 and x.size >= 256 * k:
        # The k-th largest of the groups' largest numbers is at most the k-th largest number, and few numbers reach it.
        groups = x[0, : x.size // 32 * 32].reshape(32, -1).max(axis=0)
        some = (x[0] >= np.partition(groups, -k)[-k]).nonzero()[0]
        return some[_largest(x[:, some], k)[0]][None]
    return _largest(x, k).reshape(-1).nonzero()[0].reshape(len(x), -1)


def _first(x, k, kth, total):
    """True for the k largest numbers of each row, `total` in all, given the k-th; of equal ones those with the lower ids."""
    largest = x >= kth
    if np.count_nonzero(largest) > total:
        above = x > kth
        equal = largest & ~above
        largest = above | equal & (equal.cumsum(axis=-1) <= k - above.sum(axis=-1, keepdims=True))
    return largest


def _nucleus(probs, p):
    V = probs.shape[-1]
    # Of a large vocabulary only some need sorting: tokens below (1 - p) / V hold less than 1 - p together.
    some = probs if V <= 256 else probs[:, (probs >= 0.5 * (1 - p) / V).any(axis=0)]
    falling = np.sort(some, axis=-1)[:, ::-1]
    k = _needed(falling, p)
    return _first(probs, k, falling[np.arange(len(k))[:, None], k - 1], k.sum())


def _near_the_likeliest(probs, p):
    return probs >= p * probs.max(axis=-1, keepdims=True) * (1 - TOLERANCE)


def _typical(probs, p):
    surprise = -np.log(np.maximum(probs, np.finfo(np.float64).tiny))
    distance = np.abs(surprise - (probs * surprise).sum(axis=-1, keepdims=True))
    typical = np.where(probs > 0, -distance, -np.inf)
    rows, order = np.arange(len(probs))[:, None], np.argsort(-typical, axis=-1, kind="stable")
    k = _needed(probs[rows, order], p)
    return _first(typical, k, typical[rows, order[rows, k - 1]], k.sum())


def _needed(probs, mass):
    """(B, 1): how many of each row's probabilities, from its first, it takes to reach `mass`."""
    return 1 + np.add.reduce(probs.cumsum(axis=-1)[:, :-1] < mass - TOLERANCE, axis=-1, keepdims=True)


_BY_PROBABILITY = {"top_p": _nucleus, "min_p": _near_the_likeliest, "typical_p": _typical}


def _penalised(x, seen, penalty):
    seen = validate.token_ids("seen", seen, x.shape[-1])
    if not seen.size:
        return x.copy()
    if seen.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"seen must be (T,) for logits (V,) and (B, T) for logits (B, V), got {seen.shape} for {x.shape}")
    marked = np.zeros(x.shape, dtype=bool)
    np.put_along_axis(marked, seen, True, axis=-1)
    return np.where(marked, np.where(x > 0, x / penalty, x * penalty), x)


# ---- probabilities and the draw


def softmax(logits, temperature=1):
    """Probabilities of logits / temperature, in float64; -inf gives exactly 0."""
    e = _exponentials(np.asarray(logits), temperature)
    return e / e.sum(axis=-1, keepdims=True)


def _exponentials(x, temperature):
    """softmax(x / temperature) before it's divided by its sums."""
    with np.errstate(over="ignore"):  # what overflows is -inf, and its exp rightly 0
        return np.exp(np.subtract(x, np.maximum.reduce(x, axis=-1, keepdims=True), dtype=np.float64) / temperature)


def draw(probs, rng):
    """A token id for each row of probs, never one of probability 0, by one uniform number a row.

    It is the first whose cumulative probability exceeds the number, scaled by the row's total: so
    the same numbers give two settings the same luck. An int for (V,), an array (B,) for (B, V).
    """
    if not hasattr(rng, "random"):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    probs = np.asarray(probs, dtype=np.float64)
    totals = np.atleast_1d(probs.sum(axis=-1))
    if probs.ndim not in (1, 2) or not (probs >= 0).all() or not all(0 < total < math.inf for total in totals):
        raise ValueError("draw needs probabilities (V,) or (B, V), finite, not negative, and not all 0 in a row")
    return _invert(probs, rng.random(len(probs))[:, None]) if probs.ndim == 2 else int(_invert(probs, rng.random()))


def _invert(probs, u):
    total = probs.cumsum(axis=-1)
    last = total[..., -1:]
    # Where the product was rounded up to last, the number before it.
    return np.add.reduce(total <= np.minimum(u * last, np.nextafter(last, 0)), axis=-1)


# ---- all of it


def stages(logits, settings, seen=()):
    """Yield (name, logits) after each setting that is on, in their order. seen: ids of the text so far."""
    x = _logits(logits)
    if settings.repetition_penalty != 1:
        x = _penalised(x, seen, settings.repetition_penalty)
        yield "repetition_penalty", x
    for name in ("temperature", "top_k", *_BY_PROBABILITY):
        value = getattr(settings, name)
        if _is_on(name, value):
            x = _after(x, name, value)
            yield name, x


_OFF = {field.name: field.default or 0 for field in fields(SamplingSettings)}


def _is_on(name, value):
    return (value or 0) != _OFF[name]


def sample(logits, settings, rng, seen=()):
    """The next token's id, drawn under `settings`: an int for logits (V,), an array (B,) for (B, V).

    The same token that `draw(trace(...).final, rng)` gives, without looking at tokens that are cut.
    """
    x = _checked(logits)
    u = rng.random() if x.ndim == 1 else rng.random(len(x))[:, None]
    if settings.repetition_penalty != 1:
        x = _penalised(x.astype(np.float64), seen, settings.repetition_penalty)
    if settings.temperature == 0:
        return int(x.argmax()) if x.ndim == 1 else x.argmax(axis=-1)  # which no filter cuts
    rows, places = x.reshape(-1, x.shape[-1]), None
    if settings.top_k:
        # Top-k first: what it cuts is never touched again. Dividing float32 numbers in float64 leaves their order.
        ranked = rows if x.itemsize < 8 else _scaled(rows, settings.temperature)
        places = _top_places(ranked, int(settings.top_k))
        rows = rows.reshape(-1)[places]
    probs = _exponentials(rows, settings.temperature)  # to be divided by their sums, where a filter asks for that
    for name, keep in _BY_PROBABILITY.items():
        value = getattr(settings, name)
        if _is_on(name, value):
            probs /= np.add.reduce(probs, axis=-1, keepdims=True)
            probs *= keep(probs, value)
    tokens = _invert(probs, u)
    tokens = tokens if places is None else places[np.arange(len(rows)), tokens] % x.shape[-1]
    return int(tokens[0]) if x.ndim == 1 else tokens


@dataclass(frozen=True, eq=False)
class Trace:
    """What each setting did to one distribution. Probabilities have the logits' shape, (V,) or (B, V)."""

    logits: np.ndarray
    settings: SamplingSettings
    seen: np.ndarray | tuple = ()

    @cached_property
    def _stages(self):
        return dict(stages(self.logits, self.settings, self.seen))

    @cached_property
    def raw(self):
        """The model's own probabilities."""
        return softmax(_logits(self.logits))

    @cached_property
    def scaled(self):
        """Probabilities after repetition penalty and temperature, before any filter."""
        last = [x for name, x in self._stages.items() if name in ("repetition_penalty", "temperature")]
        return softmax(last[-1]) if last else self.raw

    @cached_property
    def kept(self):
        """For each filter that is on, in order: True for the tokens that are left after it."""
        return {name: np.isfinite(x) for name, x in self._stages.items() if name not in ("repetition_penalty", "temperature")}

    @cached_property
    def final(self):
        """The probabilities that are drawn from."""
        return softmax(list(self._stages.values())[-1]) if self._stages else self.raw

    @cached_property
    def order(self):
        """Ids from the likeliest to the least likely by the model's own probabilities, equal ones by id."""
        return np.argsort(-self.raw, axis=-1, kind="stable")

    @cached_property
    def entropy(self):
        """Of the final distribution, in bits."""
        p = self.final
        return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1) + 0.0

    @property
    def effective_choices(self):
        """2 ** entropy: as many equally likely tokens would be as uncertain."""
        return 2**self.entropy

    @cached_property
    def kept_mass(self):
        """How much of the probability before the filters belongs to the tokens that are left."""
        return np.where(self.final > 0, self.scaled, 0).sum(axis=-1)


def trace(logits, settings, seen=()):
    """A Trace of `settings` on logits (V,) or (B, V); each stage is computed when it is asked for."""
    if not isinstance(settings, SamplingSettings):
        raise TypeError(f"trace needs SamplingSettings, got {type(settings).__name__}")
    return Trace(_logits(logits).copy(), settings, np.array(seen))


# ---- what is refused


def _logits(logits):
    return _checked(logits).astype(np.float64, copy=False)


def _checked(logits):
    x = np.asarray(logits)
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    if x.ndim not in (1, 2) or not x.size:
        raise ValueError(f"logits must have shape (vocab,) or (batch, vocab), got {x.shape}")
    if not np.isfinite(np.maximum.reduce(x, axis=-1)).all():  # NaN if any is
        raise ValueError("logits must not hold NaN or +inf, and not be all -inf")
    return x


_RULES = {
    "temperature": (lambda t: 0 <= t < math.inf, "a number of at least 0"),
    "top_p": (lambda p: 0 <= p <= 1, "between 0 and 1"),
    "min_p": (lambda p: 0 <= p <= 1, "between 0 and 1"),
    "typical_p": (lambda p: 0 < p <= 1, "above 0 and at most 1"),
    "repetition_penalty": (lambda r: 1e-100 <= r <= 1e100, "a positive number between 1e-100 and 1e100"),
}


def _check(name, value):
    if name != "top_k":
        validate.number(name, value, *_RULES[name])
    elif value is not None:
        validate.whole_number(name, value)
