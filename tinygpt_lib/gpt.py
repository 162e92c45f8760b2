"""GPT-2's architecture (Radford et al., 2019): embeddings, blocks, a head tied to the token embedding.

Shapes: B batch, T time, C channels (n_embd), H heads, D = C / H, V vocabulary.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from . import archive, validate
from . import functional as F
from .nn import Block, Dropout, Embedding, LayerNorm, Module
from .tensor import Tensor, no_grad


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

    keys, values: (n_layer, B, H, block_size, D), filled up to `length`.
    """

    def __init__(self, config, batch=1, dtype=np.float32):
        shape = (config.n_layer, batch, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.keys, self.values = np.empty(shape, dtype=dtype), np.empty(shape, dtype=dtype)
        self.length = 0

    def layer(self, i):
        """A function that stores new keys and values (B, H, T, D) of layer i and returns all of them so far."""

        def past(k, v):
            end = self.length + k.shape[2]
            self.keys[i, :, :, self.length : end], self.values[i, :, :, self.length : end] = k, v
            return self.keys[i, :, :, :end], self.values[i, :, :, :end]

        return past


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

        With a `cache`, idx continues the tokens that it has seen and nothing can be differentiated.
        """
        idx = self._check_ids(idx, cache)
        if cache is not None and targets is not None:
            raise ValueError("a loss needs the whole text at once: pass targets or a cache, not both")
        with nullcontext() if cache is None else no_grad():
            start = 0 if cache is None else cache.length
            T = idx.shape[1]
            x = self.wte(idx) + self.wpe(np.arange(start, start + T))  # (B, T, C) + (T, C)
            x = self.drop(x)
            for i, block in enumerate(self.h):
                x = block(x, None if cache is None else cache.layer(i))
            logits = F.linear(self.ln_f(x), self.wte.weight)  # (B, T, C) -> (B, T, V)
        if cache is not None:
            cache.length += T
        return logits, None if targets is None else F.cross_entropy(logits, targets)

    def _check_ids(self, idx, cache):
        idx = idx.data if isinstance(idx, Tensor) else Tensor(idx).data
        if idx.ndim != 2 or 0 in idx.shape:
            raise ValueError(f"the model reads ids of shape (batch, time), neither of them 0, got {idx.shape}: [ids] makes a batch of one")
        room = self.config.block_size - (cache.length if cache else 0)
        if idx.shape[1] > room:
            raise ValueError(f"there is room for {room} tokens (block_size {self.config.block_size}), got {idx.shape[1]}: keep the last {room}")
        if cache is not None and cache.keys.shape[1] != len(idx):
            raise ValueError(f"the cache is for a batch of {cache.keys.shape[1]}, got {len(idx)} rows")
        return idx

    def load_state_dict(self, state):
        """Take the weights of `state`, a dict or what np.load gives, and the encoding of a checkpoint."""
        entries, encoding = archive.read(state), self.encoding
        if archive.ENCODING in entries:
            from .tokenizer import unpack_encoding  # tiktoken is loaded only where it's needed

            encoding = unpack_encoding(entries[archive.ENCODING])
        super().load_state_dict(archive.without_meta(entries))
        self.encoding = encoding
