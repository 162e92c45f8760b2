"""Text from a model, one token at a time: `stream` is the one way, the others call it."""

import codecs
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import sampling, validate
from .gpt import KVCache
from .sampling import SamplingSettings
from .tensor import Tensor

GPT2_VOCABULARY = 50257


@dataclass(frozen=True, eq=False)
class Step:
    """One token for each text that `stream` continues.

    token: an int, or for a batch an array (B,). text: what it adds that is safe to print, or a list
    of B such; characters whose bytes aren't complete yet wait, and without an encoding it is empty.
    logits: (V,) or (B, V), of which `trace` shows how the token was chosen.
    """

    token: int | np.ndarray
    text: str | list
    logits: np.ndarray
    settings: SamplingSettings
    seen: np.ndarray

    @cached_property
    def trace(self):
        return sampling.trace(self.logits, self.settings, self.seen)


def stream(model, ids, settings=None, *, max_new_tokens=None, seed=None, rng=None, encoding=None, stop_at_eot=False):
    """Yield a `Step` for each new token after ids, (T,) or (B, T).

    Ends after max_new_tokens (None: never), or with stop_at_eot when every row has drawn
    end-of-text; a row that has is filled with it. `rng` is a numpy Generator, `seed` makes one,
    neither draws from fresh entropy. Beyond block_size the model sees the last block_size tokens.
    """
    settings = SamplingSettings() if settings is None else settings
    if not isinstance(settings, SamplingSettings):
        raise TypeError(f"settings must be SamplingSettings, got {type(settings).__name__}")
    ids = _prompt_ids(ids, model.config.vocab_size)
    if max_new_tokens is not None:
        validate.whole_number("max_new_tokens", max_new_tokens)
    encoding = model.encoding if encoding is None else encoding
    if encoding is not None:
        _check_vocabulary(model, encoding)
    elif stop_at_eot:
        raise ValueError("stop_at_eot needs to know the end-of-text token: pass encoding=")
    if rng is not None and seed is not None:
        raise ValueError("pass seed or rng, not both")
    rng = validate.seeded(seed) if rng is None else validate.generator(rng)
    return _steps(model, ids, settings, max_new_tokens, rng, encoding, stop_at_eot)


def _steps(model, ids, settings, max_new_tokens, rng, encoding, stop_at_eot):
    single, ids = ids.ndim == 1, np.atleast_2d(ids)
    B, block_size = len(ids), model.config.block_size
    cache, unread = KVCache(model.config, B, model.wte.weight.dtype), ids[:, -block_size:]
    ended = np.zeros(B, dtype=bool)
    readers = [_TextReader(encoding) for _ in range(B)]
    made, over = 0, max_new_tokens == 0
    while not over:
        if cache.length + unread.shape[1] > block_size:  # every position shifts by one: nothing that was cached holds any more
            cache.length, unread = 0, ids[:, -block_size:]
        logits, _ = model(unread, cache=cache)
        last = logits.data[:, -1].copy()  # (B, V), so that a Step doesn't keep the other positions' logits
        tokens = sampling.sample(last, settings, rng, ids)
        if stop_at_eot:
            tokens = np.where(ended, encoding.eot_token, tokens)
            ended |= tokens == encoding.eot_token
        made += 1
        over = made == max_new_tokens or stop_at_eot and bool(ended.all())
        texts = [reader.read(token, over) for reader, token in zip(readers, tokens, strict=True)]
        first = (int(tokens[0]), texts[0], last[0], settings, ids[0])
        yield Step(*first) if single else Step(tokens, texts, last, settings, ids)
        unread = tokens[:, None]
        ids = np.concatenate([ids, unread], axis=1)


class _TextReader:
    """Turns tokens into text as their bytes become whole characters; end-of-text is no text."""

    def __init__(self, encoding):
        self.encoding = encoding
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, token, over):
        if self.encoding is None:
            return ""
        data = b"" if token == self.encoding.eot_token else self.encoding.decode_single_token_bytes(int(token))
        return self.decoder.decode(data, final=over)


def generate(model, idx, max_new_tokens, **options):
    """The likeliest token each time (greedy): ids (B, T) to a Tensor of ids (B, T + max_new_tokens).

    options, here and below: other settings by name (top_k=50, min_p=0.05, ...), seed or rng,
    encoding, and stop_at_eot to stop when all rows have ended.
    """
    return _generate(model, idx, max_new_tokens, options, temperature=0)


def generate_with_temperature(model, idx, max_new_tokens, temperature=1.0, **options):
    """Like `generate`, drawing from softmax(logits / temperature)."""
    return _generate(model, idx, max_new_tokens, options, temperature=temperature)


def generate_top_k(model, idx, max_new_tokens, temperature=1.0, top_k=50, **options):
    """Like `generate`, drawing from the top_k likeliest tokens."""
    return _generate(model, idx, max_new_tokens, options, temperature=temperature, top_k=top_k)


def generate_top_p(model, idx, max_new_tokens, temperature=1.0, top_p=0.9, **options):
    """Like `generate`, drawing from the fewest tokens whose probabilities reach top_p."""
    return _generate(model, idx, max_new_tokens, options, temperature=temperature, top_p=top_p)


def _generate(model, idx, max_new_tokens, options, **settings):
    ids = _prompt_ids(idx, model.config.vocab_size)
    if ids.ndim != 2:
        raise ValueError(f"idx must have shape (batch, time), got {ids.shape}: [ids] makes a batch of one")
    validate.whole_number("max_new_tokens", max_new_tokens)
    options, settings = split_settings(options, settings)
    steps = stream(model, ids, settings, max_new_tokens=max_new_tokens, **options)
    return Tensor(np.concatenate([ids, *(step.token[:, None] for step in steps)], axis=1))


def generate_text(model, prompt, max_tokens=100, temperature=0.8, top_k=50, top_p=0.9, *, stop_at_eot=True, **options):
    """The prompt and its continuation as a string, up to end-of-text (left out) or max_tokens new tokens.

    options: other settings by name, seed or rng, and encoding (else the model's own, else GPT-2's
    for its vocabulary of 50,257).
    """
    encoding = encoding_of(model, options.pop("encoding", None))
    validate.whole_number("max_tokens", max_tokens)
    options, settings = split_settings(options, dict(temperature=temperature, top_k=top_k, top_p=top_p))
    ids = encode_prompt(encoding, prompt)
    steps = stream(model, ids, settings, max_new_tokens=max_tokens, encoding=encoding, stop_at_eot=stop_at_eot, **options)
    return prompt + "".join(step.text for step in steps)


def encoding_of(model, encoding=None):
    """The encoding to read and write a model's text with: the one given, its own, or GPT-2's by its size."""
    encoding = model.encoding if encoding is None else encoding
    if encoding is None and model.config.vocab_size == GPT2_VOCABULARY:
        from .tokenizer import get_encoding

        encoding = get_encoding("gpt2")
    if encoding is None:
        raise ValueError(f"the model has no encoding of its own: pass encoding=, of {model.config.vocab_size} tokens")
    _check_vocabulary(model, encoding)
    return encoding


def encode_prompt(encoding, prompt):
    """The ids of a prompt that must have some; <|endoftext|> in it is the token, not its letters."""
    validate.string("the prompt", prompt)
    if not prompt:
        raise ValueError("the prompt is empty and the model must start from something: pass at least a newline")
    return encoding.encode(prompt, allowed_special="all")


def split_settings(options, settings):
    """Options that aren't sampling settings, and SamplingSettings of those that are and of `settings`."""
    names = SamplingSettings.__dataclass_fields__.keys()
    known = {"seed", "rng", "encoding", "stop_at_eot", *names} - settings.keys()
    if wrong := options.keys() - known:
        raise TypeError(f"no option {min(wrong)} here: choose among {', '.join(sorted(known | settings.keys() - wrong))}")
    chosen = {name: options.pop(name) for name in names & options.keys()}
    return options, SamplingSettings(**settings, **chosen)


def _prompt_ids(idx, vocab_size):
    if isinstance(idx, str):
        raise TypeError("the model reads ids, not text: pass encode(encoding, text), or call generate_text")
    ids = validate.token_ids("ids", Tensor(idx).data, vocab_size)
    if ids.ndim not in (1, 2) or not ids.size:
        raise ValueError(f"ids (time,) or (batch, time) must not be empty, got {ids.shape}: start from at least one token")
    return ids


def _check_vocabulary(model, encoding):
    if not hasattr(encoding, "n_vocab"):
        raise TypeError(f"encoding must be a tiktoken.Encoding, got {encoding!r}: get_encoding(name) gives one")
    if encoding.n_vocab != model.config.vocab_size:
        raise ValueError(f"{encoding.name!r} has {encoding.n_vocab} tokens, the model {model.config.vocab_size}: they must agree")
