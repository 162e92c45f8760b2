"""Modules: parameters with a forward pass, put together into GPT-2's transformer block.

Shapes: B batch, T time, C channels (n_embd), H heads. Names are GPT-2's.
"""

import math
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from . import functional as F
from .tensor import Tensor, no_grad

INIT_STD = 0.02  # GPT-2's, for every weight matrix
_evaluating = ContextVar("evaluating", default=False)


@contextmanager
def evaluating():
    """Within it, in this thread, dropout is off and nothing is remembered, whatever mode a model is in."""
    token = _evaluating.set(True)
    try:
        with no_grad():
            yield
    finally:
        _evaluating.reset(token)


class Module:
    """Something with parameters. Tensors, Modules and lists of Modules set as attributes are found by name."""

    training = True

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def children(self):
        """(name, Module) of those directly below this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def modules(self):
        """A list of this Module and all below it."""
        return [self, *(module for _, child in self.children() for module in child.modules())]

    def named_parameters(self):
        """(name, Tensor) of every parameter, the names joined by dots: "h.0.attn.c_attn.weight"."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                yield name, value
        for name, child in self.children():
            yield from ((f"{name}.{inner}", parameter) for inner, parameter in child.named_parameters())

    def parameters(self):
        """A list of every parameter, one that two modules share only once."""
        return list(dict.fromkeys(p for module in self.modules() for p in vars(module).values() if isinstance(p, Tensor)))

    def num_parameters(self):
        """How many numbers are learned."""
        return sum(parameter.size for parameter in self.parameters())

    def zero_grad(self):
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode=True):
        """Turn dropout on (or, with mode=False, off); returns this Module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Turn dropout off; returns this Module."""
        return self.train(False)

    def dropping(self):
        """Whether dropout is to act: while training, but not within `evaluating`."""
        return self.training and not _evaluating.get()

    def to(self, dtype):
        """Hold every parameter as `dtype`, np.float32 or np.float64; returns this Module."""
        for parameter in self.parameters():
            parameter.data, parameter.grad = parameter.data.astype(dtype), None
        return self

    def replica(self, rng):
        """A Module with the same parameters, whose dropout draws from `rng`."""
        twin = object.__new__(type(self))
        vars(twin).update((name, _replica(value, rng)) for name, value in vars(self).items())
        return twin

    def state_dict(self):
        """A copy of every parameter's array, by name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state):
        """Copy the arrays of `state`, a dict by name, into the parameters: all of them, or on any error none."""
        parameters = dict(self.named_parameters())
        state = {name: np.asarray(array) for name, array in state.items()}
        faults = [f"{name} is missing" for name in parameters.keys() - state.keys()]
        faults += [f"{name} is unexpected" for name in state.keys() - parameters.keys()]
        for name in parameters.keys() & state.keys():
            want, array = parameters[name].shape, state[name]
            if array.shape != want:
                faults.append(f"{name} has shape {array.shape} and must have {want}")
            elif array.dtype.kind != "f" or not (np.abs(array) <= np.finfo(parameters[name].dtype).max).all():
                faults.append(f"{name} ({array.dtype}) must hold finite floats")
        if faults:
            raise ValueError("these weights don't fit this model (is its configuration another?): " + "; ".join(sorted(faults)))
        for name, parameter in parameters.items():
            parameter.data[...] = state[name]


class Linear(Module):
    """x @ weight.T + bias: (..., n_in) to (..., n_out)."""

    def __init__(self, n_in, n_out, rng, std=INIT_STD):
        self.weight = _normal((n_out, n_in), std, rng)
        self.bias = _constant(n_out, 0)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Embedding(Module):
    """A row of `width` numbers for each of `count` ids: (...) ids to (..., width)."""

    def __init__(self, count, width, rng):
        self.weight = _normal((count, width), INIT_STD, rng)

    def forward(self, ids):
        return F.embedding(self.weight, ids)


class LayerNorm(Module):
    """Each row of (..., width) to mean 0, variance 1, then scaled and shifted by what is learned."""

    def __init__(self, width):
        self.weight, self.bias = _constant(width, 1), _constant(width, 0)

    def forward(self, x):
        return F.layer_norm(x, self.weight, self.bias)


class Dropout(Module):
    """While training, each element is 0 with probability p and the others are scaled up."""

    def __init__(self, p, rng):
        self.p, self.rng = p, rng

    def forward(self, x):
        return F.dropout(x, self.p, self.rng) if self.dropping() else x


class CausalSelfAttention(Module):
    """Every position looks at itself and the ones before, in n_head ways at once: (B, T, C) to (B, T, C)."""

    def __init__(self, config, rng):
        C = config.n_embd
        self.n_head, self.p, self.rng = config.n_head, config.dropout, rng
        self.c_attn = Linear(C, 3 * C, rng)  # queries, keys and values in one product
        self.c_proj = Linear(C, C, rng, std=_residual_std(config))
        self.dropout = Dropout(config.dropout, rng)

    def forward(self, x):
        y = F.causal_self_attention(self.c_attn(x), self.n_head, self.p if self.dropping() else 0.0, self.rng)
        return self.dropout(self.c_proj(y))


class MLP(Module):
    """Each position by itself: four times as wide, GELU, and back."""

    def __init__(self, config, rng):
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, rng)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, rng, std=_residual_std(config))
        self.dropout = Dropout(config.dropout, rng)

    def forward(self, x):
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x))))


class Block(Module):
    """What attention and the MLP find is added to the stream x, each from a normalised copy (pre-LayerNorm)."""

    def __init__(self, config, rng):
        self.ln_1, self.attn = LayerNorm(config.n_embd), CausalSelfAttention(config, rng)
        self.ln_2, self.mlp = LayerNorm(config.n_embd), MLP(config, rng)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


def _replica(value, rng):
    if isinstance(value, list):
        return [_replica(item, rng) for item in value]
    return value.replica(rng) if isinstance(value, Module) else rng if isinstance(value, np.random.Generator) else value


def _normal(shape, std, rng):
    return Tensor(rng.normal(0, std, shape), requires_grad=True)


def _constant(width, value):
    return Tensor(np.full(width, value, dtype=np.float32), requires_grad=True)


def _residual_std(config):
    # 2 n_layer branches are added to the stream: with this its variance doesn't grow with the depth.
    return INIT_STD / math.sqrt(2 * config.n_layer)
