"""Tensor: values against NumPy, gradients against central differences, types, and the graph."""

import operator
import threading

import numpy as np
import pytest

from tinygpt_lib import Tensor, gradcheck, no_grad
from tinygpt_lib.functional import linear
from tinygpt_lib.tensor import add_gradients, record, topological_order


def numbers(*shape, seed=0):
    """Floats of both signs, no two equal and none near 0."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape))


def double(array, requires_grad=True):
    return Tensor(array, requires_grad=requires_grad, dtype=np.float64)


def leaf_on(array):
    """A leaf whose data is `array` itself, strides and all, and which nobody may write to."""
    leaf = double(0.0)
    leaf.data = array.view()
    leaf.data.flags.writeable = False
    return leaf


BINARY = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv}
SHAPES = [
    [(2, 3), (2, 3)], [(2, 3), (3,)], [(3,), (2, 3)], [(2, 1), (1, 3)], [(4, 1, 3), (2, 1)],
    [(), (2, 3)], [(2, 3), ()], [(), ()], [(1,), (1, 1)], [(1, 1), (2, 3)], [(0, 3), (3,)],
]  # fmt: skip
PRODUCTS = [
    [(2, 3), (3, 4)], [(5, 2, 3), (3, 4)], [(2, 3), (5, 3, 4)], [(5, 2, 3), (5, 3, 4)],
    [(1, 2, 3), (5, 3, 4)], [(2, 1, 2, 3), (5, 3, 4)], [(1, 1), (1, 1)], [(3, 1), (1, 2)],
]  # fmt: skip
ONE = {  # name: (of a Tensor, the same of an array)
    "neg": (lambda x: -x, lambda a: -a),
    "cube": (lambda x: x**3, lambda a: a * a * a),
    "first power": (lambda x: x**1, lambda a: a),
    "zeroth power": (lambda x: x**0 * x, lambda a: a),
    "inverse square": (lambda x: x**-2, lambda a: 1 / (a * a)),
    "exp": (lambda x: x.exp(), np.exp),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "log": (lambda x: (x * x).log(), lambda a: np.log(a * a)),
    "sqrt": (lambda x: (x * x).sqrt(), np.abs),
    "fractional power": (lambda x: (x * x) ** 1.5, lambda a: np.abs(a) ** 3),
    "1 - x": (lambda x: 1 - x, lambda a: 1 - a),
    "1 / x": (lambda x: 1 / x, lambda a: 1 / a),
    "x used twice": (lambda x: x * x + x, lambda a: a * a + a),
    "x / x": (lambda x: x / x + x, lambda a: 1 + a),
    "sum": (lambda x: x.sum(), np.sum),
    "sum, keepdims": (lambda x: x.sum(keepdims=True), lambda a: a.sum(keepdims=True)),
    "sum of axis 0": (lambda x: x.sum(axis=0), lambda a: a.sum(0)),
    "sum of axes": (lambda x: x.sum(axis=(0, -1)), lambda a: a.sum((0, -1))),
    "mean": (lambda x: x.mean(), np.mean),
    "mean of last": (lambda x: x.mean(axis=-1, keepdims=True), lambda a: a.mean(-1, keepdims=True)),
    "mean of axes": (lambda x: x.mean(axis=(1, 2)), lambda a: a.mean((1, 2))),
    "max": (lambda x: x.max(), np.max),
    "max of axis 1": (lambda x: x.max(axis=1), lambda a: a.max(1)),
    "max of last": (lambda x: x.max(axis=-1, keepdims=True), lambda a: a.max(-1, keepdims=True)),
    "max of axes": (lambda x: x.max(axis=(0, -1)), lambda a: a.max((0, -1))),
    "reshape": (lambda x: x.reshape(-1), lambda a: a.reshape(-1)),
    "reshape to tuple": (lambda x: x.reshape((x.shape[2], -1, 1)), lambda a: a.reshape(a.shape[2], -1, 1)),
    "transpose": (lambda x: x.transpose(0, -1), lambda a: a.swapaxes(0, -1)),
    "permute": (lambda x: x.permute(1, 2, 0), lambda a: a.transpose(1, 2, 0)),
    "permute from behind": (lambda x: x.permute(-1, 0, 1), lambda a: a.transpose(2, 0, 1)),
    "T": (lambda x: x.T, lambda a: a.T),
    "slice": (lambda x: x[:, :1, ::2], lambda a: a[:, :1, ::2]),
    "index": (lambda x: x[-1], lambda a: a[-1]),
    "one number": (lambda x: x[0, 0, 0], lambda a: a[0, 0, 0]),
    "new axis": (lambda x: x[..., None, 0], lambda a: a[..., None, 0]),
    "rows by list": (lambda x: x[[0, -1, 0]], lambda a: a[[0, -1, 0]]),
    "rows by Tensor": (lambda x: x[Tensor([[0, 0], [0, -1]])], lambda a: a[[[0, 0], [0, -1]]]),
    "pairs": (lambda x: x[[0, 0, -1], :, [0, 0, 0]], lambda a: a[[0, 0, -1], :, [0, 0, 0]]),
    "mask": (lambda x: x[numbers(*x.shape) > 0], lambda a: a[numbers(*a.shape) > 0]),
}
LAYOUTS = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "sliced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}
one = pytest.mark.parametrize("name", ONE)


# ---- values and gradients


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_broadcasts_and_differentiates(name, shapes):
    a, b = numbers(*shapes[0]), numbers(*shapes[1], seed=1)
    np.testing.assert_allclose(BINARY[name](double(a), double(b)).data, BINARY[name](a, b), rtol=1e-12)
    assert gradcheck(BINARY[name], a, b)


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matrix_products_broadcast_and_differentiate(shapes):
    a, b = numbers(*shapes[0]), numbers(*shapes[1], seed=1)
    np.testing.assert_allclose((double(a) @ double(b)).data, np.matmul(a, b), rtol=1e-12)
    assert gradcheck(operator.matmul, a, b)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 1)], ids=str)
@one
def test_every_operation_on_one_tensor_is_numpys_and_differentiates(name, shape):
    f, expected = ONE[name]
    np.testing.assert_allclose(f(double(numbers(*shape))).data, expected(numbers(*shape)), rtol=1e-12)
    assert gradcheck(f, numbers(*shape))


@pytest.mark.parametrize("layout", LAYOUTS)
@one
def test_strides_change_neither_values_nor_gradients(name, layout):
    f, expected = ONE[name]
    odd = leaf_on(LAYOUTS[layout](numbers(2, 3, 4)))
    plain = double(np.ascontiguousarray(odd.data))
    f(odd).sum().backward()  # the gradient that comes in is broadcast, too
    f(plain).backward(np.ones_like(expected(plain.data)))
    np.testing.assert_allclose(f(odd).data, expected(odd.data), rtol=1e-12)
    np.testing.assert_allclose(odd.grad, plain.grad, rtol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("f", [*BINARY.values(), operator.matmul])
def test_strides_of_two_operands_do_not_matter(f, layout):
    a, b = numbers(3, 3), numbers(3, 3, seed=1)
    odd, plain = [leaf_on(LAYOUTS[layout](x)) for x in (a, b)], [double(LAYOUTS[layout](x)) for x in (a, b)]
    w = numbers(3, 3, seed=2)
    f(*odd).T.backward(np.ascontiguousarray(w.T))
    f(*plain).backward(w)
    for x, y in zip(odd, plain, strict=True):
        np.testing.assert_allclose(x.grad, y.grad, rtol=1e-12)


def test_ties_in_max_share_the_gradient():
    x = double([[5.0, 1.0, 5.0], [2.0, 2.0, 2.0]])
    x.max(axis=1).backward([6.0, 9.0])
    np.testing.assert_array_equal(x.grad, [[3, 0, 3], [3, 3, 3]])
    y = double([5.0, 5.0, 1.0])
    y.max().backward()
    np.testing.assert_array_equal(y.grad, [0.5, 0.5, 0])


def test_zeroth_power_of_zero_has_gradient_zero():
    x = double([0.0, 2.0])
    (x**0).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0])


# ---- types


@pytest.mark.parametrize("data", [3, [1, 2], np.int32([1]), np.uint8([1]), np.int64(4), np.arange(3)], ids=repr)
def test_integers_stay_integers_and_have_no_gradients(data):
    assert Tensor(data).dtype.kind == "i"
    np.testing.assert_array_equal(Tensor(data).data, data)
    with pytest.raises(TypeError, match="float"):
        Tensor(data, requires_grad=True)


def test_an_id_counts_and_looks_up():
    ids = Tensor([[1, 2]])
    assert bytes(list(ids[0])) == b"\x01\x02" and int(ids[0, 1]) == 2 and "abc"[ids[0, 0]] == "b"
    with pytest.raises(TypeError):
        range(Tensor(2.0))


@pytest.mark.parametrize("data", [3.0, [1, 2.5], np.float64(2), np.ones(3), np.float16([1]), [True, False]], ids=repr)
def test_everything_else_becomes_float32_unless_asked(data):
    assert Tensor(data).dtype == np.float32
    assert Tensor(data, dtype=np.float64).dtype == np.float64
    assert Tensor(data, requires_grad=True).requires_grad


@pytest.mark.parametrize("data", ["text", None, [1j], [...], [[1, 2], [3]]], ids=repr)
def test_what_is_not_numbers_is_refused(data):
    with pytest.raises((TypeError, ValueError)):
        Tensor(data)


OPERANDS = [2, 2.5, True, np.float64(2), np.float32(2), np.int64(2)]
OPERANDS += [np.arange(1, 4), np.ones(3), np.ones(3) > 0, Tensor([1, 2, 3])]


def assert_one_type(y, dtype):
    """y, all that it was made from, and every gradient on the way have the type."""
    for node in topological_order(y):
        assert node.dtype == dtype
        if node._backward:
            pieces = node._backward(np.ones_like(node.data))
            assert all(piece is None or piece.dtype == dtype for piece in pieces)
    leaf = topological_order(y)[0]
    y.sum().backward()
    assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("other", OPERANDS, ids=repr)
@pytest.mark.parametrize("name", BINARY)
def test_mixed_arithmetic_gives_the_float_tensors_type(name, other, dtype):
    for shape in [(2, 3), ()]:
        x = Tensor(numbers(*shape), requires_grad=True, dtype=dtype)
        assert_one_type(BINARY[name](x, other), dtype)
        y = BINARY[name](other, x)
        assert isinstance(y, Tensor)
        assert_one_type(y, dtype)
        plain = other.data if isinstance(other, Tensor) else other
        if not isinstance(other, (bool, np.ndarray)):  # NumPy refuses - for booleans
            np.testing.assert_allclose(y.data, BINARY[name](plain, x.data), rtol=1e-6)


@pytest.mark.parametrize("exponent", [2, 0.5, np.float64(2), np.float32(1.5), np.int64(3), -1], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_keep_the_type(exponent, dtype):
    for shape in [(2, 3), ()]:
        assert_one_type(Tensor(np.abs(numbers(*shape)), requires_grad=True, dtype=dtype) ** exponent, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@one
def test_every_operation_keeps_the_type(name, dtype):
    assert_one_type(ONE[name][0](Tensor(numbers(2, 3, 4), requires_grad=True, dtype=dtype)), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_arrays_and_integers_keep_the_type(dtype):
    x = Tensor(numbers(3, 3), requires_grad=True, dtype=dtype)
    for other in (np.ones((3, 3)), np.arange(9).reshape(3, 3), Tensor(np.eye(3, dtype=int))):
        assert_one_type(x @ other, dtype)
        assert_one_type(other @ x, dtype)


def test_integers_with_integers():
    i = Tensor([[1, 2], [3, 4]])
    for y in (i + 1, i - i, 3 * i, i**2, i @ i, i.sum(), i.max(axis=0), i[0], i.reshape(4), i.T, -i):
        assert y.dtype.kind == "i"
    mixed = (i + 0.5, i * np.float64(2), np.ones(2) - i)
    for y in (*mixed, i / 2, i / i, 1 / i, i**-1, i**0.5, i.exp(), i.log(), i.sqrt(), i.tanh(), i.mean()):
        assert y.dtype == np.float32
    np.testing.assert_allclose((i / 2).data, [[0.5, 1], [1.5, 2]])
    np.testing.assert_allclose((i**-1).data, [[1, 0.5], [1 / 3, 0.25]], rtol=1e-6)
    assert i.mean().item() == 2.5


@pytest.mark.parametrize(
    "f", [lambda x: x * 2, lambda x: x + x, lambda x: x**2, lambda x: x.exp(), lambda x: x.sum(), lambda x: x[...]]
)
def test_data_and_gradients_are_arrays_even_of_one_number(f):
    x = double(3.0)
    y = f(x)
    y.backward()
    assert isinstance(y.data, np.ndarray) and isinstance(x.grad, np.ndarray)


# ---- the graph


def test_a_node_used_twice_collects_both_gradients():
    x = double([1.0, 2.0])
    y = x * 3
    (y * y + y).sum().backward()  # d (9x^2 + 3x) / dx = 18x + 3
    np.testing.assert_allclose(x.grad, [21, 39])


def test_a_diamond_of_shared_nodes_is_walked_once_each():
    x = double(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


@pytest.mark.parametrize("step", [lambda y: y + 1, lambda y: y * 1.0, lambda y: y.reshape(1, 1), lambda y: -y], ids="+*r-")
def test_ten_thousand_chained_operations_pass(step):
    x = double([[1.0]])
    y = x
    for _ in range(10_000):
        y = step(y)
    y.backward()
    assert x.grad.item() == 1


def test_a_long_chain_can_be_dropped_without_backward():
    y = double(1.0)
    for _ in range(100_000):
        y = y + 1
    del y


def test_what_only_a_leaf_waits_for_can_be_left_for_later():
    def leaves_and_loss():
        x, weight, other = double(numbers(2, 3)), double(numbers(4, 3, seed=1)), double(numbers(3, 4, seed=2))
        y = linear(linear(x, weight), other * 2)  # the gradient of other * 2 isn't only for a leaf
        return (x, other, weight), (linear(y, weight) ** 2).sum()

    (leaves, loss), later = leaves_and_loss(), []
    loss.backward()
    others, loss = leaves_and_loss()
    add_gradients(loss.gradients(later=lambda *product: later.append(product)))
    [(leaf, product)] = later  # one of the weight's two products, so that their sum has one order
    assert leaf is others[2]
    leaf.grad += product()
    for leaf, other in zip(leaves, others, strict=True):
        np.testing.assert_allclose(leaf.grad, other.grad, rtol=1e-14)


def test_gradients_are_what_backward_adds_and_change_no_leaf():
    x, y, frozen = double([1.0, 2.0]), double([3.0, 5.0]), Tensor([7.0, 7.0], dtype=np.float64)
    found = (x * x * frozen + x + y).sum().gradients()
    assert set(found) == {x, y} and x.grad is None and y.grad is None
    np.testing.assert_array_equal(found[x], 14 * x.data + 1)
    np.testing.assert_array_equal(found[y], [1, 1])
    found[y] += 1  # an array of its own, which other gradients don't see
    np.testing.assert_array_equal(found[x], 14 * x.data + 1)


def test_backward_twice_is_an_error():
    x = double([1.0, 2.0])
    shared = x * x
    first, second = shared.sum(), (shared * 2).sum()
    first.backward()
    for loss in (first, second):
        with pytest.raises(RuntimeError, match="again"):
            loss.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


def test_gradients_accumulate_over_two_graphs():
    x = double([1.0, 2.0])
    (x * 3).sum().backward()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [5, 7])
    x.grad = None
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_backward_starts_from_a_scalar_or_a_gradient_of_the_right_shape():
    x = double([1.0, 2.0])
    with pytest.raises(ValueError, match=r"\(2,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"\(2,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(ValueError, match="requires_grad"):
        double([1.0], requires_grad=False).sum().backward()
    (x * 2).backward(Tensor([1, 10]))
    np.testing.assert_array_equal(x.grad, [2, 20])


@pytest.mark.parametrize("f", [*BINARY.values(), operator.matmul])
def test_operands_that_need_no_gradient_get_none(f):
    for first in (True, False):
        a, b = double(numbers(2, 2), requires_grad=first), double(numbers(2, 2), requires_grad=not first)
        f(a, b).sum().backward()
        assert (a.grad is not None, b.grad is not None) == (first, not first)
    assert not f(Tensor(numbers(2, 2)), Tensor(numbers(2, 2))).requires_grad


def test_intermediate_results_keep_no_gradient():
    x = double([1.0])
    y = x * 2
    (y * 3).backward()
    assert y.grad is None and x.grad == 6


def test_detach_stops_the_gradient():
    x = double([2.0, 3.0])
    y = (x * x).detach()
    assert not y.requires_grad
    (x * y).sum().backward()  # y counts as a constant: d = y
    np.testing.assert_array_equal(x.grad, [4, 9])


def test_detach_shares_the_array_and_leaves_the_original_differentiable():
    x = double([2.0])
    assert x.detach().data is x.data
    assert x.requires_grad and not x.detach().requires_grad


def assert_all_apart(arrays):
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in arrays[:i])


@pytest.mark.parametrize("f", [operator.add, operator.sub, lambda a, b: a.T.T + b.reshape(2, 2), lambda a, b: (a + b) + (a + b)])
def test_gradients_never_alias_each_other_or_the_callers_arrays(f):
    sources, upstream = [np.ones((2, 2)), np.full((2, 2), 2.0)], np.ones((2, 2))
    a, b = map(double, sources)
    f(a, b).backward(upstream)
    assert_all_apart([a.grad, b.grad, a.data, b.data, upstream, *sources])
    before = b.grad.copy()
    a.grad += 100
    f(a, b).sum().backward()
    np.testing.assert_array_equal(b.grad, 2 * before)


def test_the_gradient_of_a_sum_can_be_written_to():
    x = double(np.ones((2, 3)))
    x.sum().backward()
    x.grad[0, 0] = 7
    np.testing.assert_array_equal(x.grad, [[7, 1, 1], [1, 1, 1]])


def test_a_tensor_copies_the_callers_array():
    array = np.ones(2, dtype=np.float32)
    t, other = Tensor(array), Tensor(Tensor(array))
    array[0] = 9
    assert t.data[0] == 1 and other.data[0] == 1


# ---- no_grad


def records():
    return (double(1.0) * 2).requires_grad


def test_no_grad_remembers_nothing_and_nests():
    with no_grad():
        assert not records()
        with no_grad():
            assert not records()
        assert not records()
    assert records()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert records()


def test_no_grad_as_a_decorator_holds_for_every_call():
    @no_grad()
    def inside(fail=False):
        if fail:
            raise KeyError
        return records()

    assert not inside() and not inside() and records()
    with pytest.raises(KeyError):
        inside(fail=True)
    assert records() and inside.__name__ == "inside"


def test_no_grad_leaves_leaves_and_backward_alone():
    x = double([3.0])
    y = x * x
    with no_grad():
        assert double([1.0]).requires_grad
        y.backward()
    assert x.grad == 6


def test_no_grad_holds_in_its_own_thread_only():
    entered, checked, seen = threading.Event(), threading.Event(), {}

    def work():
        with no_grad():
            entered.set()
            checked.wait(10)
            seen["within"] = records()
        seen["after"] = records()

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(10)
    with no_grad():
        seen["main within"] = records()
    seen["main"] = records()
    checked.set()
    thread.join()
    assert seen == {"within": False, "after": True, "main within": False, "main": True}


# ---- looking at it


def test_item_length_and_conversion_to_an_array():
    t = Tensor([[1.5, 2.0]])
    assert (len(t), t.shape, t.ndim, t.size, t[0, 0].item()) == (1, (1, 2), 2, 2, 1.5)
    assert t.numpy() is t.data
    np.testing.assert_array_equal(np.asarray(t), [[1.5, 2]])
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        t.item()


def test_iteration_goes_over_the_rows():
    x = double(numbers(2, 3))
    first, second = x
    (first + second * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [[1, 1, 1], [2, 2, 2]])


@pytest.mark.parametrize(
    "bad",
    [
        lambda x: x @ Tensor([1.0, 2.0]),
        lambda x: x @ Tensor(numbers(3, 2)),
        lambda x: x + Tensor(numbers(3)),
        lambda x: x.reshape(3),
    ],
)
def test_shapes_that_do_not_fit_are_refused(bad):
    with pytest.raises(ValueError):
        bad(Tensor(numbers(2, 2)))


@pytest.mark.parametrize("exponent", ["2", None, Tensor(2.0), [1, 2]], ids=repr)
def test_an_exponent_must_be_a_number(exponent):
    with pytest.raises(TypeError, match="exponent"):
        Tensor([1.0]) ** exponent


# ---- as PyTorch's habits have it


def test_a_scalar_is_printed_and_tested_like_a_number():
    loss = Tensor(2.5)
    assert f"{loss:.2f}" == "2.50" and float(loss) == 2.5 and loss > 2 and not Tensor(0)
    with pytest.raises(ValueError, match="one element"):
        bool(Tensor([1, 2]))


def test_comparisons_are_element_by_element():
    assert (Tensor([1, 2, 3]) == Tensor([1, 0, 3])).tolist() == [True, False, True]
    assert (Tensor([1.0, 2.0]) < 1.5).tolist() == [True, False] and len({Tensor(1), Tensor(1)}) == 2


def test_one_array_for_two_parents_is_not_shared():
    def doubled_sum(a, b):
        def backward(g):
            d = g * 2
            return d, d

        return record(a.data * 2 + b.data * 2, (a, b), backward)

    a, b = (Tensor([1.0], requires_grad=True) for _ in range(2))
    (doubled_sum(a, b) + a + 3 * b).sum().backward()
    assert a.grad.tolist() == [3] and b.grad.tolist() == [5]
