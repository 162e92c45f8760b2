"""Notebook 08: windows and targets, clipping, warm-up and cosine, Lion, the accumulation of gradients."""

import math
from functools import partial

import numpy as np

from tinygpt_lib.optim import clip_grad_norm, warmup_cosine
from tinygpt_lib.tensor import Tensor

from .judge import Exercise, strided

_rng = np.random.default_rng(8)
_strided = partial(strided, _rng)


# ---- windows and targets


def _windows(ids, starts, T):
    places = np.asarray(starts)[:, None] + np.arange(T)
    return ids[places], ids[places + 1]


def _inputs(ids, starts, T):
    return _windows(ids, starts, T)[0]


WINDOWS = Exercise(
    "Windows and targets",
    _windows,
    cases=(
        (np.arange(10, 30), np.array([0, 7, 3]), 4),
        (_rng.integers(100, size=50), np.array([5, 5, 45]), 4),
        (_rng.integers(100, size=9), np.array([7, 0]), 1),
        (_rng.integers(100, size=60)[::3], np.array([2]), 17),
    ),
    mistakes={
        "The targets are the inputs: at each place the target is the token that comes next.":
            lambda ids, starts, T: (_inputs(ids, starts, T),) * 2,
        "The targets lie one token before the inputs: the model would learn to write backwards.":
            lambda ids, starts, T: (_inputs(ids, starts, T), ids[np.asarray(starts)[:, None] + np.arange(T) - 1]),
        "All targets are right but the last of each window, which is the window's first token: "
        "cut the targets from ids, np.roll goes round in a circle.":
            lambda ids, starts, T: (_inputs(ids, starts, T), np.roll(_inputs(ids, starts, T), -1, axis=1)),
        "Each window has one target here. It needs T of them, one for every place: that's T lessons for the price of one.":
            lambda ids, starts, T: (_inputs(ids, starts, T), ids[np.asarray(starts) + T]),
        "These windows lie along the columns: each row should be one window, (len(starts), T).":
            lambda ids, starts, T: tuple(part.T for part in _windows(ids, starts, T)),
        "The windows aren't cut at `starts`: window i begins at starts[i], not at i times T.":
            lambda ids, starts, T: _windows(ids, T * np.arange(len(starts)), T),
    },
)  # fmt: skip

# ---- clipping


def _clip(gradients, limit):
    tensors = [Tensor(g, requires_grad=True, dtype=np.float64) for g in gradients]
    for tensor, g in zip(tensors, gradients):
        tensor.grad = np.array(g, dtype=np.float64)
    clip_grad_norm(tensors, limit)
    return [tensor.grad for tensor in tensors]


def _norm(gradients):
    return math.sqrt(sum(float((g**2).sum()) for g in gradients))


CLIPPING = Exercise(
    "Clipping together",
    _clip,
    cases=(
        ([np.array([3.0]), np.array([[-4.0]])], 1.0),
        ([np.array([3.0]), np.array([[-4.0]])], 10.0),
        ([np.zeros((2, 2)), np.zeros(3)], 1.0),
        ([_rng.normal(size=(4, 5)), 100 * _rng.normal(size=6), np.array(0.5)], 2.0),
        ([_strided(3, 4), _strided(2, 2, 3)], 0.5),
    ),
    mistakes={
        "Each array is clipped by its own length, so that a long one and a short one count alike. "
        "Take one length over all of them.":
            lambda gradients, limit: [_clip([g], limit)[0] for g in gradients],
        "Each number is clipped by itself, which turns the direction. Scale all of them by one factor.":
            lambda gradients, limit: [np.clip(g, -limit, limit) for g in gradients],
        "Short gradients are stretched to the limit, and zeros become nan. The factor is at most 1.":
            lambda gradients, limit: [g * (limit / np.float64(_norm(gradients))) for g in gradients],
        "The joint length is the root of the sum of all squares (3 and 4 give 5), "
        "not the sum of the arrays' lengths (3 and 4 give 7).":
            lambda gradients, limit: [g * min(1, limit / max(sum(_norm([h]) for h in gradients), 1e-12)) for g in gradients],
        "This divides by the sum of the squares: the root is missing.":
            lambda gradients, limit: [g * min(1, limit / max(_norm(gradients) ** 2, 1e-12)) for g in gradients],
        "This divides by the length without multiplying by the limit: it's right for a limit of 1 only.":
            lambda gradients, limit: [g / max(_norm(gradients), 1e-12) if _norm(gradients) > limit else g for g in gradients],
    },
    tolerance=1e-5,  # the library adds 1e-6 to the length
)  # fmt: skip

# ---- the schedule


def _then(falling):
    """A schedule with the library's warm-up and then `falling` (progress, lr, min_lr)."""

    def schedule(step, lr, warmup_steps, total_steps, min_lr):
        if step < warmup_steps:
            return warmup_cosine(step, lr, warmup_steps, total_steps, min_lr)
        return falling((step - warmup_steps) / (total_steps - warmup_steps), lr, min_lr)

    return schedule


def _half_wave(progress):
    return 0.5 * (1 + math.cos(math.pi * progress))


def _from_zero(step, lr, warmup_steps, total_steps, min_lr):
    return lr * step / warmup_steps if step < warmup_steps else warmup_cosine(step, lr, warmup_steps, total_steps, min_lr)


def _over_the_whole_run(step, lr, warmup_steps, total_steps, min_lr):
    return warmup_cosine(step, lr, warmup_steps if step < warmup_steps else 0, total_steps, min_lr)


SCHEDULE = Exercise(
    "Warm-up and cosine",
    warmup_cosine,
    cases=(
        *((step, 1.0, 4, 16, 0.1) for step in (0, 1, 3, 4, 7, 10, 15, 16, 99)),
        *((step, 0.002, 0, 50, 0.0) for step in (0, 25, 49)),
        (30, 0.5, 10, 110, 0.5),
    ),
    mistakes={
        "The first step would have a rate of 0 and teach nothing: during the warm-up it's (step + 1) / warmup_steps of lr.":
            _from_zero,
        "The half wave begins after the warm-up: progress runs from 0 at warmup_steps to 1 at total_steps.": _over_the_whole_run,
        "At the end this is 0: the wave should go down to min_lr.": _then(lambda p, lr, low: lr * _half_wave(min(p, 1))),
        "After the warm-up this starts above lr: the wave spans lr - min_lr, on top of min_lr.":
            _then(lambda p, lr, low: low + lr * _half_wave(min(p, 1))),
        "Beyond total_steps the wave goes up again: keep progress at 1 there.":
            _then(lambda p, lr, low: low + (lr - low) * _half_wave(p)),
        "It falls in a straight line: half a cosine is flat at both ends.":
            _then(lambda p, lr, low: low + (lr - low) * (1 - min(p, 1))),
        "This is a quarter of a wave, cos from 1 to 0: take (1 + cos(pi * progress)) / 2.":
            _then(lambda p, lr, low: low + (lr - low) * math.cos(math.pi / 2 * min(p, 1))),
        "The cosine wants an angle from 0 to pi: the factor pi is missing.":
            _then(lambda p, lr, low: low + (lr - low) * 0.5 * (1 + math.cos(min(p, 1)))),
    },
)  # fmt: skip

# ---- Lion


def _mean(m, g, beta):
    return beta * m + (1 - beta) * g


def _lion(w, g, m, rate, betas, decay):
    """Chen et al., 2023 (arXiv 2302.06675), algorithm 2."""
    return w - rate * (np.sign(_mean(m, g, betas[0])) + decay * w), _mean(m, g, betas[1])


LION = Exercise(
    "Lion, from its paper",
    _lion,
    cases=(
        (_rng.normal(size=(3, 4)), _rng.normal(size=(3, 4)), _rng.normal(size=(3, 4)), 0.01, (0.9, 0.99), 0.1),
        (np.array([1.0, -1.0, 2.0]), np.array([1.0, 1.0, 0.0]), np.array([-0.1, -0.05, 0.0]), 0.1, (0.9, 0.99), 0.5),
        (_rng.normal(size=5), 1e-9 * _rng.normal(size=5), np.zeros(5), 0.1, (0.9, 0.99), 0.0),
        (_strided(2, 6), _strided(2, 6), _strided(2, 6), 0.3, (0.5, 0.8), 1.0),
    ),
    mistakes={
        "The sign is taken of the new m. It belongs to a mixture of its own: old m and g with the first beta.":
            lambda w, g, m, rate, betas, decay: (w - rate * (np.sign(_mean(m, g, betas[1])) + decay * w), _mean(m, g, betas[1])),
        "The sign is missing: Lion moves every weight by the same amount, whatever the gradient's size.":
            lambda w, g, m, rate, betas, decay: (w - rate * (_mean(m, g, betas[0]) + decay * w), _mean(m, g, betas[1])),
        "The two betas are exchanged: the first mixes for the sign, the second for what is remembered.":
            lambda w, g, m, rate, betas, decay: _lion(w, g, m, rate, betas[::-1], decay),
        "m is remembered with the wrong beta: the mixture for the sign isn't the one that is kept, which has the second beta.":
            lambda w, g, m, rate, betas, decay: (_lion(w, g, m, rate, betas, decay)[0], _mean(m, g, betas[0])),
        "The weights don't decay: subtract rate * decay * w, too.":
            lambda w, g, m, rate, betas, decay: _lion(w, g, m, rate, betas, 0),
        "The decay has been put under the sign, where its size is lost. It's decoupled, as in AdamW.":
            lambda w, g, m, rate, betas, decay: (w - rate * np.sign(_mean(m, g, betas[0]) + decay * w), _mean(m, g, betas[1])),
        "This goes uphill: the sign is subtracted.":
            lambda w, g, m, rate, betas, decay: (_lion(w, -g, -m, rate, betas, decay)[0], _mean(m, g, betas[1])),
    },
)  # fmt: skip

# ---- accumulation


def _slope(inputs, targets):
    """The gradient of a linear model's mean squared error by its two weights."""
    return 2 * (inputs @ np.array([1.0, -2.0]) - targets) @ inputs / len(inputs)


def _at_most(size):
    """_slope of as many rows as fit into memory."""

    def gradient(inputs, targets):
        if len(inputs) > size:
            raise MemoryError(f"gradient was given {len(inputs)} rows at a time, and no more than size = {size} fit")
        return _slope(inputs, targets)

    return gradient


def _shares(inputs, targets, size):
    return [(inputs[i : i + size], targets[i : i + size]) for i in range(0, len(inputs), size)]


def _accumulate(gradient, inputs, targets, size):
    return sum(gradient(x, y) * len(x) / len(inputs) for x, y in _shares(inputs, targets, size))


def _rows(count):
    return _rng.normal(size=(count, 2)), _rng.normal(size=count)


ACCUMULATION = Exercise(
    "A large batch in small pieces",
    _accumulate,
    cases=tuple((_at_most(size), *_rows(count), size) for count, size in ((8, 4), (10, 4), (3, 3), (7, 1), (9, 8))),
    mistakes={
        "Too large: gradients of means don't add up to the gradient of the mean. Each piece counts by its share of the rows.":
            lambda gradient, x, y, size: sum(gradient(*share) for share in _shares(x, y, size)),
        "Right as long as all pieces are equally large. A last, smaller one counts too much in a plain mean: "
        "weigh each by its rows.":
            lambda gradient, x, y, size: np.mean([gradient(*share) for share in _shares(x, y, size)], axis=0),
        "The last, smaller piece has been left out: its rows must count, too.":
            lambda gradient, x, y, size: sum(
                gradient(*share) * size / len(x) for share in _shares(x, y, size) if len(share[0]) == size
            ),
        "This divides by a number of pieces that leaves out the last, smaller one. Weigh each piece by its share of the rows.":
            lambda gradient, x, y, size: sum(gradient(*share) for share in _shares(x, y, size)) / max(len(x) // size, 1),
        "Only the last piece is left: each gradient has to be added to those before.":
            lambda gradient, x, y, size: gradient(*_shares(x, y, size)[-1]),
        "Each piece is weighed by `size`, and the last one is smaller: weigh it by the rows that it has.":
            lambda gradient, x, y, size: sum(gradient(*share) * size / len(x) for share in _shares(x, y, size)),
        "The weighted sum must be divided by all the rows: it's a mean.":
            lambda gradient, x, y, size: sum(gradient(*share) * len(share[0]) for share in _shares(x, y, size)),
    },
)  # fmt: skip

EXERCISES = [WINDOWS, CLIPPING, SCHEDULE, LION, ACCUMULATION]
