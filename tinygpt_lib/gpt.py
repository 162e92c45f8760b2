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
        began = time.perf_counter()
        if self._model is not model:
            if self.length:
                raise ValueError("the cache holds what another model has read: make a new one")
            self._model, self._weights = model, _folded(model)
            self._patience = time.perf_counter() - began  # a token takes a fifth of that
        (wte, wpe, *matrices), (B, T), C, H = self._weights, ids.shape, model.config.n_embd, model.config.n_head
        start, end, by_pairs = self.length, self.length + T, B * T == 1 and not self._crowded
        multiply, (layers, head) = _multiply_pairs if by_pairs else np.dot, matrices[by_pairs]
        future = F.future_mask(T, end, wte.dtype) if T > 1 else None  # the last token sees everything
        both = self._both[..., :end, :]
        news, keys, values = both[..., start:, :-1], both[:, 0, ..., :-1], both[:, 1]
        # The last one or two rows of x belong to `_normalised`; those of h are 1, to multiply a matrix's bias with.
        x, h = np.empty((C + 2 - C % 2, B * T), dtype=wte.dtype), np.ones((4 * C + 2, B * T), dtype=wte.dtype)
        stream, hidden, x[C:] = x[:C], h[:-2], math.sqrt(C * F.EPS / (2 - C % 2))
        stream[:] = (wte[ids] + wpe[start:end]).reshape(B * T, C).T
        for (c_attn, attn_proj, c_fc, mlp_proj), new, k, v in zip(layers, news, keys, values, strict=True):
            qkv = multiply(c_attn, _normalised(x, C)).reshape(3, H, -1, B, T).transpose(0, 3, 1, 4, 2)  # (3, B, H, T, D)
            new[:] = qkv[1:]
            y = F.exp_scores(np.ascontiguousarray(qkv[0]), k, future) @ v
            y = y / y[..., -1:]  # the values' last column is 1, so y's was the weights' sum, and is 1 now
            stream += attn_proj.dot(y.transpose(1, 3, 0, 2).reshape(-1, B * T))
            hidden[:] = multiply(c_fc, _normalised(x, C))
            hidden /= F.gelu_divisor(hidden, hidden * hidden)
            stream += multiply(mlp_proj, h)
        self.length, logits = end, multiply(head, _normalised(x, C)).T.reshape(B, T, -1)
        self._crowded |= by_pairs and time.perf_counter() - began > self._patience
        return logits


def _multiply_pairs(pairs, x):
    """matrix @ x for a column x (K, 1), given the matrix (O, K) seen as complex numbers (O, K / 2).

    The real part of (a + bi)(c - di) is ac + bd. OpenBLAS gives such a product to all cores from 4,096 complex
    numbers on, but only from 460,800 real ones: a token takes a tenth less time. Where other programs keep the cores
    busy it can take a hundred times as long, so after one such token a cache does without.
    """
    return pairs.dot(x.T.view(pairs.dtype).conj().T).real


def _folded(model):
    """The embeddings of a model for a cache, and its matrices, each (O, C) with its bias behind; these again as pairs.

    LayerNorm's weight w and bias b go into the product that follows: W (w n + b) = (W w) n + W b. And all
    that comes into the stream loses its mean over the channels, so that the stream's mean is 0
    and n is x / sqrt(x . x / C + eps); sqrt(C) goes into W as well, and the queries' 1 / sqrt(D). The matrices
    lie side by side in one array, which Linux gives large pages: a token takes a quarter less time.
    """
    C, H, layers = model.config.n_embd, model.config.n_head, []
    even = C + 2 - C % 2  # columns that make pairs
    room = np.empty(len(model.h) * C * (7 * even + C + H + 4 * C + 2) + len(model.wte.weight) * even, model.wte.weight.dtype)

    def place(f, weight, row, bias, heads, ones):
        """A matrix of f(weight, row) and, behind the columns of each of `heads`, as many with shares of the bias as `ones`."""
        nonlocal room
        O, shares = len(weight), heads * ones
        size = weight.size + O * shares
        matrix, room = room[:size].reshape(O, -1), room[size:]
        columns = matrix.reshape(O, heads, -1)
        f(weight.reshape(O, heads, -1), row.reshape(heads, -1), out=columns[..., :-ones])
        columns[..., -ones:] = bias[:, None, None] / shares
        return matrix

    def after(ln, product):
        weight = product.weight.data
        bias = weight @ ln.bias.data + (product.bias.data if isinstance(product, Linear) else 0)
        return place(np.multiply, weight, ln.weight.data * math.sqrt(C), bias, 1, even - C)

    def centred(linear, heads, ones):
        weight, bias = linear.weight.data, linear.bias.data
        return place(np.subtract, weight, weight.mean(axis=0), bias - bias.mean(), heads, ones)

    for block in model.h:
        c_attn = after(block.ln_1, block.attn.c_attn)
        c_attn[:C] /= math.sqrt(C / H)  # the queries, which attention wants divided
        attn_proj, mlp_proj = centred(block.attn.c_proj, H, 1), centred(block.mlp.c_proj, 1, 2)
        layers.append((c_attn, attn_proj, after(block.ln_2, block.mlp.c_fc), mlp_proj))
    wte, wpe = (table.weight.data - table.weight.data.mean(axis=1, keepdims=True) for table in (model.wte, model.wpe))
    head, pairs = after(model.ln_f, model.wte), np.result_type(wte, np.complex64)
    by_pairs = [(c_attn.view(pairs), proj, c_fc.view(pairs), mlp_proj.view(pairs)) for c_attn, proj, c_fc, mlp_proj in layers]
    return wte, wpe, (layers, head), (by_pairs, head.view(pairs))


def _normalised(x, C):
    """The columns of x over their lengths, of which its rows from C on are a part, sqrt(C eps), and then become 1.

    The length of a single column is a Python number, in half the time of arrays of one.
    """
    n = x / (math.sqrt(np.vdot(x, x)) if x.shape[1] == 1 else np.sqrt(np.vecdot(x, x, axis=0)))
    n[C:] = 1
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
