"""Autodiff against central differences, in float64."""

import numpy as np

from .tensor import Tensor


def numerical_gradient(f, inputs, which, eps=1e-6):
    """d f(*inputs) / d inputs[which] for a scalar f of arrays: nudge each number up and down."""
    arrays = [np.array(x, dtype=np.float64) for x in inputs]
    grad = np.zeros_like(arrays[which])
    for index in np.ndindex(grad.shape):
        middle = arrays[which][index]
        values = []
        for nudged in (middle + eps, middle - eps):
            arrays[which][index] = nudged
            values.append(f(*(Tensor(a, dtype=np.float64) for a in arrays)).item())
        arrays[which][index] = middle
        grad[index] = (values[0] - values[1]) / (2 * eps)
    return grad


def gradcheck(f, *inputs, eps=1e-6, tolerance=1e-6):
    """Raise an AssertionError that names the worst number if f's gradients are wrong; else return True.

    f takes Tensors and returns one of any shape; inputs are arrays of floats. The check runs on
    sum(f * weights) with fixed random weights, so that errors can't cancel.
    """
    tensors = [Tensor(x, requires_grad=True, dtype=np.float64) for x in inputs]
    y = f(*tensors)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, y.shape)

    def weighted(*args):
        return (f(*args) * weights).sum()

    weighted(*tensors).backward()
    for i, tensor in enumerate(tensors):
        expected = numerical_gradient(weighted, [t.data for t in tensors], i, eps)
        got = np.zeros_like(expected) if tensor.grad is None else tensor.grad
        name = getattr(f, "__name__", "f")
        if got.shape != expected.shape:
            raise AssertionError(f"{name}: the gradient of input {i} has shape {got.shape}, not the input's, {expected.shape}")
        # relative to the largest number, or where all are tiny to what differences of y can still resolve
        scale = max(np.abs(expected).max(initial=0), 1e-4 * np.abs(y.data).max(initial=0), np.finfo(np.float64).tiny)
        error = np.nan_to_num(np.abs(got - expected) / scale, nan=np.inf)
        if error.size and error.max() > tolerance:
            worst = np.unravel_index(error.argmax(), error.shape)
            raise AssertionError(
                f"{name}: the gradient of input {i} at {tuple(map(int, worst))} is {got[worst]:.8g} and should be "
                f"{expected[worst]:.8g} (off by {error[worst]:.1e}, allowed {tolerance:.0e})"
            )
    return True
