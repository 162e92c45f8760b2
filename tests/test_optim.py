"""AdamW, clipping and the schedule in cases worked by hand."""

import math

import numpy as np
import pytest

from tinygpt_lib import AdamW, Tensor, clip_grad_norm, warmup_cosine


def parameter(values, grad=None, dtype=np.float64):
    p = Tensor(values, requires_grad=True, dtype=dtype)
    p.grad = None if grad is None else np.array(grad, dtype=dtype)
    return p


def test_first_step_is_the_learning_rate_along_the_gradients_sign():
    p = parameter([1.0, 1.0], [0.5, -200.0])  # both means are g and g^2 after their correction: g / |g|
    AdamW([p], lr=0.1, weight_decay=0).step()
    np.testing.assert_allclose(p.data, [0.9, 1.1], atol=1e-8)


def test_a_constant_gradient_moves_by_the_learning_rate_each_step():
    p = parameter([1.0], [3.0])
    optimizer = AdamW([p], lr=0.01, weight_decay=0)
    for _ in range(7):
        optimizer.step()
    np.testing.assert_allclose(p.data, [0.93], atol=1e-8)


def test_second_step_with_the_opposite_gradient_by_hand():
    p = parameter([0.0], [2.0])
    optimizer = AdamW([p], lr=0.1, betas=(0.9, 0.99), weight_decay=0)
    optimizer.step()
    p.grad = np.array([-2.0])
    optimizer.step()  # m = 0.9 * 0.2 - 0.2 = -0.02, corrected by 1 - 0.81: -2/19; v corrected is 4
    np.testing.assert_allclose(p.data, [-0.1 + 0.1 * (2 / 19) / 2], atol=1e-8)


def test_decay_shrinks_the_weights_apart_from_the_gradient_and_by_group():
    decayed, plain = parameter([2.0], [0.0]), parameter([2.0], [0.0])
    optimizer = AdamW([{"params": [decayed], "weight_decay": 0.5}, {"params": [plain], "weight_decay": 0.0}], lr=0.1)
    optimizer.step(), optimizer.step()
    np.testing.assert_allclose(decayed.data, [2 * 0.95**2])
    assert plain.data == [2.0]


def test_a_parameter_without_gradient_stays():
    p = parameter([1.0, -2.0])
    AdamW([p], weight_decay=0.5).step()
    assert p.data.tolist() == [1.0, -2.0]


def test_float32_stays_float32():
    p = parameter([1.0], [1.0], np.float32)
    optimizer = AdamW([p])
    optimizer.step()
    assert {p.dtype, optimizer.m[0].dtype, optimizer.v[0].dtype} == {np.dtype(np.float32)}


def test_zero_grad_forgets_every_gradient():
    params = [parameter([1.0], [1.0]), parameter([1.0], [1.0])]
    AdamW(params).zero_grad()
    assert [p.grad for p in params] == [None, None]


def test_gradients_are_clipped_together():
    a, b, none = parameter([0.0], [3.0]), parameter([[0.0]], [[-4.0]]), parameter([0.0])
    assert clip_grad_norm([a, b, none], 1.0) == pytest.approx(5)  # 3, 4, 5
    np.testing.assert_allclose([a.grad[0], b.grad[0, 0]], [0.6, -0.8], rtol=1e-6)
    assert none.grad is None


@pytest.mark.parametrize("max_norm", [5.0, 6.0, math.inf])
def test_short_gradients_are_left_as_they_are(max_norm):
    a = parameter([0.0, 0.0], [3.0, 4.0])
    clip_grad_norm([a], max_norm)
    assert a.grad.tolist() == [3.0, 4.0]


def test_the_norm_of_a_nan_is_nan():
    assert math.isnan(clip_grad_norm([parameter([0.0], [math.nan])], 1.0))


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (8, 0.1 + 0.9 * 0.75), (10, 0.55), (12, 0.1 + 0.9 * 0.25), (16, 0.1), (99, 0.1)],
)
def test_schedule_by_hand(step, rate):
    # 4 steps up to 1, 12 down to 0.1: a third of the way is cos(60 degrees) = 1/2, half is 0, two thirds is -1/2.
    assert warmup_cosine(step, 1.0, 4, 16, 0.1) == pytest.approx(rate)


def test_schedule_without_warmup_starts_at_the_top():
    assert warmup_cosine(0, 0.5, 0, 10) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [dict(lr=-1), dict(lr=math.nan), dict(betas=(0.9, 1.0)), dict(betas=(-0.1, 0.9)), dict(eps=-1), dict(weight_decay=-1)],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="AdamW needs"):
        AdamW([parameter([1.0])], **wrong)


def test_no_parameters_and_no_room_are_refused():
    with pytest.raises(ValueError, match="no parameters"):
        AdamW([])
    for max_norm in (0, -1, math.nan):
        with pytest.raises(ValueError, match="max_norm must be positive"):
            clip_grad_norm([parameter([1.0], [1.0])], max_norm)


def test_one_tensor_is_clipped_as_a_list_of_it_is():
    p = parameter([1.0, 1.0], [3.0, 4.0])
    assert clip_grad_norm(p, 1.0) == 5
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


def test_groups_with_what_they_can_not_have_are_refused():
    weights = Tensor(np.ones((2, 2)), requires_grad=True)
    with pytest.raises(ValueError, match="lr"):
        AdamW([{"params": [weights], "lr": 5.0}])
    with pytest.raises(TypeError, match="parameters"):
        AdamW(weights)
    with pytest.raises(ValueError, match="twice"):
        AdamW([{"params": [weights]}, {"params": [weights], "weight_decay": 0.0}])
