"""gradcheck catches wrong gradients, and says where; right ones pass."""

import re

import numpy as np
import pytest

from tinygpt_lib import gradcheck
from tinygpt_lib.gradcheck import numerical_gradient
from tinygpt_lib.tensor import record

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def square_with(gradient):
    """x * x whose backward multiplies what comes in by gradient(x)."""

    def square(x):
        return record(x.data**2, (x,), lambda g: (g * gradient(x.data),))

    return square


def off_at(index, by):
    def gradient(a):
        wrong = 2 * a
        wrong[index] += by
        return wrong

    return gradient


def failure(f, *inputs, **settings):
    with pytest.raises(AssertionError) as caught:
        gradcheck(f, *inputs, **settings)
    return str(caught.value)


def test_right_gradients_pass():
    assert gradcheck(square_with(lambda a: 2 * a), X) is True
    assert gradcheck(lambda a, b: a @ b.T, X, X) is True
    assert gradcheck(lambda x: x.sum(), X.tolist()) is True


@pytest.mark.parametrize(
    "wrong", [lambda a: a, lambda a: -2 * a, lambda a: 0 * a, lambda a: 2 * a * (1 + 1e-5), lambda a: 2 * np.abs(a)]
)
def test_wrong_gradients_are_caught(wrong):
    assert "square" in failure(square_with(wrong), X)


@pytest.mark.parametrize("index", [(0, 0), (1, 2), (0, 1)])
def test_the_message_names_function_input_index_and_both_values(index):
    def second_is_wrong(a, b):
        return a * square_with(off_at(index, 0.5))(b)

    message = failure(second_is_wrong, np.ones_like(X), X)
    assert message.startswith("second_is_wrong") and "input 1" in message and str(index) in message
    weights = np.random.default_rng(0).uniform(0.5, 1.5, X.shape)  # those of sum(f * weights)
    got, expected = map(float, re.search(r"is (\S+) and should be (\S+)", message).groups())
    assert expected == pytest.approx(weights[index] * 2 * X[index], rel=1e-6)
    assert got == pytest.approx(weights[index] * (2 * X[index] + 0.5), rel=1e-6)


def test_errors_that_cancel_in_a_plain_sum_are_caught():
    def swapped(x):  # the right rows in the wrong order: the sum of its gradients is right
        return record(x.data**2, (x,), lambda g: ((g * 2 * x.data)[::-1],))

    assert "swapped" in failure(swapped, X)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_named(bad):
    message = failure(square_with(off_at((1, 0), bad)), X)
    assert "(1, 0)" in message and str(bad) in message


def test_a_missing_gradient_is_caught():
    def forgets(a, b):
        return a * b.detach()

    assert "input 1" in failure(forgets, X, X)


def test_an_input_without_influence_has_gradient_zero():
    assert gradcheck(lambda a, b: a * 2, X, X)


def add_without_unbroadcast(a, b):
    return record(a.data + b.data, (a, b), lambda g: (g, g))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3), ()], ids=str)
def test_a_gradient_of_the_wrong_shape_is_caught(shape):
    assert "input 1" in failure(add_without_unbroadcast, X, np.ones(shape))


def test_a_gradient_of_a_shape_that_only_broadcasts_is_caught():
    def adds_an_axis(x):
        return record(x.data * 2, (x,), lambda g: (2 * g[None],))

    assert "input 0" in failure(adds_an_axis, X)


def test_a_loss_of_precision_to_float32_is_caught():
    def through_float32(x):
        return record(x.data.astype(np.float32).astype(np.float64), (x,), lambda g: (g,))

    assert "through_float32" in failure(through_float32, X)


def test_the_tolerance_is_relative_for_large_gradients():
    assert gradcheck(lambda x: x * 1e9, X)
    assert "1e-09" in failure(square_with(lambda a: 2 * a * (1 + 1e-8)), X, tolerance=1e-9, eps=0.5)  # exact for a square


def test_the_inputs_stay_as_they_were():
    x = X.copy()
    gradcheck(lambda x: x * x, x)
    np.testing.assert_array_equal(x, X)


def test_a_numerical_gradient_is_the_slope():
    got = numerical_gradient(lambda a, b: (a * a * b).sum(), [X, X + 3], 0)
    np.testing.assert_allclose(got, 2 * X * (X + 3), atol=1e-6)
    np.testing.assert_allclose(numerical_gradient(lambda x: x**3, [2.0], 0), 12, rtol=1e-6)


def test_a_function_of_no_numbers_passes():
    assert gradcheck(lambda x: x * 2, np.ones((0, 3)))


def test_a_small_gradient_of_the_wrong_sign_is_noticed():
    def tiny(x):
        return record(x.data * 1e-7, (x,), lambda g: (g * -5e-7,))

    with pytest.raises(AssertionError, match="tiny"):
        gradcheck(tiny, np.ones(3))
