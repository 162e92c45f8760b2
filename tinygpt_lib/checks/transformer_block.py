"""Notebook 06: LayerNorm for any shape, a block's parameters, pre-norm wiring, GELU's slope, RMSNorm backwards."""

import math
from functools import partial

import numpy as np

from tinygpt_lib.functional import layer_norm
from tinygpt_lib.tensor import Tensor

from .judge import Exercise, strided

_rng = np.random.default_rng(6)
_strided = partial(strided, _rng)


def _tensor(x):
    return Tensor(x, requires_grad=True, dtype=np.float64)


def _affine(width):
    return _rng.normal(1, 0.5, width), _rng.normal(0, 0.5, width)


_ZERO_ROW = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 7.0, 7.0, 9.0], [5.0, 5.0, 5.0, 5.0]])


def _norm(x, w, b, axis=-1, ddof=0, inside=1e-5, outside=0.0):
    std = np.sqrt(x.var(axis=axis, ddof=ddof, keepdims=True) + inside) + outside
    return (x - x.mean(axis=axis, keepdims=True)) / std * w + b


LAYER_NORM = Exercise(
    "LayerNorm for any shape",
    lambda x, weight, bias: layer_norm(*map(_tensor, (x, weight, bias))).data,
    cases=(
        (_rng.normal(2, 3, size=(3, 4)), *_affine(4)),
        (_rng.normal(size=(2, 3, 3)), *_affine(3)),
        (_rng.normal(size=5), *_affine(5)),
        (_ZERO_ROW, *_affine(4)),
        (1e-3 * _rng.normal(size=(2, 6)), *_affine(6)),
        (100 * _strided(2, 2, 3, 8), *_affine(8)),
    ),
    mistakes={
        "Right shape, a few percent too small: divide the squares' sum by the row's width C. "
        "This is the other variance, with C - 1.":
            lambda x, w, b: _norm(x, w, b, ddof=1),
        "eps is outside the root: add it to the variance, then take the root. Rows of tiny numbers show the difference.":
            lambda x, w, b: _norm(x, w, b, inside=0, outside=1e-5),
        "A row of equal numbers has variance 0, and 0/0 is nan: eps is missing.": lambda x, w, b: _norm(x, w, b, inside=0),
        "Each word has its own mean and variance, along the last axis. Here they run along the first, over different words.":
            lambda x, w, b: _norm(x, w, b, axis=0),
        "One mean and one variance are shared by all rows: axis=-1 is missing.": lambda x, w, b: _norm(x, w, b, axis=None),
        "This divides by the variance: take its root first.":
            lambda x, w, b: (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + 1e-5) * w + b,
        "Without keepdims=True the means have lost the last axis, and are "
        "subtracted from the wrong numbers, or don't fit at all.":
            lambda x, w, b: ((x - x.mean(-1)) / np.sqrt(x.var(-1) + 1e-5) * w + b),
        "The rows are normalised; weight and bias are still to be applied.": lambda x, w, b: _norm(x, 1, 0),
        "The bias is missing: times the weight, plus the bias.": lambda x, w, b: _norm(x, w, 0),
    },
)


def _count(C, M, bias):
    return 4 * C * C + 2 * C * M + 2 * C + bias * (7 * C + M)


COUNT = Exercise(
    "Count another block",
    _count,
    cases=((192, 768, True), (192, 768, False), (8, 20, True), (8, 20, False), (1, 1, True), (768, 2048, False)),
    mistakes={
        "This is right for an MLP of 4C only: here its inner width is M.": lambda C, M, bias: _count(C, 4 * C, bias),
        "With bias=False it still counts biases.": lambda C, M, bias: _count(C, M, True),
        "The LayerNorms keep their weights without biases: 2C numbers.":
            lambda C, M, bias: _count(C, M, bias) - (0 if bias else 2 * C),
        "The LayerNorms are missing: two of them, each with C weights, and C biases if there are biases.":
            lambda C, M, bias: _count(C, M, bias) - 2 * C - bias * 2 * C,
        "There are two LayerNorms: this counts one.": lambda C, M, bias: _count(C, M, bias) - C - bias * C,
        "Attention has a second matrix: after the heads are joined, C to C.":
            lambda C, M, bias: _count(C, M, bias) - C * C - bias * C,
        "The MLP has two matrices, C to M and M to C: one is missing.": lambda C, M, bias: _count(C, M, bias) - C * M,
        "The matrices are right. With biases, each has one for each *output*: 3C, C, M and C; and each LayerNorm has C.":
            lambda C, M, bias: _count(C, M, False),
    },
)


def _standard(x):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


def _doubled(x):
    return 2 * _standard(x) + 1


def _past_mean(x):
    return np.cumsum(x, axis=-2) / np.arange(1, x.shape[-2] + 1)[:, None]


def _bend(x):
    return np.tanh(x) + 0.3


def _pre_norm(x, norm_1, attention, norm_2, mlp):
    x = x + attention(norm_1(x))
    return x + mlp(norm_2(x))


def _post_norm(x, norm_1, attention, norm_2, mlp):
    x = norm_1(x + attention(x))
    return norm_2(x + mlp(x))


def _normalised_stream(x, norm_1, attention, norm_2, mlp):
    x = norm_1(x)
    x = norm_2(x + attention(x))
    return x + mlp(x)


def _branch_norm(x, norm_1, attention, norm_2, mlp):
    x = x + norm_1(attention(x))
    return x + norm_2(mlp(x))


def _last_addition_missing(x, norm_1, attention, norm_2, mlp):
    return mlp(norm_2(x + attention(norm_1(x))))


def _from_the_start(x, norm_1, attention, norm_2, mlp):
    return x + mlp(norm_2(x + attention(norm_1(x))))


WIRE = Exercise(
    "Wire it",
    _pre_norm,
    cases=(
        (3 * _rng.normal(size=(3, 4)), _standard, _past_mean, _doubled, _bend),
        (_rng.normal(size=(2, 5, 3)), _doubled, _bend, _standard, _past_mean),
        (_ZERO_ROW, _standard, _past_mean, _standard, np.square),
    ),
    mistakes={
        "This is post-norm: here the norms stand on the stream. In pre-norm only what a branch reads is normalised.": _post_norm,
        "The stream itself gets normalised: norm(x) is a copy for the branch to read, and what the branch finds is added to x.":
            _normalised_stream,
        "The norm belongs before attention and before the MLP, not on what they return.": _branch_norm,
        "The additions are missing: each branch's result is added to the stream, x + ...":
            lambda x, n1, a, n2, m: m(n2(a(n1(x)))),
        "The last addition is missing: the MLP's result replaces the stream instead of being added to it.":
            _last_addition_missing,
        "What attention found is lost: "
        "the MLP's result must be added to the stream after attention, not to the x you began with.":
            _from_the_start,
        "Both branches read the same x. The MLP's branch must read the stream after attention has added to it.":
            lambda x, n1, a, n2, m: x + a(n1(x)) + m(n2(x)),
        "Each branch has its own norm: norm_1 before attention, norm_2 before the MLP.":
            lambda x, n1, a, n2, m: _pre_norm(x, n1, a, n1, m),
        "norm_1 and norm_2 have changed places.": lambda x, n1, a, n2, m: _pre_norm(x, n2, a, n1, m),
        "The norms aren't used: attention reads norm_1(x), the MLP reads norm_2(x).":
            lambda x, n1, a, n2, m: _pre_norm(x, lambda x: x, a, lambda x: x, m),
        "The MLP reads the stream as it is: it should read norm_2 of it.":
            lambda x, n1, a, n2, m: _pre_norm(x, n1, a, lambda x: x, m),
    },
)


def _big_phi(x, root=math.sqrt(2)):
    return (1 + np.vectorize(math.erf)(x / root)) / 2


def _bell(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _tanh_slope(x):
    from tinygpt_lib.functional import gelu

    t = _tensor(x)
    gelu(t).backward(np.ones_like(t.data))
    return t.grad


GELU_SLOPE = Exercise(
    "The slope of the exact GELU",
    lambda x: _big_phi(x) + x * _bell(x),
    cases=(
        (np.linspace(-4, 4, 9),),
        (_rng.normal(size=(2, 3, 4)),),
        (np.array([0.0, -40.0, 40.0, 1e-8]),),
        (_strided(3, 5),),
    ),
    mistakes={
        "Close, but this is the slope of the tanh form. Here the exact one is wanted: two terms, with erf and exp.": _tanh_slope,
        "Half of the product rule: the gate moves, too. Add x times the slope of the gate.": lambda x: _big_phi(x),
        "Half of the product rule: that's x times the gate's slope. Add the gate itself.": lambda x: x * _bell(x),
        "In the second term the factor x is missing: x times φ(x).": lambda x: _big_phi(x) + _bell(x),
        "The bell curve needs its factor 1/√(2π), so that its area is 1.": lambda x: _big_phi(x) + x * np.exp(-x * x / 2),
        "In Φ, erf takes x/√2, not x.": lambda x: _big_phi(x, 1.0) + x * _bell(x),
        "This is GELU itself; its slope is wanted.": lambda x: x * _big_phi(x),
        "The bell curve is exp(-x²/2): the 2 under the x² is missing.":
            lambda x: _big_phi(x) + x * np.exp(-x * x) / math.sqrt(2 * math.pi),
        "The second term is added: the gate opens as x grows.": lambda x: _big_phi(x) - x * _bell(x),
    },
)


def _rms_norm_slope(g, x, weight):
    x, weight = _tensor(x), Tensor(weight, dtype=np.float64)
    (x / ((x * x).mean(axis=-1, keepdims=True) + 1e-5).sqrt() * weight).backward(g)
    return x.grad


def _mean(a):
    return a.mean(axis=-1, keepdims=True)


def _rms_parts(g, x, weight, eps=1e-5):
    """1 / root mean square, x̂ and the gradient by x̂."""
    r = 1 / np.sqrt(_mean(x * x) + eps)
    return r, x * r, g * weight


def _of_parts(combine, **options):
    return lambda g, x, weight: combine(*_rms_parts(g, x, weight, **options))


def _weight_last(g, x, weight):
    r, xhat, _ = _rms_parts(g, x, weight)
    return r * weight * (g - xhat * _mean(g * xhat))


def _layer_norm_slope(g, x, weight):
    x = _tensor(x)
    layer_norm(x, weight, np.zeros_like(weight)).backward(g)
    return x.grad


_SMALL = 1e-3 * _rng.normal(size=(2, 4))

RMS_BACKWARD = Exercise(
    "Another norm, backwards",
    _rms_norm_slope,
    cases=(
        (_rng.normal(size=(3, 4)), _rng.normal(1, 2, size=(3, 4)), _affine(4)[0]),
        (_rng.normal(size=(2, 3, 5)), _rng.normal(size=(2, 3, 5)), _affine(5)[0]),
        (_rng.normal(size=6), _rng.normal(size=6), _affine(6)[0]),
        (_rng.normal(size=(2, 4)), _SMALL, _affine(4)[0]),
        (_strided(4, 3), _strided(4, 3), _affine(3)[0]),
    ),
    mistakes={
        "That's LayerNorm's gradient. "
        "RMSNorm subtracts no mean, so it measures x itself, and adding a constant to a row does change the result.":
            _layer_norm_slope,
        "RMSNorm notices a constant added to the row, so the mean of dx̂ mustn't be taken out. One term too many.": _of_parts(
            lambda r, xhat, d: r * (d - _mean(d) - xhat * _mean(d * xhat))
        ),
        "This treats the root mean square as a fixed number. It moves with x: a term along x̂ is missing.":
            _of_parts(lambda r, xhat, d: r * d),
        "The weight is missing: the gradient by x̂ is g times the weight.":
            lambda g, x, w: _rms_norm_slope(g, x, np.ones_like(w)),
        "The weight comes first: multiply g by it before the mean is taken, not at the end.": _weight_last,
        "A mean over the row, not a sum: the mean square has the factor 1/C.":
            _of_parts(lambda r, xhat, d: r * (d - xhat * (d * xhat).sum(axis=-1, keepdims=True))),
        "The term that is taken out is made of x̂ in both places, not of x.":
            lambda g, x, w: _of_parts(lambda r, xhat, d: r * (d - x * _mean(d * x)))(g, x, w),
        "The direction is right, the size isn't: all of it is divided by the root mean square.":
            _of_parts(lambda r, xhat, d: d - xhat * _mean(d * xhat)),
        "Each row has its own mean: axis=-1 and keepdims=True.": _of_parts(lambda r, xhat, d: r * (d - xhat * (d * xhat).mean())),
        "Rows of tiny numbers show that eps is missing: it stands under the root.":
            _of_parts(lambda r, xhat, d: r * (d - xhat * _mean(d * xhat)), eps=0.0),
    },
)

EXERCISES = [LAYER_NORM, COUNT, WIRE, GELU_SLOPE, RMS_BACKWARD]
