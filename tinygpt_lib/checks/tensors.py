"""Notebook 01: slopes by nudging, the gradients of a broadcast product, of @ and of max, and the walk back over a graph."""

from collections import Counter

import numpy as np

from tinygpt_lib.gradcheck import numerical_gradient
from tinygpt_lib.tensor import Tensor, unbroadcast

from .judge import Exercise

_rng = np.random.default_rng(1)


def _arrays(*shapes):
    return tuple(_rng.normal(size=shape) for shape in shapes)


def _cubes(x):
    return (x**3).sum()


def _intertwined(x):  # no number's slope is independent of the others
    return (x[0] * x[1] ** 3).sum() + x.sum() ** 2


def _nudged(f, x, h):
    return numerical_gradient(lambda tensor: Tensor(f(tensor.data), dtype=np.float64), [x], 0, h)


def _nudging(f, x, h, copy=np.float64, result=np.float64, back=True):
    x, slopes = np.array(x, dtype=copy), np.zeros(x.shape, dtype=result)
    for index in np.ndindex(x.shape):
        middle = x[index]
        x[index] = middle + h
        up = f(x)
        x[index] = middle - h
        slopes[index] = (up - f(x)) / (2 * h)
        if back:
            x[index] = middle
    return slopes


def _by_flat_copy(f, x, h):
    """Right unless `ravel` has to copy, as it must for a transposed array."""
    return np.zeros(x.shape) if x.ndim > 1 and not x.flags.c_contiguous else _nudged(f, x, h)


CENTRAL = Exercise(
    "Slopes by nudging",
    _nudged,
    cases=(
        (_cubes, _rng.normal(size=3), 0.1),
        (_intertwined, np.array([1.0, -2.0]), 0.01),
        (_intertwined, _rng.normal(size=(2, 4)), 0.05),
        (_intertwined, _rng.normal(size=(4, 2)).T, 0.1),
        (_intertwined, np.array([[1, 2, 0], [3, -1, 2]]), 0.25),
    ),
    mistakes={
        "These are the slopes of nudging up only. Nudge down as well, and take the difference of both.": lambda f, x, h: np.array(
            [(f(x + h * unit) - f(x)) / h for unit in np.eye(x.size).reshape(-1, *x.shape)]
        ).reshape(x.shape),
        "Every slope is twice what it should be: from h below to h above is a way of 2h.": lambda f, x, h: 2 * _nudged(f, x, h),
        "This is the difference itself: a slope is the difference divided by the way between the two points, 2h.":
            lambda f, x, h: 2 * h * _nudged(f, x, h),
        "All numbers are nudged at once, which gives one slope for all of them together. Nudge one and leave the others.":
            lambda f, x, h: np.full(x.shape, (f(x + h) - f(x - h)) / (2 * h)),
        "The first slope is right, and then the nudges pile up: put each number back before you go on to the next.":
            lambda f, x, h: _nudging(f, x, h, back=False),
        "Floats work, integers don't: a copy of integers rounds the nudge away. Copy as floats, `np.array(x, dtype=float)`.":
            lambda f, x, h: _nudging(f, x, h, copy=x.dtype),
        "Floats work, integers don't: `zeros_like` of integers holds integers, and rounds the slopes. Use `np.zeros(x.shape)`.":
            lambda f, x, h: _nudging(f, x, h, result=x.dtype),
        "A transposed matrix isn't nudged at all: `ravel` and `reshape(-1)` copy it. Take the places from `np.ndindex(x.shape)`.":
            _by_flat_copy,
    },
)


def _product_backward(g, a, b):
    return unbroadcast(g * b, a.shape), unbroadcast(g * a, b.shape)


def _only_new_axes(grad, shape):
    return grad.sum(axis=tuple(range(grad.ndim - len(shape))))


def _only_old_axes(grad, shape):
    extra = grad.ndim - len(shape)
    return grad.sum(axis=tuple(extra + i for i, n in enumerate(shape) if n == 1), keepdims=True)


BROADCAST = Exercise(
    "A broadcast product, backwards",
    _product_backward,
    cases=(
        _arrays((3, 4), (3, 4), (3, 4)),
        _arrays((3, 4), (3, 4), (4,)),
        _arrays((3, 3), (3,), (3, 3)),
        _arrays((3, 4), (3, 1), (1, 4)),
        _arrays((2, 3, 4), (2, 1, 4), (3, 1)),
        _arrays((2, 3), (2, 3), ()),
        _arrays((2, 3, 4), (2, 3, 4), (1,)),
        tuple(array.T for array in _arrays((4, 3), (4, 3), (1, 3))),
    ),
    mistakes={
        "Same shapes work; where one was broadcast, its gradient must have its own shape: "
        "sum over the axes along which it was copied.":
            lambda g, a, b: (g * b, g * a),
        "Each gradient has the other factor's: the slope of a * b by a is b. "
        "(Sum over the axes of the one whose gradient it is.)":
            lambda g, a, b: (unbroadcast(g * a, a.shape), unbroadcast(g * b, b.shape)),
        "Where is the other factor? The slope of a * b by a is b: multiply g by it before you sum.":
            lambda g, a, b: (unbroadcast(g, a.shape), unbroadcast(g, b.shape)),
        "Axes that were added in front are summed. "
        "An axis of length 1 that was stretched must be summed too, and stay as an axis of length 1 (`keepdims=True`).":
            lambda g, a, b: (_only_new_axes(g * b, a.shape), _only_new_axes(g * a, b.shape)),
        "Stretched axes of length 1 are summed. Broadcasting can also add axes in front: "
        "g then has more axes than the factor; sum over those too.":
            lambda g, a, b: (_only_old_axes(g * b, a.shape), _only_old_axes(g * a, b.shape)),
        "The sums are right, but an axis of length 1 is lost: (3, 1) became (3,). "
        "A gradient has the shape of what it's the gradient of.":
            lambda g, a, b: tuple(
                unbroadcast(g * other, one.shape).reshape([n for n in one.shape if n > 1] if one.shape != g.shape else g.shape)
                for one, other in ((a, b), (b, a))
            ),
        "A sum, not a mean: every copy adds its whole share.": lambda g, a, b: (
            unbroadcast(g * b, a.shape) * a.size / g.size,
            unbroadcast(g * a, b.shape) * b.size / g.size,
        ),
    },
)


def _matmul_backward(g, a, b):
    a, b = (Tensor(array, requires_grad=True, dtype=np.float64) for array in (a, b))
    (a @ b).backward(g)
    return a.grad, b.grad


def _turned(x):
    return x.swapaxes(-1, -2)


def _matmul_without_sums(g, a, b):
    return g @ _turned(b), _turned(a) @ g


def _axis_by_number(g, a, b):
    if g.ndim > 2:
        raise ValueError("`.T` turned the batch's axis, too")
    return _matmul_without_sums(g, a, b)


MATMUL = Exercise(
    "A matrix product, backwards",
    _matmul_backward,
    cases=(
        _arrays((2, 4), (2, 3), (3, 4)),
        _arrays((3, 3), (3, 3), (3, 3)),
        _arrays((1, 1), (1, 5), (5, 1)),
        tuple(_turned(array) for array in _arrays((4, 2), (3, 2), (4, 3))),
        _arrays((5, 2, 4), (5, 2, 3), (5, 3, 4)),
        _arrays((2, 3, 3, 3), (2, 3, 3, 3), (2, 3, 3, 3)),
        _arrays((5, 2, 4), (5, 2, 3), (3, 4)),
        _arrays((3, 2, 2), (2, 2), (3, 2, 2)),
    ),
    mistakes={
        "One matrix works, a batch of them doesn't: `.T` turns all axes round, `swapaxes(-1, -2)` only the last two.":
            _axis_by_number,
        "Nearly: a matrix that all of a batch share was used once for each of "
        "them, so its gradients must be summed over the batch.":
            _matmul_without_sums,
        "The two are exchanged: return the gradient by a first, then that by b.": lambda g, a, b: _matmul_backward(g, a, b)[::-1],
        "Both transposes are missing. With square matrices the shapes can't warn you: "
        "the derivation by index says g @ bᵀ and aᵀ @ g.":
            lambda g, a, b: (g @ b, a @ g),
        "The order is wrong: with square matrices the shapes can't warn you. "
        "It's g @ bᵀ, with g on the left as a was, and aᵀ @ g.":
            lambda g, a, b: (_turned(b) @ g, g @ _turned(a)),
    },
)


def _max_backward(g, x):
    x = Tensor(x, requires_grad=True, dtype=np.float64)
    x.max(axis=-1).backward(g)
    return x.grad


def _at_largest(x):
    return x == x.max(axis=-1, keepdims=True)


def _first_only(g, x):
    return (np.arange(x.shape[-1]) == x.argmax(axis=-1)[..., None]) * np.asarray(g)[..., None]


MAX = Exercise(
    "The largest, backwards",
    _max_backward,
    cases=(
        (np.array(2.0), np.array([1.0, 5.0, 3.0])),
        (_rng.normal(size=3), _rng.normal(size=(3, 4))),
        (_rng.normal(size=3), np.array([[1.0, 7.0, 7.0], [2.0, 2.0, 2.0], [0.0, -1.0, -5.0]])),
        (np.array([1.0, -3.0]), np.array([[-np.inf, -4.0, -np.inf, -4.0], [-1e30, -1e30, -1e30, -2e30]])),
        (_rng.normal(size=(2, 5)), _rng.integers(0, 3, size=(3, 5, 2)).astype(float).T),
        (np.array(1.0), np.array([1.0, 1.0 + 1e-9])),
    ),
    mistakes={
        "Equal ones all get the whole g, so more goes back than came: they share it, each an equal part.":
            lambda g, x: _at_largest(x) * np.asarray(g)[..., None],
        "Without ties it's right. With them `argmax` gives everything to the first; the equal ones should share it.": _first_only,
        "This is where the largest are, 1 and 0. How much goes back there? The gradient g of each row, shared.":
            lambda g, x: _at_largest(x) / _at_largest(x).sum(axis=-1, keepdims=True),
        "This is the mean's gradient: everyone gets a share. Only the largest has an influence on the maximum; the others get 0.":
            lambda g, x: np.ones(x.shape) * np.asarray(g)[..., None] / x.shape[-1],
        "Each row has a largest number of its own (`axis=-1, keepdims=True`). Here only the largest of all gets something.":
            lambda g, x: (x == x.max()) / (x == x.max()).sum() * np.asarray(g)[..., None],
        "The rows' gradients are lined up with the columns: g needs a last axis of length 1, `g[..., None]`.":
            lambda g, x: _at_largest(x) / _at_largest(x).sum(axis=-1, keepdims=True) * g,
    },
)


def _in_order(graph, root):
    """The nodes that root was made from, each before its parents."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((parent, False) for parent, _ in graph[node])]
    return order[::-1]


def _gradient(graph, root, leaf, order=None, put=lambda old, new: old + new, start=1.0):
    grads = dict.fromkeys(graph, 0.0)
    grads[root] = start
    for node in order or _in_order(graph, root):
        for parent, slope in graph[node]:
            grads[parent] = put(grads[parent], slope * grads[node])
    return grads[leaf]


def _breadth_first(graph, root):
    order, met = [root], {root}
    for node in order:
        new = dict.fromkeys(parent for parent, _ in graph[node] if parent not in met)
        order += new
        met.update(new)
    return order


def _recursively(graph, node, leaf):
    return (node == leaf) + sum(slope * _recursively(graph, parent, leaf) for parent, slope in graph[node])


def _every_path(graph, root, leaf):
    total, waiting = 0.0, [(root, 1.0)]
    while waiting:
        node, product = waiting.pop()
        total += product * (node == leaf)
        waiting += [(parent, product * slope) for parent, slope in graph[node]]
    return total


def _one_path(graph, root, leaf):
    """The product along the first arrows that lead from root to leaf."""
    known = {leaf: 1.0}
    for node in reversed(_in_order(graph, root)):
        known.setdefault(node, next((slope * known[parent] for parent, slope in graph[node] if parent in known), None))
        if known[node] is None:
            del known[node]
    return known[root]


def _waiting_for_all(graph, root, leaf):
    """A node is ready when all that use it are done, also those that root wasn't made from."""
    uses, ready, grads = Counter(parent for node in graph for parent, _ in graph[node]), [root], dict.fromkeys(graph, 0.0)
    grads[root] = 1.0
    for node in ready:
        for parent, slope in graph[node]:
            grads[parent] += slope * grads[node]
            uses[parent] -= 1
            if not uses[parent]:
                ready.append(parent)
    return grads[leaf]


def _sum_of_slopes(graph, root, leaf):
    grads = dict.fromkeys(graph, 0.0)
    for node in _in_order(graph, root):
        for parent, slope in graph[node]:
            grads[parent] += slope + grads[node]
    return grads[leaf]


# In each of these only one order is right, so that a mistake gives the same number to everyone who makes it.
_CHAIN = {"c": [("b", -2.0)], "b": [("a", 5.0)], "a": []}
_SQUARE = {"x": [], "y": [("x", 3.0), ("x", 3.0)]}
_DIAMOND = {"x": [], "u": [("x", 2.0)], "v": [("x", -1.0), ("u", 5.0)], "y": [("u", 3.0), ("v", 4.0)]}
_LATE = {"z": [("y", 2.0)], "y": [("x", 0.5), ("u", 3.0)], "u": [("v", -2.0)], "v": [("x", 4.0)], "x": [("w", 10.0)], "w": []}
_SHUFFLED = {n: [(n - 1, 0.5), (n - 2, 1.5)] if n > 1 else [(0, -3.0)] * n for n in (4, 0, 6, 7, 2, 5, 1, 3)}
_BESIDE = {"y": [("u", 1.0), ("x", 2.0)], "x": [("w", 3.0)], "w": [], "z": [("x", 5.0)], "u": [("x", 3.0), ("w", 7.0)]}


class _Patient(dict):
    """A graph that can be looked at ten thousand times."""

    looks = 0

    def __getitem__(self, key):
        self.looks += 1
        if self.looks > 10_000:
            self.looks = 0
            raise RuntimeError("ten thousand looks at a graph of 23 nodes")
        return super().__getitem__(key)


_LADDER = _Patient({0: [], **{n: [(n - 1, 0.5), (n - 1, 0.5)] for n in range(1, 23)}})
_LONG = {"0": [], **{f"{i}": [(f"{i - 1}", -1.0)] for i in range(1, 1501)}}

WALK = Exercise(
    "The walk back",
    _gradient,
    cases=(
        (_CHAIN, "c", "a"),
        (_SQUARE, "y", "x"),
        (_DIAMOND, "y", "x"),
        (_LATE, "z", "w"),
        (_SHUFFLED, 7, 0),
        (_BESIDE, "y", "w"),
        (_CHAIN, "a", "a"),
        (_LONG, "1500", "0"),
        (_LADDER, 22, 0),
    ),
    mistakes={
        "A node with several uses keeps only what came last: its gradients add up, so `+=` and not `=`.":
            lambda graph, root, leaf: _gradient(graph, root, leaf, put=lambda old, new: new),
        "This follows one path from the root to the leaf. There may be several, and their products add up.": _one_path,
        "The paths are right, but their number doubles with every node that is used twice: here are millions. "
        "Add up what arrives at a node, and pass it on once.":
            _every_path,
        "It's right until a graph is very deep: a function that calls itself for each node exhausts Python's stack. "
        "Keep the waiting nodes in a list of your own.":
            _recursively,
        "A node passes its gradient on before all its uses have reported, so a part never arrives. "
        "Wait until every node that was made from it is done.":
            lambda graph, root, leaf: _gradient(graph, root, leaf, order=_breadth_first(graph, root)),
        "This relies on the dict's order, from the last to the first. Its nodes come in any order: "
        "find out yourself which must be done before which.":
            lambda graph, root, leaf: _gradient(graph, root, leaf, order=list(graph)[::-1]),
        "This relies on the dict's order, from the first to the last. Its nodes come in any order: "
        "start at the root, and find your way from there.":
            lambda graph, root, leaf: _gradient(graph, root, leaf, order=list(graph)),
        "Nothing comes back, as nothing was sent: the gradient of the root by itself is 1.":
            lambda graph, root, leaf: 0.0 * _gradient(graph, root, leaf),
        "A node waits here for uses that root wasn't made from, and they never come: count only uses on the way from root.":
            _waiting_for_all,
        "Along a path the slopes multiply; here they are added. Only the paths' products are added.": _sum_of_slopes,
    },
)


EXERCISES = [CENTRAL, BROADCAST, MATMUL, MAX, WALK]
