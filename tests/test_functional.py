"""The fused operations: the same values and gradients as the forms composed of Tensor's own, and their promises."""

import math

import numpy as np
import pytest

from tinygpt_lib import Tensor, functional, gradcheck
from tinygpt_lib.functional import (
    attend,
    causal_attention,
    causal_self_attention,
    cross_entropy,
    dropout,
    embedding,
    future_mask,
    gelu,
    layer_norm,
    linear,
    log_softmax,
    softmax,
)
from tinygpt_lib.tensor import topological_order


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def double(array):
    return Tensor(array, requires_grad=True, dtype=np.float64)


def ids_below(count, shape):
    """Ids of the shape, with repetitions where there is room for them."""
    return np.arange(math.prod(shape)).reshape(shape) ** 2 % count


def one_hot(ids, count):
    return np.eye(count)[ids]


def mask_of(shape, p):
    """What dropout multiplies by, with an equal generator."""
    return dropout(Tensor(np.ones(shape), dtype=np.float64), p, np.random.default_rng(1)).data


# ---- the composed forms


def composed_softmax(x, axis=-1):
    e = (x - x.max(axis=axis, keepdims=True)).exp()
    return e / e.sum(axis=axis, keepdims=True)


def composed_log_softmax(x, axis=-1):
    z = x - x.max(axis=axis, keepdims=True)
    return z - z.exp().sum(axis=axis, keepdims=True).log()


def composed_cross_entropy(x):
    ids = ids_below(x.shape[-1], x.shape[:-1])
    return -(composed_log_softmax(x) * one_hot(ids, x.shape[-1])).sum() / ids.size


def composed_gelu(x):
    return 0.5 * x * (1 + ((x + 0.044715 * x**3) * math.sqrt(2 / math.pi)).tanh())


def composed_layer_norm(x, weight, bias):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / (variance + 1e-5).sqrt() * weight + bias


def composed_attention(q, k, v, p=0.0):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    visible = np.tril(np.ones(scores.shape[-2:]), k=k.shape[-2] - q.shape[-2]) > 0
    weights = composed_softmax(scores + np.where(visible, 0, -np.inf))
    if p:
        four = (*(1,) * (4 - weights.ndim), *weights.shape)
        weights = weights * mask_of(four, p).reshape(weights.shape)
    return weights @ v


def composed_self_attention(qkv, p=0.0):
    B, T, C3 = qkv.shape
    q, k, v = (qkv[..., i * C3 // 3 : (i + 1) * C3 // 3].reshape(B, T, 2, -1).permute(0, 2, 1, 3) for i in range(3))
    return composed_attention(q, k, v, p).permute(0, 2, 1, 3).reshape(B, T, C3 // 3)


def generator():
    return np.random.default_rng(1)


QKV = [[(2, 2, 4, 3)] * 3, [(2, 2, 2, 3), (2, 2, 4, 3), (2, 2, 4, 3)], [(3, 4, 2)] * 3, [(4, 3)] * 3, [(1, 3), (4, 3), (4, 3)]]
QKV += [[(1, 1, 1, 1)] * 3, [(2, 1, 2, 4, 3)] * 3]
OPERATIONS = {  # name: (fused, composed, shapes of its inputs)
    "softmax": (softmax, composed_softmax, [[(4, 3, 5)], [(7,)], [(1, 1)]]),
    "softmax of axis 0": (lambda x: softmax(x, axis=0), lambda x: composed_softmax(x, 0), [[(4, 3, 2)], [(1, 3)]]),
    "log_softmax": (log_softmax, composed_log_softmax, [[(4, 3, 5)], [(7,)], [(1, 1)]]),
    "log_softmax of axis 1": (lambda x: log_softmax(x, axis=1), lambda x: composed_log_softmax(x, 1), [[(4, 3, 2)]]),
    "cross_entropy": (
        lambda x: cross_entropy(x, ids_below(x.shape[-1], x.shape[:-1])),
        composed_cross_entropy,
        [[(4, 3, 5)], [(3, 5)], [(5,)], [(1, 1)], [(1, 1, 4)]],
    ),
    "gelu": (gelu, composed_gelu, [[(4, 3, 5)], [()], [(1, 1)]]),
    "layer_norm": (layer_norm, composed_layer_norm, [[(4, 3, 5), (5,), (5,)], [(5,)] * 3, [(2, 1), (1,), (1,)]]),
    "linear": (linear, lambda x, w, b: x @ w.T + b, [[(4, 3, 5), (2, 5), (2,)], [(3, 5), (2, 5), (2,)], [(1, 1), (1, 1), (1,)]]),
    "linear, no bias": (linear, lambda x, w: x @ w.T, [[(4, 3, 5), (2, 5)], [(1, 3, 1), (2, 1)]]),
    "linear of one row": (linear, lambda x, w, b: (x.reshape(1, -1) @ w.T + b)[0], [[(5,), (2, 5), (2,)]]),
    "embedding": (
        lambda w: embedding(w, ids_below(len(w), (2, 4))),
        lambda w: Tensor(one_hot(ids_below(len(w), (2, 4)), len(w)), dtype=np.float64) @ w,
        [[(6, 3)], [(1, 1)]],
    ),
    "dropout": (lambda x: dropout(x, 0.4, generator()), lambda x: x * mask_of(x.shape, 0.4), [[(4, 3, 5)], [(1, 1)]]),
    "attention": (causal_attention, composed_attention, QKV),
    "attention with dropout": (
        lambda q, k, v: causal_attention(q, k, v, 0.3, generator()),
        lambda q, k, v: composed_attention(q, k, v, 0.3),
        QKV[:-1],
    ),
    "self-attention": (lambda x: causal_self_attention(x, 2), composed_self_attention, [[(3, 4, 12)], [(1, 1, 6)]]),
    "self-attention with dropout": (
        lambda x: causal_self_attention(x, 2, 0.3, generator()),
        lambda x: composed_self_attention(x, 0.3),
        [[(3, 4, 12)]],
    ),
}
CASES = [
    pytest.param(name, shapes, id=f"{name} {shapes}") for name, (_, _, all_shapes) in OPERATIONS.items() for shapes in all_shapes
]
FIRST = [pytest.param(name, all_shapes[0], id=name) for name, (_, _, all_shapes) in OPERATIONS.items()]
LAYOUTS = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "sliced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


def inputs(shapes):
    return [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]


def leaf_on(array, dtype=np.float64):
    """A leaf whose data is `array` itself, strides and all, and which nobody may write to."""
    leaf = Tensor(0.0, requires_grad=True, dtype=dtype)
    leaf.data = array.view()
    leaf.data.flags.writeable = False
    return leaf


@pytest.fixture(params=[functional.PIECE, 7], ids=["one piece", "many pieces"])
def pieces(request, monkeypatch):
    monkeypatch.setattr(functional, "PIECE", request.param)


# ---- values and gradients


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name, shapes", CASES)
def test_gradients_are_those_of_central_differences(name, shapes):
    assert gradcheck(OPERATIONS[name][0], *inputs(shapes))


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name, shapes", CASES)
def test_fused_equals_composed(name, shapes):
    fused, composed, _ = OPERATIONS[name]
    results = []
    for f in (fused, composed):
        leaves = [double(a) for a in inputs(shapes)]
        y = f(*leaves)
        y.backward(numbers(*y.shape, seed=9))
        results.append([y.data, *(leaf.grad for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name, shapes", FIRST)
def test_strides_change_neither_values_nor_gradients(name, shapes, layout):
    f = OPERATIONS[name][0]
    arrays = [LAYOUTS[layout](a) for a in inputs(shapes)]
    odd, plain = [leaf_on(a) for a in arrays], [double(np.ascontiguousarray(a)) for a in arrays]
    y, z = f(*odd), f(*plain)
    w = np.asarray(numbers(*y.shape, seed=9))
    y.T.backward(np.array(w.T, order="C"))  # the gradient that comes in is transposed, too
    z.backward(w)
    np.testing.assert_allclose(y.data, z.data, rtol=1e-9, atol=1e-12)
    for a, b in zip(odd, plain, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name, shapes", FIRST)
def test_a_broadcast_gradient_is_as_good_as_a_full_one(name, shapes):
    f = OPERATIONS[name][0]
    broadcast, full = [double(a) for a in inputs(shapes)], [double(a) for a in inputs(shapes)]
    f(*broadcast).sum().backward()
    y = f(*full)
    y.backward(np.ones(y.shape))
    for a, b in zip(broadcast, full, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_pieces_make_up_the_range(monkeypatch):
    monkeypatch.setattr(functional, "PIECE", 10)
    for count in (1, 2, 3, 10, 17):
        for width in (1, 3, 40):
            covered, calls = [], []
            functional.in_pieces(lambda s: calls.append(covered.extend(range(count)[s])), count, count * width)
            assert covered == list(range(count))
            assert len(calls) > 1 or count * width < 20 or count == 1


# ---- types and aliasing


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, shapes", CASES)
def test_the_type_stays_forward_and_backward(name, shapes, dtype):
    leaves = [leaf_on(a.astype(dtype), dtype) for a in inputs(shapes)]
    y = OPERATIONS[name][0](*leaves)
    for node in topological_order(y):
        assert node.dtype == dtype
        if node._backward:
            pieces = node._backward(np.ones_like(node.data))
            assert all((piece() if callable(piece) else piece).dtype == dtype for piece in pieces)
    y.sum().backward()
    assert all(leaf.grad.dtype == dtype for leaf in leaves)


@pytest.mark.parametrize("name, shapes", FIRST)
def test_gradients_are_apart_from_all_other_arrays(name, shapes):
    leaves = [double(a) for a in inputs(shapes)]
    y = OPERATIONS[name][0](*leaves)
    upstream = np.ones(y.shape)
    y.backward(upstream)
    arrays = [upstream, y.data, *(leaf.data for leaf in leaves), *(leaf.grad for leaf in leaves)]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    assert all(leaf.grad.flags.writeable for leaf in leaves)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name, shapes", FIRST)
def test_backward_writes_only_into_its_own_memory(name, shapes):
    y = OPERATIONS[name][0](*[leaf_on(a) for a in inputs(shapes)])
    result, upstream = y.data.copy(), np.ones(y.shape)
    upstream.flags.writeable = False
    y._backward(upstream)
    np.testing.assert_array_equal(y.data, result)


@pytest.mark.parametrize("name, shapes", [p for p in FIRST if len(p.values[1]) > 1])
def test_inputs_that_need_no_gradient_get_none(name, shapes):
    for chosen in range(len(shapes)):
        leaves = [Tensor(a, requires_grad=i == chosen) for i, a in enumerate(inputs(shapes))]
        OPERATIONS[name][0](*leaves).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == chosen for i in range(len(shapes))]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "cross_entropy", "gelu", "dropout"])
def test_integers_are_taken_as_float32(name):
    f = OPERATIONS[name][0]
    whole = np.arange(-4, 8).reshape(3, 4)
    y = f(Tensor(whole))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, f(Tensor(whole, dtype=np.float32)).data, rtol=1e-6)


@pytest.mark.parametrize("name, shapes", [p for p in FIRST if p.id in ("layer_norm", "linear", "attention", "self-attention")])
def test_an_integer_input_takes_the_type_of_the_others(name, shapes):
    f, (first, *rest) = OPERATIONS[name][0], inputs(shapes)
    whole, rest = np.round(3 * first).astype(int), [Tensor(a) for a in rest]
    y = f(Tensor(whole), *rest)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, f(Tensor(whole, dtype=np.float32), *rest).data, rtol=1e-6)


# ---- softmax and cross-entropy


def test_softmax_makes_minus_infinity_exactly_zero():
    x = double([[0.0, -np.inf, math.log(3)], [-np.inf, -np.inf, 5.0]])
    y = softmax(x)
    np.testing.assert_allclose(y.data, [[0.25, 0, 0.75], [0, 0, 1]], rtol=1e-12)
    assert (y.data[np.isinf(x.data)] == 0).all()
    y.backward(numbers(2, 3))
    assert np.isfinite(x.grad).all() and (x.grad[np.isinf(x.data)] == 0).all()


def test_log_softmax_of_minus_infinity_stays_minus_infinity():
    x = double([[0.0, -np.inf, math.log(3)]])
    y = log_softmax(x)
    np.testing.assert_allclose(y.data, [[math.log(0.25), -np.inf, math.log(0.75)]], rtol=1e-12)
    y.backward([[1.0, 0.0, 0.0]])  # e_0 - softmax(x)
    np.testing.assert_allclose(x.grad, [[0.75, 0, -0.75]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1e4, -1e4, 1e30, -1e30])
def test_huge_logits_do_not_overflow(offset, dtype):
    x = Tensor([[offset, offset - 1e3 - abs(offset)]], requires_grad=True, dtype=dtype)
    np.testing.assert_array_equal(softmax(x).data, [[1, 0]])
    assert log_softmax(x).data[0, 0] == 0
    assert cross_entropy(x, [0]).item() == 0
    wrong = cross_entropy(x, [1])
    np.testing.assert_allclose(wrong.item(), 1e3 + abs(offset), rtol=1e-6)
    wrong.backward()
    np.testing.assert_array_equal(x.grad, [[1, -1]])


def test_cross_entropy_by_hand():
    # p = [1/4, 3/4] and [1/2, 1/2]; the targets have 3/4 and 1/2
    logits = double([[0.0, math.log(3)], [7.0, 7.0]])
    loss = cross_entropy(logits, [1, 0])
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=1e-12)
    loss.backward()
    np.testing.assert_allclose(logits.grad, [[1 / 8, -1 / 8], [-1 / 4, 1 / 4]], atol=1e-12)


def test_cross_entropy_of_equal_logits_is_the_log_of_the_vocabulary():
    for V in (1, 2, 50_257):
        assert cross_entropy(np.zeros((3, V), dtype=np.float32), [0, V - 1, V // 2]).item() == pytest.approx(
            math.log(V), rel=1e-6
        )


def test_targets_may_be_a_list_an_array_or_a_tensor():
    logits = Tensor(numbers(3, 5))
    losses = {cross_entropy(logits, ids).item() for ids in ([0, 4, 2], np.array([0, 4, 2], np.int32), Tensor([0, 4, 2]))}
    assert len(losses) == 1


@pytest.mark.parametrize("bad", [[0, 5, 1], [0, -1, 1], [0, 1], [[0, 1, 2]], 0])
def test_targets_outside_the_vocabulary_or_of_another_shape_are_refused(bad):
    with pytest.raises(ValueError, match="targets must"):
        cross_entropy(numbers(3, 5), bad)


def test_cross_entropy_of_nothing_is_refused():
    with pytest.raises(ValueError, match="empty"):
        cross_entropy(np.zeros((0, 5), dtype=np.float32), np.zeros(0, dtype=int))


@pytest.mark.parametrize("f", [lambda ids: cross_entropy(numbers(2, 5), ids), lambda ids: embedding(numbers(5, 2), ids)])
def test_ids_must_be_integers(f):
    with pytest.raises(TypeError, match="integers"):
        f([0.0, 1.0])


# ---- gelu, layer_norm, linear, embedding


def test_gelu_far_from_zero_is_x_or_zero():
    x = double([-1e4, -40.0, 0.0, 40.0, 1e4])
    y = gelu(x)
    np.testing.assert_allclose(y.data, [0, 0, 0, 40, 1e4], atol=1e-12)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, [0, 0, 0.5, 1, 1], atol=1e-12)


def test_layer_norm_gives_mean_zero_and_variance_one():
    y = layer_norm(Tensor(100 + 7 * numbers(4, 1000), dtype=np.float64), np.ones(1000), np.zeros(1000)).data
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-5)


def test_layer_norm_by_hand():
    # mean 2, biased variance 1: the unbiased one, 2, would give 1 / sqrt 2
    y = layer_norm(double([[1.0, 3.0]]), double([10.0, 10.0]), double([0.0, 5.0]), eps=0.0)
    np.testing.assert_allclose(y.data, [[-10, 15]], rtol=1e-12)


def test_layer_norm_of_a_constant_row_is_its_bias():
    x = double([[5.0, 5.0, 5.0]])
    y = layer_norm(x, np.ones(3), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(y.data, [[1, 2, 3]])
    y.backward(numbers(1, 3))
    assert np.isfinite(x.grad).all()


def test_linear_needs_the_weights_width():
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(3, 5\)"):
        linear(numbers(3, 5), numbers(2, 4))


def test_embedding_collects_the_gradients_of_repeated_ids():
    weight = double(np.zeros((4, 2)))
    embedding(weight, [[2, 0], [2, 2]]).backward([[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, 40.0]]])
    np.testing.assert_array_equal(weight.grad, [[2, 20], [0, 0], [8, 80], [0, 0]])


def test_embedding_of_one_id_and_of_none():
    weight = double(numbers(4, 2))
    np.testing.assert_array_equal(embedding(weight, 3).data, weight.data[3])
    empty = embedding(weight, np.zeros((2, 0), dtype=int))
    assert empty.shape == (2, 0, 2)
    empty.sum().backward()
    np.testing.assert_array_equal(weight.grad, np.zeros((4, 2)))


@pytest.mark.parametrize("bad", [4, -1])
def test_embedding_refuses_ids_outside_the_table(bad):
    with pytest.raises(ValueError, match=f"0 to 3, got.* {bad}"):
        embedding(numbers(4, 2), [0, bad])


# ---- dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_dropout_drops_with_its_probability_and_keeps_the_mean(p):
    n = 1_000_000
    y = dropout(np.ones(n), p, np.random.default_rng(0)).data
    deviation = math.sqrt(p * (1 - p) / n)  # of the share that is dropped; 2^-17 is the rounding of p
    assert abs((y == 0).mean() - p) < 5 * deviation + 2**-17
    assert abs(y.mean(dtype=np.float64) - 1) < 5 * deviation / (1 - p) + 1e-6
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=2**-17 / (1 - p) + 1e-6)


def test_dropout_drops_elements_independently():
    kept = dropout(np.ones((1000, 1000)), 0.5, np.random.default_rng(0)).data > 0
    for shifted in (kept[1:] & kept[:-1], kept[:, 1:] & kept[:, :-1]):
        assert abs(shifted.mean() - 0.25) < 5 * 0.5 / 1000  # neighbours are both kept a quarter of the time


def test_dropout_of_nothing_is_the_identity():
    x = Tensor(numbers(3, 4), requires_grad=True)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(dropout(x, 0, rng).data, x.data)
    np.testing.assert_array_equal(dropout(x, 0.0, None).data, x.data)
    dropout(x, 0, rng).sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones((3, 4)))


def test_equal_generators_drop_the_same_and_the_gradient_has_the_same_holes():
    x = double(np.ones((20, 20)))
    y, z = (dropout(x, 0.5, np.random.default_rng(seed)) for seed in (4, 4))
    np.testing.assert_array_equal(y.data, z.data)
    assert (dropout(x, 0.5, np.random.default_rng(5)).data != y.data).any()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)


def test_one_generator_drops_differently_each_time():
    rng, x = np.random.default_rng(0), np.ones(100)
    assert (dropout(x, 0.5, rng).data != dropout(x, 0.5, rng).data).any()


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_dropout_refuses_what_is_not_a_probability(p):
    with pytest.raises(ValueError, match="probability"):
        dropout(np.ones(100), p, np.random.default_rng(0))


# ---- causal attention


def test_the_first_token_attends_to_itself_and_equal_keys_average():
    v = numbers(1, 1, 4, 3)
    out = causal_attention(numbers(1, 1, 4, 3), np.zeros((1, 1, 4, 3)), v).data
    expected = np.cumsum(v, axis=2) / np.arange(1, 5)[:, None]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("changed", [1, 5, 7])
def test_changing_a_later_token_leaves_earlier_outputs_bit_equal(changed):
    x = numbers(2, 8, 12).astype(np.float32)
    y = x.copy()
    y[:, changed:] += 100 * numbers(2, 8 - changed, 12, seed=1).astype(np.float32)
    before, after = (causal_self_attention(z, 2).data for z in (x, y))
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(axis=-1).all()
    q, k, v = x.reshape(2, 8, 3, 2, 2).transpose(2, 0, 3, 1, 4)
    q2, k2, v2 = y.reshape(2, 8, 3, 2, 2).transpose(2, 0, 3, 1, 4)
    np.testing.assert_array_equal(
        causal_attention(q, k, v).data[:, :, :changed], causal_attention(q2, k2, v2).data[:, :, :changed]
    )


def test_the_gradient_never_flows_from_the_past_to_the_future():
    q, k, v = (double(numbers(2, 6, 4, seed=i)) for i in range(3))
    causal_attention(q, k, v)[:, 2].sum().backward()
    for t in (k, v):
        assert (t.grad[:, 3:] == 0).all() and (t.grad[:, :3] != 0).any()
    assert (q.grad[:, [0, 1, 3, 4, 5]] == 0).all()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("Tq", [1, 2, 5, 6])
def test_fewer_queries_agree_with_the_last_rows_of_all(Tq):
    q, k, v = (Tensor(numbers(3, 2, 6, 4, seed=i), dtype=np.float64) for i in range(3))
    whole = causal_attention(q, k, v).data
    np.testing.assert_allclose(causal_attention(q[:, :, -Tq:], k, v).data, whole[:, :, -Tq:], atol=1e-12)
    np.testing.assert_allclose(
        attend(q.data[:, :, -Tq:] / 2, k.data, v.data, future_mask(Tq, 6, np.float64)), whole[:, :, -Tq:], atol=1e-12
    )


def test_attention_of_one_tensor_in_three_roles_adds_its_gradients():
    assert gradcheck(lambda x: causal_attention(x, x, x), numbers(2, 4, 3))


def test_huge_scores_do_not_overflow():
    q, v = Tensor(1e4 * np.eye(4), dtype=np.float32, requires_grad=True), numbers(4, 4)
    out = causal_attention(q, q, v)
    np.testing.assert_allclose(out.data, v, rtol=1e-6)  # each finds its own key
    out.sum().backward()
    assert np.isfinite(q.grad).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [-2000, -200, -41, -39, 0, 39, 41, 200, 2000])
def test_only_the_differences_of_a_rows_scores_matter(offset, dtype):
    # The second of two heads is calm, so that one is shifted and one is not; each query's own offset grows with its place.
    q, k, v = (numbers(1, 2, 6, 4, seed=i) for i in range(3))
    expected = causal_attention(*(Tensor(a, dtype=np.float64) for a in (q, k, v))).data
    places, ones = np.array([offset, 0])[None, :, None, None] * np.linspace(0.5, 1, 6)[:, None], np.ones((1, 2, 6, 1))
    longer = [np.concatenate(pair, axis=-1) for pair in ((q, places), (k, ones), (v, 0 * ones))]
    longer[0] *= math.sqrt(5) / math.sqrt(4)  # the heads are wider by one
    longer[0][..., -1] *= math.sqrt(4)
    out = causal_attention(*(Tensor(a, dtype=dtype) for a in longer)).data
    rounding = (100 + 4 * abs(offset)) * np.finfo(dtype).eps  # a score is rounded by its size
    np.testing.assert_allclose(out[..., :-1], expected, rtol=0, atol=rounding)


SHAPES_THAT_DO_NOT_FIT = [
    [(3, 4), (3, 5), (3, 5)],
    [(3, 4), (3, 4), (2, 4)],
    [(4, 4), (3, 4), (3, 4)],
    [(2, 3, 4), (1, 3, 4), (1, 3, 4)],
]


@pytest.mark.parametrize("shapes", SHAPES_THAT_DO_NOT_FIT, ids=str)
def test_attention_refuses_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="attention needs"):
        causal_attention(*inputs(shapes))


@pytest.mark.parametrize("D", [5, 8, 32, 48])
def test_queries_and_keys_get_no_gradient_where_a_single_weight_is_1(D):
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(scale * rng.normal(size=(2, 2, 70, D)), requires_grad=True) for scale in (1e4, 1e4, 1))
    out = causal_attention(q, k, v)
    assert (out.data[:, :, :, None] == v.data[:, :, None]).all(axis=-1).any(axis=-1).all()  # each is a row of v
    out.backward(rng.normal(size=out.shape))
    assert not q.grad.any() and not k.grad.any()  # a small change of the scores changes no weight


@pytest.mark.parametrize("C", [3, 192, 768])
@pytest.mark.parametrize("value", [1000, -7, 5])
def test_layer_norm_of_equal_numbers_is_0(C, value):
    y = layer_norm(np.full((2, C), value), np.ones(C, dtype=np.float32), np.zeros(C, dtype=np.float32))
    assert not y.data.any()
