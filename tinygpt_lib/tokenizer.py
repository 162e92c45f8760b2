"""Byte-pair encoding: learning the tokens is ours, encoding with them is tiktoken's."""

import base64
from collections import Counter, defaultdict

from . import archive, validate

END_OF_TEXT = "<|endoftext|>"

# GPT-2's way of cutting text into words before any merging (Radford et al., 2019): contractions,
# then letters, digits or other signs, each with the one space before it, then what is left of the space.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def learn_merges(text):
    """An iterator of (token, count) for the most frequent pair of neighbours, merged, again and again.

    token: the bytes of the new token. Of equally frequent ones the first in byte order comes first.
    Sennrich et al., 2016 (arXiv 1508.07909), on bytes. ("aaab" * 9 gives b"aa", ...)
    """
    validate.string("text", text)
    return _merges(text)


def _merges(text):
    import regex

    pieces = (piece for part in text.split(END_OF_TEXT) for piece in regex.findall(GPT2_PATTERN, part))
    words = [([bytes([b]) for b in word.encode("utf-8")], n) for word, n in Counter(pieces).items()]
    counts, where, ranks = Counter(), defaultdict(set), {}
    for i, (parts, n) in enumerate(words):
        for pair in _joined_pairs(parts):
            counts[pair] += n
            where[pair].add(i)
    while counts:
        token = min(counts, key=lambda pair: (-counts[pair], pair))
        yield token, counts[token]
        ranks[token] = len(ranks)
        for i in where.pop(token):
            parts, n = words[i]
            for pair in _joined_pairs(parts):
                counts[pair] -= n
                if not counts[pair]:
                    del counts[pair]
            merge_word(parts, ranks)
            for pair in _joined_pairs(parts):
                counts[pair] += n
                where[pair].add(i)


def merge_word(parts, ranks):
    """Join neighbours in the list `parts` of bytes, in place, the pair of lowest rank first, while any has one."""
    while True:
        ranked = [(ranks[pair], i) for i, pair in enumerate(_joined_pairs(parts)) if pair in ranks]
        if not ranked:
            return
        i = min(ranked)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def _joined_pairs(parts):
    return [a + b for a, b in zip(parts, parts[1:])]


def train_bpe(text, vocab_size, name="bpe"):
    """A tiktoken.Encoding of vocab_size tokens learned from text: 256 bytes, merges, and <|endoftext|> last."""
    validate.whole_number("vocab_size (256 bytes, merges and <|endoftext|>)", vocab_size, least=257)
    tokens = [bytes([b]) for b in range(256)]
    merges = learn_merges(text)
    while len(tokens) < vocab_size - 1:
        token, _ = next(merges, (None, 0))
        if token is None:
            raise ValueError(f"this text has pairs for {len(tokens) + 1} at most, got vocab_size {vocab_size}: pass more text")
        tokens.append(token)
    return _make_encoding(name, tokens)


def _make_encoding(name, tokens, pattern=GPT2_PATTERN):
    import tiktoken

    ranks = {token: rank for rank, token in enumerate(tokens)}
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(tokens)})


def pack_encoding(encoding):
    """An encoding for a checkpoint: one of tiktoken's own by its name, others by their pattern and tokens."""
    import tiktoken

    if tiktoken.registry.ENCODINGS.get(encoding.name) is encoding:
        return archive.pack({"name": encoding.name})
    if encoding._special_tokens != {END_OF_TEXT: len(encoding._mergeable_ranks)}:
        raise ValueError(f"a checkpoint's encoding must have one special token, {END_OF_TEXT}, behind its other ones")
    tokens = [base64.b64encode(encoding.decode_single_token_bytes(i)).decode() for i in range(encoding.eot_token)]
    return archive.pack({"name": encoding.name, "pattern": encoding._pat_str, "tokens": tokens})


def unpack_encoding(packed):
    """The encoding of `pack_encoding`."""
    value = archive.unpack(packed)
    if "tokens" not in value:
        return get_encoding(value["name"])
    return _make_encoding(value["name"], [base64.b64decode(token) for token in value["tokens"]], value["pattern"])


def get_encoding(name):
    """The encoding of a shipped model ("play") or any that tiktoken knows ("gpt2", which it may have to download)."""
    import requests
    import tiktoken

    if name in archive.SHIPPED:
        return unpack_encoding(archive.read(archive.asset(name))[archive.ENCODING])
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise ValueError(f"there is no encoding {name!r}: choose one of {', '.join([*archive.SHIPPED, *known])}")
    try:
        return tiktoken.get_encoding(name)
    except (requests.exceptions.RequestException, OSError) as error:
        raise ConnectionError(
            f"tiktoken could not download the encoding {name!r} ({type(error).__name__}): go online once, or set "
            f"TIKTOKEN_CACHE_DIR to a folder that holds it, or use get_encoding({archive.SHIPPED[0]!r}), which works offline"
        ) from error


def show_token(encoding, token):
    """A token as one can print it: a space as \u00b7, a newline as \u21b5, bytes that aren't text in hexadecimal."""
    token = validate.token_ids("token", [token], encoding.n_vocab)[0]
    data = encoding.decode_single_token_bytes(int(token))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{b:02x}>" for b in data)
    signs = {" ": "\u00b7", "\n": "\u21b5", "\t": "\u21e5"}
    return "".join(signs.get(c, c if c.isprintable() else f"<{ord(c):02x}>") for c in text)
