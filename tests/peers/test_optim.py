"""AdamW, the clipping of gradients and the schedule beside PyTorch's, in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='compares with PyTorch: pip install -e ".[peers]"')

from tinygpt_lib import AdamW, Tensor, clip_grad_norm, warmup_cosine  # noqa: E402

close = dict(rtol=0, atol=1e-6)
SHAPES = [(3, 4), (5, 2), (4,), (1,)]


def pairs(rng):
    """The same parameters as Tensors of ours and of PyTorch's."""
    arrays = [rng.normal(size=shape) for shape in SHAPES]
    ours = [Tensor(a, requires_grad=True, dtype=np.float64) for a in arrays]
    return ours, [torch.tensor(a, requires_grad=True) for a in arrays]


def set_gradients(ours, theirs, rng, size=1.0):
    for p, q in zip(ours, theirs):
        p.grad = rng.normal(0, size, p.shape)
        q.grad = torch.tensor(p.grad)


def grouped(params, weight_decay):
    return [{"params": params[:2], "weight_decay": weight_decay}, {"params": params[2:], "weight_decay": 0.0}]


@pytest.mark.parametrize("betas, eps, decay", [((0.9, 0.999), 1e-8, 0.1), ((0.9, 0.99), 1e-5, 0.5), ((0.0, 0.5), 1e-3, 0.0)])
def test_twenty_steps_of_adamw_with_groups_clipping_and_schedule_agree(betas, eps, decay):
    rng = np.random.default_rng(0)
    ours, theirs = pairs(rng)
    mine = AdamW(grouped(ours, decay), betas=betas, eps=eps)
    other = torch.optim.AdamW(grouped(theirs, decay), lr=0.3, betas=betas, eps=eps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        other, lambda t: (t + 1) / 5 if t < 5 else 0.1 + 0.45 * (1 + np.cos(np.pi * (t - 5) / 15))
    )
    for step in range(20):
        set_gradients(ours, theirs, rng, size=10.0 ** rng.integers(-2, 2))  # some are clipped, some aren't
        norm = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        np.testing.assert_allclose(clip_grad_norm(ours, 1.0), norm.item(), **close)
        mine.lr = warmup_cosine(step, 0.3, 5, 20, min_lr=0.03)
        mine.step(), other.step(), schedule.step()
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.data, q.detach().numpy(), **close)


def test_the_defaults_are_pytorchs():
    rng = np.random.default_rng(0)
    ours, theirs = pairs(rng)
    mine, other = AdamW(ours), torch.optim.AdamW(theirs)
    for _ in range(20):
        set_gradients(ours, theirs, rng)
        mine.step(), other.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), **close)


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e6])
def test_clipped_gradients_agree(max_norm):
    rng = np.random.default_rng(0)
    ours, theirs = pairs(rng)
    set_gradients(ours, theirs, rng)
    ours[1].grad = theirs[1].grad = None
    norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
    np.testing.assert_allclose(clip_grad_norm(ours, max_norm), norm, **close)
    for p, q in zip(ours, theirs):
        if p.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad.numpy(), **close)


@pytest.mark.parametrize("warmup, total, least", [(1, 20, 0.0), (5, 20, 0.01), (10, 40, 0.1)])
def test_schedule_is_linear_warmup_then_cosine_annealing(warmup, total, least):
    schedulers = torch.optim.lr_scheduler
    other = torch.optim.AdamW([torch.zeros(1)], lr=0.1)
    up = schedulers.LinearLR(other, 1 / warmup, 1.0, total_iters=max(warmup - 1, 1))
    down = schedulers.CosineAnnealingLR(other, total - warmup, eta_min=least)
    schedule = schedulers.SequentialLR(other, [up, down], milestones=[warmup])
    for step in range(total):
        np.testing.assert_allclose(warmup_cosine(step, 0.1, warmup, total, least), other.param_groups[0]["lr"], **close)
        other.step(), schedule.step()
