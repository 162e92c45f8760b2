"""GPT-2's architecture (Radford et al., 2019): embeddings, blocks, a head tied to the token embedding.

Shapes: B batch, T time, C channels (n_embd), H heads, D = C / H, V vocabulary.
"""

import math
from dataclasses import dataclass

import numpy as np

from . import archive, validate
from . import functional as F
from .nn import Block, Dropout, Embedding, LayerNorm, Linear, Module
from .tensor import Tensor, record


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT; the defaults are the sizes for Tiny Shakespeare."""

    vocab_size: int = 1024
    block_size: int = 128  # the longest context, in tokens
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 192
    dropout: float = 0.2

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            validate.whole_number(name, getattr(self, name), least=1)
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, got {self.n_embd} and {self.n_head}")
        validate.below_one("dropout", self.dropout)


class KVCache:
    """The keys and values of the tokens read so far, which later tokens never change.

    keys, values: (n_layer, B, H, block_size, D), filled up to `length`. It reads with the weights
    that its model has at the first reading: after training, make a new one.
    """

    def __init__(self, config, batch=1, dtype=np.float32):
        shape, D = (config.n_layer, batch, config.n_head, config.block_size), config.n_embd // config.n_head
        self.keys, self._values = np.empty((*shape, D), dtype=dtype), np.ones((*shape, D + 1), dtype=dtype)
        self.values, self.length, self._model = self._values[..., :-1], 0, None
        self.config, self.batch = config, batch

    @np.errstate(over="ignore")  # as gelu_divisor asks
    def read(self, model, ids):
        """The model's logits (B, T, V) after each of ids (B, T), which continue what was read before.

        The arithmetic of `GPT.forward` on arrays, with the LayerNorms folded into the weights: for
        one token, Tensors and LayerNorms would take more than twice as long.
        """
        if self._model is not model:
            if self.length:
                raise ValueError("the cache holds what another model has read: make a new one")
            self._model, self._weights = model, _folded(model)
        (tokens, positions, layers, head), (B, T) = self._weights, ids.shape
        start, end = self.length, self.length + T
        future = F.future_mask(T, end, self.keys.dtype) if T > 1 else None  # the last token sees everything
        x = (tokens[ids] + positions[start:end]).reshape(B * T, -1)
        for (c_attn, attn_proj, c_fc, mlp_proj), keys, values in zip(layers, self.keys, self._values, strict=True):
            qkv = _after_norm(x, *c_attn).reshape(B, T, 3, model.config.n_head, -1).transpose(2, 0, 3, 1, 4)  # (3, B, H, T, D)
            q, keys[:, :, start:end], values[:, :, start:end, :-1] = qkv
            y = F.exp_scores(q, keys[:, :, :end], future) @ values[:, :, :end]
            y = y[..., :-1] / y[..., -1:]  # the values' last column is 1 and so y's the sum of the weights, in the same product
            _add_affine(x, y.swapaxes(1, 2).reshape(x.shape), *attn_proj)
            h = _after_norm(x, *c_fc)
            h /= F.gelu_divisor(h)
            _add_affine(x, h, *mlp_proj)
        self.length = end
        return _after_norm(x, *head).reshape(B, T, -1)


def _folded(model):
    """The weights of a model, with as much of its LayerNorms as can be done before the first token.

    Their weight w and bias b go into the product that follows: (n w + b) W = n (w W) + b W. And all
    that is added to the stream loses its mean over the channels, so that the stream's mean is 0
    and n is x / sqrt(x . x / C + eps); sqrt(C) goes into W as well, and the queries' 1 / sqrt(D). The matrices
    are laid side by side in one array, which Linux gives large pages, and each so that its long rows are contiguous:
    a token takes a quarter less time.
    """
    room = np.empty(sum(p.size for p in model.parameters()), dtype=model.wte.weight.dtype)

    def place(matrix):
        nonlocal room
        taken, room = room[: matrix.size].reshape(matrix.shape), room[matrix.size :]
        return taken

    def after(ln, product):
        weight = product.weight.data.T
        bias = ln.bias.data @ weight + (product.bias.data if isinstance(product, Linear) else 0)
        return np.multiply(weight, ln.weight.data[:, None] * math.sqrt(len(weight)), out=place(weight)), bias

    def centred(linear):
        weight, bias = linear.weight.data, linear.bias.data
        return np.subtract(weight, weight.mean(axis=0), out=place(weight)), bias - bias.mean()

    tokens, positions = (table.weight.data - table.weight.data.mean(axis=1, keepdims=True) for table in (model.wte, model.wpe))
    C, layers = model.config.n_embd, []
    for block in model.h:
        weight, bias = after(block.ln_1, block.attn.c_attn)
        weight[:, :C] /= math.sqrt(C / model.config.n_head)  # the queries, which attention wants divided
        bias[:C] /= math.sqrt(C / model.config.n_head)
        layers.append(((weight, bias), centred(block.attn.c_proj), after(block.ln_2, block.mlp.c_fc), centred(block.mlp.c_proj)))
    return tokens, positions, layers, after(model.ln_f, model.wte)


def _after_norm(x, weight, bias):
    """n weight + bias, with n the rows of x normalised: (N, C) to (N, O)."""
    eps = x.shape[1] * F.EPS
    # Of one row the factor is a Python number, in half the time of three arrays of one.
    length = math.sqrt(x[0].dot(x[0]) + eps) if len(x) == 1 else np.sqrt(np.vecdot(x, x, keepdims=True) + eps)
    y = (x / length).dot(weight)  # for one row, a tenth to a fifth faster than @
    y += bias
    return y


def _add_affine(x, y, weight, bias):
    """x += y weight^T + bias: the product turned round takes three quarters of the time for 16 rows."""
    x += weight.dot(y.T).T + bias


class GPT(Module):
    """A GPT with random weights, drawn from `seed` as the dropout will be; `load_state_dict` gives it others."""

    def __init__(self, config, seed=0):
        if not isinstance(config, GPTConfig):
            raise TypeError(f"GPT needs a GPTConfig, got {type(config).__name__}")
        self.config, self.encoding = config, None
        self.rng = rng = validate.seeded(seed)
        self.wte = Embedding(config.vocab_size, config.n_embd, rng)
        self.wpe = Embedding(config.block_size, config.n_embd, rng)
        self.drop = Dropout(config.dropout, rng)
        self.h = [Block(config, rng) for _ in range(config.n_layer)]
        self.ln_f = LayerNorm(config.n_embd)

    def forward(self, idx, targets=None, cache=None):
        """Logits (B, T, V) for the token after each of idx (B, T), and the loss against targets (B, T) or None.

        With a `cache`, idx continues the tokens that it has seen, nothing is dropped and nothing can be differentiated.
        """
        idx = self._check_ids(idx, cache)
        if cache is not None:
            if targets is not None:
                raise ValueError("a loss needs the whole text at once: pass targets or a cache, not both")
            return record(cache.read(self, idx), (), None), None
        x = self.drop(self.wte(idx) + self.wpe(np.arange(idx.shape[1])))  # (B, T, C) + (T, C)
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)  # (B, T, C) -> (B, T, V)
        return logits, None if targets is None else F.cross_entropy(logits, targets)

    def _check_ids(self, idx, cache):
        idx = idx.data if isinstance(idx, Tensor) else idx if isinstance(idx, np.ndarray) else Tensor(idx).data
        if idx.ndim != 2 or 0 in idx.shape:
            raise ValueError(f"ids must have shape (batch, time), neither of them 0, got {idx.shape}: [ids] makes a batch of one")
        size, (B, T) = self.config.block_size, idx.shape
        room = size - (cache.length if cache else 0)
        if T > room:
            raise ValueError(f"there is room for {room} tokens (block_size {size}), got {T}: keep the last {room}")
        if cache is not None and (cache.batch, cache.config) != (B, self.config):
            raise ValueError(f"the cache is for a batch of {cache.batch}, got {B}, or for another model's sizes: make a new one")
        return validate.token_ids("ids", idx, self.config.vocab_size)

    def load_state_dict(self, state):
        """Take the weights of `state`, a dict or what np.load gives, and the encoding of a checkpoint."""
        entries, encoding = archive.read(state), self.encoding
        if archive.ENCODING in entries:
            from .tokenizer import unpack_encoding  # tiktoken is loaded only where it's needed

            encoding = unpack_encoding(entries[archive.ENCODING])
        super().load_state_dict(archive.without_meta(entries))
        self.encoding = encoding
