"""Two settings under the same luck: where their texts part, and in numbers what each does to many texts.

What takes long is a generator, which yields what is known so far and last the result: one can watch it and stop it.
"""

from collections import deque
from dataclasses import dataclass, replace
from itertools import product, zip_longest
from typing import NamedTuple

import numpy as np

from tinygpt_lib import validate
from tinygpt_lib.generation import stream
from tinygpt_lib.sampling import SamplingSettings, softmax

MEASURES = {
    "distinct-1": "different tokens, as a share of all",
    "distinct-2": "different pairs of neighbours, as a share of all",
    "distinct-3": "different runs of three tokens, as a share of all",
    "repetition": "runs of four tokens that came before, as a share of all",
    "surprise": "bits per token, by the model's own probabilities",
    "length": "tokens before end-of-text, if it came",
}
TEMPERATURES = (0.2, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0)
TOP_PS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


# ---- one text under each of two settings


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two continuations of one prompt, each a list of `generation.Step`, and the uniform numbers that both were drawn with."""

    a: list
    b: list
    luck: np.ndarray

    @property
    def parting(self):
        """The first position that holds different tokens in the two, or None."""
        return next((n for n, (a, b) in enumerate(zip(self.a, self.b)) if a.token != b.token), None)


def comparing(model, ids, a, b, *, seed, n_tokens, encoding=None):
    """Yield the Comparison so far of settings a and b, after each token that they add to ids (T,)."""
    validate.whole_number("n_tokens", n_tokens, least=1)
    validate.whole_number("seed", seed)
    luck = np.random.default_rng(seed).random(n_tokens)
    options = {"max_new_tokens": n_tokens, "seed": seed, **_to_the_end(model, encoding)}
    texts = [[], []]
    for pair in zip_longest(*(stream(model, ids, settings, **options) for settings in (a, b))):
        texts = [text if step is None else [*text, step] for text, step in zip(texts, pair)]
        yield Comparison(*texts, luck)


def compare(model, ids, a, b, *, seed, n_tokens, encoding=None):
    """The Comparison of what `stream` adds to ids (T,) under settings a and b with the same seed.

    Each text ends with end-of-text, if the model has an encoding and draws it, or after n_tokens.
    """
    return _last(comparing(model, ids, a, b, seed=seed, n_tokens=n_tokens, encoding=encoding))


# ---- many texts


@dataclass(frozen=True, eq=False)
class Texts:
    """n texts of t tokens each: tokens (n, t) and how many bits each surprised the model by (n, t).

    eot fills a text that has ended.
    """

    tokens: np.ndarray
    bits: np.ndarray
    eot: int | None

    @property
    def lengths(self):
        """Tokens before end-of-text (n,)."""
        return (self.tokens != self.eot).sum(axis=1)


def writing(model, ids, settings, *, seed, n_texts, n_tokens, encoding=None):
    """Yield the Texts so far, after each token that n_texts of them add to ids (T,)."""
    validate.whole_number("n_texts", n_texts, least=1)
    validate.whole_number("n_tokens", n_tokens, least=1)
    to_the_end = _to_the_end(model, encoding)
    eot = to_the_end["encoding"].eot_token if to_the_end else None
    tokens, bits = [], []
    for step in stream(model, np.tile(ids, (n_texts, 1)), settings, max_new_tokens=n_tokens, seed=seed, **to_the_end):
        tokens.append(step.token)
        bits.append(-np.log2(softmax(step.logits)[np.arange(n_texts), step.token]))
        yield Texts(np.stack(tokens, axis=1), np.stack(bits, axis=1), eot)


def of_each(texts):
    """Each of MEASURES for each of the texts: {name: (n,)}, nan where a text is too short for it.

    Distinct-n: Li et al., 2016 (arXiv 1510.03055); repetition: Welleck et al., 2020 (arXiv 1908.04319). End-of-text
    is no token of a text, but it does surprise.
    """
    rows = [row[:length].tolist() for row, length in zip(texts.tokens, texts.lengths)]
    values = {f"distinct-{n}": [distinct(row, n) for row in rows] for n in (1, 2, 3)}
    values["repetition"] = [1 - distinct(row, 4) for row in rows]
    values["surprise"] = [bits[: length + 1].mean() for bits, length in zip(texts.bits, texts.lengths)]
    values["length"] = texts.lengths
    return {name: np.array(column, dtype=np.float64) for name, column in values.items()}


def distinct(ids, n):
    """How many different runs of n tokens a list of ids has, as a share of all its runs: [1, 2, 1], 1 -> 2/3."""
    runs = list(zip(*(ids[i:] for i in range(n))))
    return len(set(runs)) / len(runs) if runs else np.nan


class Estimate(NamedTuple):
    """A mean, and the interval that holds the true one in about 95 cases of 100."""

    mean: float
    low: float
    high: float


def estimate(values, resamples=1000):
    """The Estimate from independent values (n,), of which nan are left out, by the bootstrap (Efron, 1979).

    As many values are drawn from them with replacement, again and again; the interval holds the middle 95 % of the means.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return Estimate(np.nan, np.nan, np.nan)
    drawn = np.random.default_rng(0).integers(0, values.size, (resamples, values.size))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def measuring(model, ids, choices, *, seed, n_texts, n_tokens, encoding=None):
    """Yield (share done, a list of what `of_each` says for those of the settings `choices` that are done) after each token.

    All are written with the same seed, so the n-th texts of two settings had the same luck and can be compared as pairs.
    """
    found = []
    for settings in choices:
        for texts in writing(model, ids, settings, seed=seed, n_texts=n_texts, n_tokens=n_tokens, encoding=encoding):
            yield (len(found) + texts.tokens.shape[1] / n_tokens) / len(choices), found
        found = [*found, of_each(texts)]
    yield 1.0, found


def measures(model, ids, settings, **options):
    """{name: Estimate} of MEASURES over n_texts continuations of ids (T,); options: seed, n_texts, n_tokens, encoding."""
    _, (found,) = _last(measuring(model, ids, [settings], **options))
    return _estimates(found)


def measure_map(model, ids, temperatures=TEMPERATURES, top_ps=TOP_PS, settings=SamplingSettings(), **options):
    """Yield (share done, the {name: Estimate} of each cell that is done) after each token, cells row by row.

    A row for each temperature, a column for each top-p, all else as in `settings`; options as for `measures`.
    """
    choices = [replace(settings, temperature=T, top_p=p) for T, p in product(temperatures, top_ps)]
    cells = []
    for share, found in measuring(model, ids, choices, **options):
        cells = [*cells, *map(_estimates, found[len(cells) :])]
        yield share, cells


def _estimates(values):
    return {name: estimate(column) for name, column in values.items()}


def _to_the_end(model, encoding):
    """Options of `stream` that make it stop at end-of-text, if there is an encoding to know it by."""
    encoding = model.encoding if encoding is None else encoding
    return {} if encoding is None else {"encoding": encoding, "stop_at_eot": True}


def _last(items):
    return deque(items, maxlen=1).pop()
