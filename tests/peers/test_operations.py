"""Every differentiable operation beside PyTorch's: values and gradients, in float64 and in float32."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs PyTorch: pip install -e ".[peers]"')
import torch.nn.functional as TF  # noqa: E402

from tinygpt_lib import Tensor, functional  # noqa: E402
from tinygpt_lib import functional as F  # noqa: E402

TOLERANCE = {np.float64: 1e-6, np.float32: 1e-5}  # of the largest magnitude


def numbers(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


def away_from_zero(*shape):
    return np.sign(numbers(*shape)) * (0.5 + np.abs(numbers(*shape)))


def positive(*shape):
    return np.abs(away_from_zero(*shape))


def layouts(array):
    """The same numbers or some of them, with the strides that views have."""
    yield array
    if array.ndim:
        yield np.ascontiguousarray(array.T).T
        yield np.repeat(array, 2, axis=-1)[..., ::2]
        yield np.broadcast_to(array[:1], array.shape)


def agree(ours, theirs, arrays, dtype):
    """Assert that both give the same value, and the same gradients of sum(y * w)."""
    mine, yours = [Tensor(0.0, requires_grad=True, dtype=dtype) for _ in arrays], []
    for leaf, array in zip(mine, arrays, strict=True):
        leaf.data = array.astype(dtype) if array.flags.c_contiguous else array  # the odd strides come in float64
        yours.append(torch.tensor(np.ascontiguousarray(array).astype(dtype).reshape(array.shape), requires_grad=True))
    y, z = ours(*mine), theirs(*yours)
    w = np.asarray(numbers(*y.shape, seed=9)).astype(dtype)
    y.backward(w)
    z.backward(torch.tensor(w))
    close(y.data, z.detach().numpy(), dtype)
    for a, b in zip(mine, yours, strict=True):
        close(a.grad, b.grad.numpy(), dtype)


def close(got, expected, dtype):
    assert got.dtype == expected.dtype == dtype and got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0) <= TOLERANCE[dtype] * np.abs(expected).max(initial=0) + 1e-30


SAME = {  # written the same way for both: name: (f, inputs)
    "add": (lambda a, b: a + b, [numbers(2, 3), numbers(3)]),
    "sub": (lambda a, b: a - b, [numbers(2, 1), numbers(1, 3)]),
    "mul": (lambda a, b: a * b, [numbers(4, 1, 3), numbers(2, 1)]),
    "mul by scalar": (lambda a, b: a * b, [numbers(2, 3), numbers()]),
    "div": (lambda a, b: a / b, [numbers(2, 3), away_from_zero(2, 1)]),
    "div of a row": (lambda a, b: a / b, [numbers(3), away_from_zero(2, 3)]),
    "rdiv and rsub": (lambda a: 2 / a + (1 - a), [away_from_zero(2, 3)]),
    "neg": (lambda a: -a, [numbers(2, 3)]),
    "square": (lambda a: a**2, [numbers(2, 3)]),
    "cube of size 1": (lambda a: a**3, [numbers(1, 1)]),
    "inverse": (lambda a: a**-1, [away_from_zero(2, 3)]),
    "power": (lambda a: a**2.5, [positive(2, 3)]),
    "matmul": (lambda a, b: a @ b, [numbers(2, 3), numbers(3, 4)]),
    "matmul, batched": (lambda a, b: a @ b, [numbers(2, 1, 2, 3), numbers(5, 3, 4)]),
    "matmul of size 1": (lambda a, b: a @ b, [numbers(1, 1), numbers(1, 1)]),
    "exp": (lambda a: a.exp(), [numbers(2, 3)]),
    "log": (lambda a: a.log(), [positive(2, 3)]),
    "sqrt": (lambda a: a.sqrt(), [positive(2, 3)]),
    "tanh": (lambda a: a.tanh(), [3 * numbers(2, 3)]),
    "sum": (lambda a: a.sum(), [numbers(2, 3)]),
    "sum of axes": (lambda a: a.sum(axis=(0, 2)), [numbers(2, 3, 4)]),
    "mean": (lambda a: a.mean(), [numbers(2, 3)]),
    "mean, keepdims": (lambda a: a.mean(axis=-1, keepdims=True), [numbers(2, 3)]),
    "max": (lambda a: a.max(), [numbers(2, 3)]),
    "max, tied": (lambda a: a.max(), [np.array([1.0, 3.0, 3.0, 0.0])]),
    "reshape": (lambda a: a.reshape(3, -1), [numbers(2, 3)]),
    "transpose": (lambda a: a.transpose(0, -1), [numbers(2, 3, 4)]),
    "permute": (lambda a: a.permute(2, 0, 1), [numbers(2, 3, 4)]),
    "T": (lambda a: a.T, [numbers(2, 3)]),
    "slice": (lambda a: a[:, 1:, ::2], [numbers(2, 3, 4)]),
    "last": (lambda a: a[:, -1, :], [numbers(2, 3, 4)]),
    "repeated rows": (lambda a: a[[0, 2, 0]], [numbers(3, 2)]),
    "pairs": (lambda a: a[[0, 2, 0], [1, 1, 1]], [numbers(3, 2)]),
    "an expression": (
        lambda a, b: ((a @ b).tanh() * a.sum() / (b * b + 1).mean() - 2 * a[0, 0]).exp(),
        [numbers(2, 2), numbers(2, 2)],
    ),
}
IDS = np.array([[1, 0, 1], [4, 4, 2]])


def torch_attention(q, k, v):
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(k.shape[-2] - q.shape[-2])
    return TF.scaled_dot_product_attention(q, k, v, attn_mask=past)


def torch_self_attention(qkv):
    q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    return TF.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


def mask_like(x, p):
    """What dropout multiplies by, given an equal generator."""
    ones = Tensor(np.ones(x.shape), dtype=np.float64)
    return torch.tensor(F.dropout(ones, p, np.random.default_rng(3)).data).to(x.dtype)


def torch_dropped_attention(q, k, v):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    return (weights * mask_like(weights, 0.3)) @ v


def dropped_attention(q, k, v):
    return F.causal_attention(q, k, v, 0.3, np.random.default_rng(3))


def by_ids(cross_entropy):
    return lambda z: cross_entropy(z.reshape(-1, z.shape[-1]), IDS.reshape(-1))


def heads(Tq=4, Tk=4):
    return [numbers(2, 2, Tq, 3), numbers(2, 2, Tk, 3, seed=1), numbers(2, 2, Tk, 3, seed=2)]


FUSED = {  # name: (ours, PyTorch's, inputs)
    "softmax": (F.softmax, lambda x: x.softmax(-1), [numbers(4, 3, 5)]),
    "softmax of axis 0": (lambda x: F.softmax(x, 0), lambda x: x.softmax(0), [numbers(4, 3)]),
    "softmax of size 1": (F.softmax, lambda x: x.softmax(-1), [numbers(3, 1)]),
    "softmax, huge": (F.softmax, lambda x: x.softmax(-1), [1e4 * numbers(4, 5)]),
    "log_softmax": (F.log_softmax, lambda x: x.log_softmax(-1), [numbers(4, 3, 5)]),
    "log_softmax of axis 1": (lambda x: F.log_softmax(x, 1), lambda x: x.log_softmax(1), [30 * numbers(4, 3, 5)]),
    "cross_entropy": (by_ids(F.cross_entropy), by_ids(lambda z, i: TF.cross_entropy(z, torch.tensor(i))), [3 * numbers(2, 3, 5)]),
    "gelu": (F.gelu, lambda x: TF.gelu(x, approximate="tanh"), [3 * numbers(4, 3, 5)]),
    "layer_norm": (
        F.layer_norm,
        lambda x, w, b: TF.layer_norm(x, w.shape, w, b),
        [2 + 3 * numbers(4, 3, 5), numbers(5, seed=1), numbers(5, seed=2)],
    ),
    "linear": (F.linear, TF.linear, [numbers(4, 3, 5), numbers(2, 5, seed=1), numbers(2, seed=2)]),
    "linear, no bias": (F.linear, TF.linear, [numbers(4, 5), numbers(2, 5, seed=1)]),
    "linear of one row": (F.linear, TF.linear, [numbers(5), numbers(2, 5, seed=1), numbers(2, seed=2)]),
    "embedding": (lambda w: F.embedding(w, IDS), lambda w: TF.embedding(torch.tensor(IDS), w), [numbers(5, 3)]),
    "dropout": (lambda x: F.dropout(x, 0.4, np.random.default_rng(3)), lambda x: x * mask_like(x, 0.4), [numbers(4, 3, 5)]),
    "max of an axis": (lambda x: x.max(axis=1), lambda x: x.amax(1), [numbers(4, 3, 5)]),
    "max of axes, tied": (lambda x: x.max(axis=(0, 2)), lambda x: x.amax((0, 2)), [np.round(numbers(4, 3, 5))]),
    "attention": (F.causal_attention, torch_attention, heads()),
    "attention of one query": (F.causal_attention, torch_attention, heads(Tq=1)),
    "attention with a past": (F.causal_attention, torch_attention, heads(Tq=2, Tk=5)),
    "attention with dropout": (dropped_attention, torch_dropped_attention, heads()),
    "self-attention": (lambda x: F.causal_self_attention(x, 2), torch_self_attention, [numbers(3, 4, 12)]),
    "self-attention of size 1": (lambda x: F.causal_self_attention(x, 2), torch_self_attention, [numbers(1, 1, 6)]),
}
OPERATIONS = {name: (f, f, arrays) for name, (f, arrays) in SAME.items()} | FUSED
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@dtypes
@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_pytorchs(name, dtype):
    agree(*OPERATIONS[name], dtype)


@pytest.mark.parametrize("name", OPERATIONS)
def test_views_give_pytorchs_values_and_gradients(name):
    ours, theirs, arrays = OPERATIONS[name]
    for views in zip(*(list(layouts(a)) * (1 if a.ndim else 4) for a in arrays), strict=True):
        agree(ours, theirs, list(views), np.float64)


@dtypes
@pytest.mark.parametrize("name", FUSED)
def test_many_pieces_give_pytorchs_values_and_gradients(name, dtype, monkeypatch):
    monkeypatch.setattr(functional, "PIECE", 7)
    agree(*OPERATIONS[name], dtype)


LARGE = {
    "cross_entropy": [3 * numbers(6, 90_000)],
    "gelu": [3 * numbers(600, 1000)],
    "self-attention": [numbers(40, 140, 12)],
}


@pytest.mark.parametrize("name", LARGE)
def test_sizes_beyond_one_piece_give_pytorchs_values_and_gradients(name, monkeypatch):
    whole, slices = functional.in_pieces, []
    monkeypatch.setattr(functional, "in_pieces", lambda work, *sizes: whole(lambda s: slices.append(s) or work(s), *sizes))
    agree(*OPERATIONS[name][:2], LARGE[name], np.float32)
    assert any(s.start > 0 for s in slices)


def test_banned_logits_have_pytorchs_probabilities_and_gradients():
    array = numbers(3, 5)
    array[[0, 1, 1], [2, 0, 4]] = -np.inf
    agree(F.softmax, lambda x: x.softmax(-1), [array], np.float64)
    allowed = [[0], [1], [2]]
    agree(
        lambda x: F.cross_entropy(x, [0, 1, 2]), lambda x: TF.cross_entropy(x, torch.tensor(allowed)[:, 0]), [array], np.float64
    )
