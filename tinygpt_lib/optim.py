"""AdamW, the clipping of gradients, and the learning rate's schedule."""

import math

import numpy as np

from .tensor import Tensor


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101, algorithm 2).

    groups: a list of parameters, or of dicts {"params": [...], "weight_decay": 0.1}, as in PyTorch.
    lr may be set before each step.
    """

    def __init__(self, groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        if not 0 <= lr or not all(0 <= beta < 1 for beta in betas) or eps < 0 or weight_decay < 0:
            raise ValueError(f"AdamW needs numbers of at least 0, betas in [0, 1), got {lr=}, {eps=}, {weight_decay=}, {betas=}")
        groups = [dict(g, params=list(g["params"])) if isinstance(g, dict) else g for g in groups]
        if not groups:
            raise ValueError("AdamW got no parameters: pass model.parameters()")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        if unknown := {key for group in groups for key in group} - {"params", "weight_decay"}:
            raise ValueError(f"a group has params and weight_decay, got {', '.join(sorted(unknown))}: lr is one for all")
        self.lr, self.betas, self.eps = lr, betas, eps
        self.params = [p for group in groups for p in group["params"]]
        if not all(isinstance(p, Tensor) and not p._parents for p in self.params):
            raise TypeError("AdamW moves Tensors that weren't computed from others: pass model.parameters()")
        if len(set(self.params)) < len(self.params):
            raise ValueError("AdamW got a parameter twice, and would move it twice: leave one out")
        self.decays = [group.get("weight_decay", weight_decay) for group in groups for _ in group["params"]]
        self.t = [0] * len(self.params)  # how often each has been moved
        self.m = [np.zeros_like(p.data) for p in self.params]  # the gradients' sum, each b1 times as heavy as the one after it
        self.v = [np.zeros_like(p.data) for p in self.params]  # and that of their squares, with b2

    def step(self, which=None):
        """Move every parameter that has a gradient, or `which` of them by their numbers."""
        (b1, b2), lr = self.betas, self.lr
        for i in range(len(self.params)) if which is None else which:
            p, m, v, decay = self.params[i], self.m[i], self.v[i], self.decays[i]
            if p.grad is None:
                continue
            self.t[i] += 1
            # A mean is such a sum over that of its weights, 1 + b + b^2 + ... = (1 - b^t) / (1 - b): sums take two passes less.
            m_scale, v_scale = (1 - b1) / (1 - b1 ** self.t[i]), math.sqrt((1 - b2) / (1 - b2 ** self.t[i]))
            # m = b1 m + g, v = b2 v + g^2, p -= lr (decay p + m_scale m / (v_scale sqrt(v) + eps))
            m *= b1
            m += p.grad
            v *= b2
            change = np.multiply(p.grad, p.grad, out=np.empty_like(v))
            v += change
            np.sqrt(v, out=change)
            change += self.eps / v_scale  # v_scale taken out of the sum, which saves a pass
            np.divide(m, change, out=change)
            change *= lr * m_scale / v_scale
            if decay:
                p.data *= 1 - lr * decay
            p.data -= change

    def zero_grad(self):
        """Forget the gradients."""
        for p in self.params:
            p.grad = None


def clip_grad_norm(parameters, max_norm):
    """Scale the gradients of parameters (or of one) down together to a global norm of at most max_norm; returns what it was.

    Pascanu et al., 2013 (arXiv 1211.5063).
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    grads = [p.grad for p in ([parameters] if isinstance(parameters, Tensor) else parameters) if p.grad is not None]
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    if norm > max_norm:
        for g in grads:
            g *= max_norm / (norm + 1e-6)
    return norm


def warmup_cosine(step, lr, warmup_steps, total_steps, min_lr=0.0):
    """The learning rate of `step` (from 0): up in a line to lr, then down a half cosine to min_lr at total_steps.

    Loshchilov and Hutter, 2017 (arXiv 1608.03983), with warm-up.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1)
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
