"""Tensor: a NumPy array that remembers how it was made, so that it can be differentiated."""

import operator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

_grad_enabled = ContextVar("grad_enabled", default=True)


@contextmanager
def no_grad():
    """Within this context, or a function decorated with @no_grad(), operations remember nothing.

    Don't hold it across a `yield`: a generator runs in its caller's context, which would then remember nothing either.
    """
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def record(data, parents, backward):
    """The Tensor of an operation's result `data`, remembering its `parents` and how to go back.

    `backward(g)` takes the gradient of the result, an array of its shape, and returns one gradient
    for each parent, or None where a parent needs none: a new array, a view, `g` itself, or a function
    that computes one, which may be called after the walk: so nobody writes into `g`. A graph is
    walked back once, so an array that was kept for it may be written over and returned.
    """
    out = Tensor.__new__(Tensor)
    out.data, out.grad = np.asarray(data), None
    out.requires_grad = _grad_enabled.get() and any([parent.requires_grad for parent in parents])
    out._parents, out._backward = (parents, backward) if out.requires_grad else ((), None)
    return out


def as_tensor(value):
    """`value` itself if it is a Tensor, else a Tensor of it."""
    return value if isinstance(value, Tensor) else Tensor(value)


def unbroadcast(grad, shape):
    """Sum `grad` over the axes along which an array of `shape` was broadcast: the copies share it."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    stretched = tuple(extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1)
    return grad.sum(axis=(*range(extra), *stretched)).reshape(shape)


def topological_order(root):
    """Every Tensor that `root` was made from and that has a gradient, each after its parents.

    Iterative: a chain of ten thousand operations would exhaust Python's stack.
    """
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(parent, False) for parent in node._parents if parent.requires_grad]
    return order


def _used_up(_):
    raise RuntimeError("this graph was already walked back by backward(), which frees it: compute the loss again")


def _comparison(name):
    compare = getattr(operator, name)
    return lambda self, other: compare(self.data, other.data if isinstance(other, Tensor) else other)


class Tensor:
    """An array with a gradient.

    data: numbers, nested lists, an array (copied) or a Tensor. Integers stay integers; everything
    else becomes float32 unless `dtype` says otherwise (np.float64 for gradient checks).
    """

    __slots__ = ("data", "grad", "requires_grad", "_parents", "_backward")
    __array_ufunc__ = None  # array * tensor then asks the Tensor, not NumPy

    def __init__(self, data, requires_grad=False, dtype=None):
        array = _numeric_array(data)
        if dtype is None:
            dtype = np.int64 if array.dtype.kind in "iu" else np.float32
        self.data = array.astype(dtype)
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(f"only floats can have gradients, this Tensor holds {self.data.dtype}: pass dtype=np.float32")
        self.grad, self.requires_grad = None, bool(requires_grad)
        self._parents, self._backward = (), None

    # ---- looking at it

    shape, ndim, size, dtype = (property(operator.attrgetter(f"data.{name}")) for name in ("shape", "ndim", "size", "dtype"))

    def __len__(self):
        return len(self.data)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self):
        body = np.array2string(self.data, precision=4, separator=", ", prefix="Tensor(")
        return f"Tensor({body}{', requires_grad=True' if self.requires_grad else ''})"

    def __float__(self):
        return float(self.item())

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def __bool__(self):
        return bool(self.item())

    def item(self):
        """The value of a Tensor of one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor of one element, got shape {self.shape}")
        return self.data.item()

    __index__ = item  # so that ids can be counted and looked up with

    def numpy(self):
        """The array itself, not a copy."""
        return self.data

    def detach(self):
        """The same array as a Tensor that remembers nothing."""
        return record(self.data, (), None)

    def twin(self):
        """A leaf on the same array, with a gradient of its own."""
        leaf = self.detach()
        leaf.requires_grad = self.requires_grad
        return leaf

    # ---- walking back

    def backward(self, gradient=None):
        """Add to `.grad` of every leaf the gradient of this Tensor, a scalar unless `gradient` is given.

        The graph is freed on the way, as in PyTorch: a second call on it is an error.
        """
        add_gradients(self.gradients(gradient))

    def gradients(self, gradient=None, later=None):
        """{leaf: array} of what `backward` adds to `.grad`, which stays as it is.

        later(leaf, product), if given, is told of products that only a leaf waits for, functions that nobody has called,
        one at most for each leaf; the dict is without them.
        """
        if not self.requires_grad:
            raise ValueError("backward() needs a Tensor made from others with requires_grad=True, and outside no_grad()")
        if gradient is None:
            if self.size != 1:
                raise ValueError(f"backward() starts from a scalar, got shape {self.shape}: call .sum() or .mean() first")
            gradient = np.ones_like(self.data)
        gradient = np.array(gradient, dtype=self.dtype)
        if gradient.shape != self.shape:
            raise ValueError(f"the gradient must have the Tensor's shape {self.shape}, got {gradient.shape}")
        order, grads, left = topological_order(self), {self: (gradient, True)}, set()
        while order:
            node = order.pop()
            if node not in grads or node._backward is None:
                continue
            g, _ = grads.pop(node)
            pieces = node._backward(g)
            distinct = len(set(map(id, pieces))) == len(pieces)
            for parent, piece in zip(node._parents, pieces, strict=True):
                wanted = piece is not None and parent.requires_grad
                if wanted and callable(piece) and later is not None and not parent._parents and parent not in left:
                    left.add(parent)
                    later(parent, piece)
                elif wanted:
                    piece = piece() if callable(piece) else piece
                    ours = distinct and piece is not g and piece.base is None
                    _add_gradient(grads, parent, piece.astype(parent.data.dtype, copy=False), ours)
            node._parents, node._backward = (), _used_up  # what the closure held can be freed now
        return {leaf: np.array(g, copy=None if ours else True) for leaf, (g, ours) in grads.items()}

    # ---- arithmetic

    def __add__(self, other):
        a, b = _operands(self, other)
        return record(a.data + b.data, (a, b), lambda g: (unbroadcast(g, a.shape), unbroadcast(g, b.shape)))

    def __mul__(self, other):
        a, b = _operands(self, other)

        def backward(g):
            da = unbroadcast(g * b.data, a.shape) if a.requires_grad else None
            return da, unbroadcast(g * a.data, b.shape) if b.requires_grad else None

        return record(a.data * b.data, (a, b), backward)

    def __truediv__(self, other):
        a, b = _operands(self, other, fractions=True)

        def backward(g):
            da = g / b.data
            return unbroadcast(da, a.shape), unbroadcast(-da * (a.data / b.data), b.shape) if b.requires_grad else None

        return record(a.data / b.data, (a, b), backward)

    def __pow__(self, exponent):
        if not np.isscalar(exponent) or isinstance(exponent, str):
            raise TypeError(f"the exponent must be a number, got {type(exponent).__name__}")
        exponent = exponent.item() if isinstance(exponent, np.generic) else exponent
        a = self if isinstance(exponent, int) and exponent >= 0 else _as_float(self)

        def backward(g):
            return (g * (exponent * a.data ** (exponent - 1)) if exponent else np.zeros_like(g),)

        return record(a.data**exponent, (a,), backward)

    def __matmul__(self, other):
        a, b = _operands(self, other)
        if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError(f"@ needs shapes (..., n, k) and (..., k, m), got {a.shape} and {b.shape}")

        def backward(g):
            da = unbroadcast(g @ b.data.swapaxes(-1, -2), a.shape) if a.requires_grad else None
            return da, unbroadcast(a.data.swapaxes(-1, -2) @ g, b.shape) if b.requires_grad else None

        return record(a.data @ b.data, (a, b), backward)

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -_operands(self, other)[1]

    def __rsub__(self, other):
        return -self + other

    def __rtruediv__(self, other):
        return _operands(self, other)[1] / self

    def __rmatmul__(self, other):
        return _operands(self, other)[1] @ self

    __radd__, __rmul__ = __add__, __mul__

    # Comparisons give arrays of truth values, which have no gradient.
    __eq__, __ne__, __lt__, __le__, __gt__, __ge__ = map(_comparison, ("eq", "ne", "lt", "le", "gt", "ge"))
    __hash__ = object.__hash__

    # ---- functions of each element

    def exp(self):
        return _elementwise(self, np.exp, lambda x, y: y)

    def log(self):
        return _elementwise(self, np.log, lambda x, y: 1 / x)

    def sqrt(self):
        return _elementwise(self, np.sqrt, lambda x, y: 0.5 / y)

    def tanh(self):
        return _elementwise(self, np.tanh, lambda x, y: 1 - y * y)

    # ---- reductions

    def sum(self, axis=None, keepdims=False):
        a = self

        def backward(g):
            return (np.broadcast_to(_restore_axes(g, axis, keepdims, a.ndim), a.shape),)

        return record(a.data.sum(axis=axis, keepdims=keepdims), (a,), backward)

    def mean(self, axis=None, keepdims=False):
        total = _as_float(self).sum(axis=axis, keepdims=keepdims)
        return total * (total.size / max(self.size, 1))

    def max(self, axis=None, keepdims=False):
        """The largest element; equal ones share the gradient."""
        a = self
        y = np.asarray(a.data.max(axis=axis, keepdims=keepdims))

        def backward(g):
            largest = a.data == _restore_axes(y, axis, keepdims, a.ndim)
            return (largest * (_restore_axes(g, axis, keepdims, a.ndim) / largest.sum(axis=axis, keepdims=True, dtype=a.dtype)),)

        return record(y, (a,), backward)

    # ---- shape

    def reshape(self, *shape):
        shape = shape[0] if len(shape) == 1 and not np.isscalar(shape[0]) else shape
        a = self
        return record(a.data.reshape(shape), (a,), lambda g: (g.reshape(a.shape),))

    def transpose(self, axis0, axis1):
        """Swap two axes, as PyTorch's transpose does; `permute` takes a whole order."""
        return record(self.data.swapaxes(axis0, axis1), (self,), lambda g: (g.swapaxes(axis0, axis1),))

    def permute(self, *axes):
        """The axes in a new order: (B, T, H, D).permute(0, 2, 1, 3) is (B, H, T, D)."""
        return record(self.data.transpose(axes), (self,), lambda g: (g.transpose(np.argsort(np.array(axes) % g.ndim)),))

    @property
    def T(self):
        return self.permute(*reversed(range(self.ndim)))

    def __getitem__(self, index):
        a = self
        parts = index if isinstance(index, tuple) else (index,)
        index = tuple(part.data if isinstance(part, Tensor) else part for part in parts)

        def backward(g):
            full = np.zeros_like(a.data)
            np.add.at(full, index, g)  # not full[index] = g: a repeated index collects every gradient
            return (full,)

        return record(a.data[index], (a,), backward)


def _numeric_array(data):
    if isinstance(data, Tensor):
        return data.data
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError("the rows of a Tensor must have equal lengths: pad or cut them first") from error
    if array.dtype.kind not in "iufb":
        raise TypeError(f"a Tensor holds numbers, got {type(data).__name__} of {array.dtype}")
    return array


def _elementwise(tensor, f, slope):
    """f of each element x; slope(x, y) is its derivative, y = f(x)."""
    a = _as_float(tensor)
    y = f(a.data)
    return record(y, (a,), lambda g: (g * slope(a.data, y),))


def _as_float(tensor):
    return tensor if tensor.dtype.kind == "f" else Tensor(tensor.data, dtype=np.float32)


def _operands(a, b, fractions=False):
    """Two operands as Tensors; integers and what isn't a Tensor take the type of the float Tensor."""
    if not isinstance(b, Tensor):
        array = _numeric_array(b)
        b = Tensor(array, dtype=a.dtype if a.dtype.kind == "f" else None)
    if a.dtype != b.dtype and "f" in a.dtype.kind + b.dtype.kind:
        a = a if a.dtype.kind == "f" else Tensor(a.data, dtype=b.dtype)
        b = b if b.dtype.kind == "f" else Tensor(b.data, dtype=a.dtype)
    if fractions:
        a, b = _as_float(a), _as_float(b)
    return a, b


def _restore_axes(array, axis, keepdims, ndim):
    """Put the axes that a reduction removed back, with length 1."""
    axes = () if keepdims else range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return np.expand_dims(array, tuple(axes))


def add_gradients(gradients):
    """Add to `.grad` of each Tensor the array that the dict has for it, which becomes the Tensor's where it had none."""
    for tensor, gradient in gradients.items():
        tensor.grad = gradient if tensor.grad is None else operator.iadd(tensor.grad, gradient)


def _add_gradient(grads, key, piece, ours):
    """Add `piece` to the array in grads[key]; in place where one of the two is `ours`: fresh, held by nobody else."""
    if key in grads:
        other, others_ours = grads[key]
        a, b = (piece, other) if ours else (other, piece)
        piece, ours = operator.iadd(a, b) if ours or others_ours else a + b, True
    grads[key] = piece, ours
