"""GPT-2's architecture (Radford et al., 2019): embeddings, blocks, a head tied to the token embedding.

Shapes: B batch, T time, C channels (n_embd), H heads, D = C / H, V vocabulary.
"""

import math
import time
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
    that its model has at the first reading: after training, make a new one. It computes what the library's
    modules compute: one of your own, with another forward, would be read as if it were theirs.
    """

    def __init__(self, config, batch=1, dtype=np.float32):
        validate.whole_number("batch", batch, least=1)
        shape, D = (config.n_layer, 2, batch, config.n_head, config.block_size), config.n_embd // config.n_head
        self._both = np.empty((*shape, D + 1), dtype=dtype)
        self._both[..., -1] = 1  # `read` says what for
        self.keys, self.values = self._both.swapaxes(0, 1)[..., :-1]
        self.config, self.batch, self.length, self._model, self._crowded = config, batch, 0, None, False

    @np.errstate(over="ignore")  # as gelu_divisor asks
    def read(self, model, ids):
        """The model's logits (B, T, V) after each of ids (B, T), which continue what was read before.

        The arithmetic of `GPT.forward` on arrays, a column for each of the N = B T tokens, with all that
        doesn't depend on them done before: with Tensors a token would take more than twice as long.
        """
        (B, T), C, H, began = ids.shape, model.config.n_embd, model.config.n_head, time.perf_counter()
        if self._model is not model:
            if self.length:
                raise ValueError("the cache holds what another model has read: make a new one")
            self._model, self._weights = model, _folded(model)
            self._patience, began = time.perf_counter() - began, time.perf_counter()  # a token takes a small part of that
        (wte, wpe, layers, head), start, end = self._weights, self.length, self.length + T
        multiply = _multiply_pairs if B * T == 1 and C % 2 == 0 and not self._crowded else np.dot
        future = F.future_mask(T, end, wte.dtype) if T > 1 else None  # the last token sees everything
        both = self._both[..., :end, :]
        news, keys, values = both[..., start:, :-1], both[:, 0, ..., :-1], both[:, 1]
        # The last two rows of x belong to `_normalised`; those of h are 1, to multiply a matrix's bias with, half of it each.
        x, h = np.empty((C + 2, B * T), dtype=wte.dtype), np.ones((4 * C + 2, B * T), dtype=wte.dtype)
        stream, hidden, x[-2:] = x[:-2], h[:-2], math.sqrt(C * F.EPS / 2)
        stream[:] = (wte[ids] + wpe[start:end]).reshape(B * T, C).T
        for (c_attn, attn_proj, c_fc, mlp_proj), new, k, v in zip(layers, news, keys, values, strict=True):
            qkv = multiply(c_attn, _normalised(x)).reshape(3, H, -1, B, T).transpose(0, 3, 1, 4, 2)  # (3, B, H, T, D)
            new[:] = qkv[1:]
            y = F.exp_scores(np.ascontiguousarray(qkv[0]), k, future) @ v
            y = y / y[..., -1:]  # the values' last column is 1, so y's was the weights' sum, and is 1 now
            stream += attn_proj.dot(y.transpose(1, 3, 0, 2).reshape(-1, B * T))
            hidden[:] = multiply(c_fc, _normalised(x))
            hidden /= F.gelu_divisor(hidden, hidden * hidden)
            stream += multiply(mlp_proj, h)
        self.length, logits = end, multiply(head, _normalised(x)).T.reshape(B, T, -1)
        self._crowded |= B * T == 1 and time.perf_counter() - began > self._patience
        return logits


def _multiply_pairs(matrix, x):
    """matrix (O, K) @ x (K, 1) for an even K, each pair of neighbours taken as a complex number: Re (a + bi)(c - di) = ac + bd.

    OpenBLAS gives a product with one column to all cores from 4,096 complex numbers on, but only from 460,800
    real ones: a token takes a tenth less time. Where other programs keep the cores busy, it can take
    a hundred times as long, so after such a token a cache does without.
    """
    pairs = np.complex64 if x.itemsize == 4 else np.complex128
    return matrix.view(pairs).dot(x.T.view(pairs).conj().T).real


def _folded(model):
    """The embeddings of a model for a cache, and its matrices, each (O, C) with its bias behind, in two columns of halves.

    LayerNorm's weight w and bias b go into the product that follows: W (w n + b) = (W w) n + W b. And all
    that comes into the stream loses its mean over the channels, so that the stream's mean is 0
    and n is x / sqrt(x . x / C + eps); sqrt(C) goes into W as well, and the queries' 1 / sqrt(D). The matrices
    lie side by side in one array, which Linux gives large pages: a token takes a quarter less time.
    """
    C, H, layers = model.config.n_embd, model.config.n_head, []
    room = np.empty(len(model.h) * C * (12 * C + 16 + H) + len(model.wte.weight) * (C + 2), dtype=model.wte.weight.dtype)

    def place(f, weight, row, bias, heads=1, columns=2):
        """A matrix of f(weight, row) and, behind what belongs to each head, its share of the bias in so many columns."""
        nonlocal room
        O, size = len(weight), weight.size + len(weight) * heads * columns
        matrix, room = room[:size].reshape(O, heads, -1), room[size:]
        f(weight.reshape(O, heads, -1), row.reshape(heads, -1), out=matrix[..., :-columns])
        matrix[..., -columns:] = bias[:, None, None] / (heads * columns)
        return matrix.reshape(O, -1)

    def after(ln, product):
        weight = product.weight.data
        bias = weight @ ln.bias.data + (product.bias.data if isinstance(product, Linear) else 0)
        return place(np.multiply, weight, ln.weight.data * math.sqrt(C), bias)

    def centred(linear, *heads):
        weight, bias = linear.weight.data, linear.bias.data
        return place(np.subtract, weight, weight.mean(axis=0), bias - bias.mean(), *heads)

    for block in model.h:
        c_attn = after(block.ln_1, block.attn.c_attn)
        c_attn[:C] /= math.sqrt(C / H)  # the queries, which attention wants divided
        layers.append((c_attn, centred(block.attn.c_proj, H, 1), after(block.ln_2, block.mlp.c_fc), centred(block.mlp.c_proj)))
    wte, wpe = (table.weight.data - table.weight.data.mean(axis=1, keepdims=True) for table in (model.wte, model.wpe))
    return wte, wpe, layers, after(model.ln_f, model.wte)


def _normalised(x):
    """Each column of x (C + 2, N) over its length, with 1 in the place of its last two numbers, which were sqrt(C eps / 2).

    The length of a single column is a Python number, in half the time of arrays of one.
    """
    n = x / (math.sqrt(np.vdot(x, x)) if x.shape[1] == 1 else np.sqrt(np.vecdot(x, x, axis=0)))
    n[-2:] = 1
    return n


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
