"""Notebook 02: counting pairs, joining one, an expensive text, encoding a word, text that is ready to print."""

import codecs
from collections import Counter

from tinygpt_lib.tokenizer import get_encoding, merge_word

from .judge import Exercise


def _bytes(text):
    return tuple(bytes([b]) for b in text.encode())


def _counts(words, spell=lambda a, b: a + b, weight=lambda n: n, overwrite=False, once=False):
    counts = Counter()
    for parts, n in words.items():
        pairs = [spell(a, b) for a, b in zip(parts, parts[1:])]
        for pair in dict.fromkeys(pairs) if once else pairs:
            counts[pair] = weight(n) + (0 if overwrite else counts[pair])
    return counts


COUNT = Exercise(
    "Count the pairs",
    _counts,
    cases=(
        ({_bytes("the"): 3, _bytes(" the"): 2, _bytes("with"): 1},),
        ({_bytes("banana"): 5, _bytes("can"): 2, _bytes("aaa"): 1},),
        ({(b" th", b"e"): 2, (b" t", b"he"): 4, (b"x",): 9},),
        ({_bytes("n\u00e9e"): 2, (): 1},),
        ({},),
    ),
    mistakes={
        "A word's pairs count as often as the word occurs: add its number n, not 1.":
            lambda words: _counts(words, weight=lambda n: 1),
        "A pair of an earlier word is overwritten by a later one: add to what is there.":
            lambda words: _counts(words, overwrite=True),
        "A pair can occur several times in a word: banana has b'an' twice.": lambda words: _counts(words, once=True),
        "Count under what the two parts spell together, a + b: b' th' with b'e' makes the same token as b' t' with b'he'.":
            lambda words: _counts(words, spell=lambda a, b: (a, b)),
    },
)


def _joined(ids, pair, new, hit=lambda a, b, pair: (a, b) == pair, once=False, keep_last=True):
    joined, i = [], 0
    while i < len(ids) - (not keep_last):
        if i + 1 < len(ids) and hit(ids[i], ids[i + 1], pair) and not (once and new in joined):
            joined.append(new)
            i += 2
        else:
            joined.append(ids[i])
            i += 1
    return joined


def _used_twice(ids, pair, new):
    hits = {i for i, two in enumerate(zip(ids, ids[1:])) if two == pair}
    return [new if i in hits else ids[i] for i in range(len(ids)) if i in hits or i - 1 not in hits]


JOIN = Exercise(
    "Join one pair",
    _joined,
    cases=(
        ([116, 104, 101, 32, 116, 104], (116, 104), 256),
        ([1, 1, 1], (1, 1), 9),
        ([1, 1, 1, 1, 2, 1, 1], (1, 1), 9),
        ([2, 2, 1, 3, 3, 1], (1, 3), 9),
        ([3, 1, 2, 1], (1, 2), 9),
        ([11, 1, 12], (1, 1), 9),
        ([5], (5, 5), 9),
        ([], (1, 2), 9),
    ),
    mistakes={
        "Of 1, 1, 1 the second 1 is used twice: after a join, go on behind both ids.": _used_twice,
        "The second id of the pair is still there: a join takes two ids away and puts one in.":
            lambda ids, pair, new: [new if (a, b) == pair else a for a, b in zip(ids, [*ids[1:], None])],
        "Only the first place is joined: go on to the end.": lambda ids, pair, new: _joined(ids, pair, new, once=True),
        "The last id gets lost when it isn't part of a pair.": lambda ids, pair, new: _joined(ids, pair, new, keep_last=False),
        "In a run such as 1, 1, 1 it's the leftmost two that are joined, not the last two.":
            lambda ids, pair, new: _joined(ids[::-1], pair[::-1], new)[::-1],
        "Ids are names, not amounts: 2 + 2 is 1 + 3, and yet another pair. Compare both ids.":
            lambda ids, pair, new: _joined(ids, pair, new, hit=lambda a, b, pair: a + b == sum(pair)),
        "The order matters: (1, 3) isn't (3, 1).":
            lambda ids, pair, new: _joined(ids, pair, new, hit=lambda a, b, pair: {a, b} == set(pair)),
    },
)


def _examine_expensive(text):
    if not isinstance(text, str):
        return f"Pass a text, in quotation marks: got {type(text).__name__}."
    tokens, sizes = len(get_encoding("play").encode_ordinary(text)), {len(c.encode("utf-8", "replace")) for c in text}
    if len(text) > 10:
        return f"It has {len(text)} characters: ten are allowed."
    if tokens >= 40:
        return None
    if sizes == {4}:
        return f"Four bytes a character is the most there is, and none of these merge: {tokens} tokens. Use all ten characters."
    if sizes <= {1}:
        hint = "characters of one byte, as in English, never cost more than a token each. Which ones have more bytes?"
        return f"{tokens} tokens: {hint}"
    return f"{tokens} tokens: these characters have {' or '.join(map(str, sorted(sizes)))} bytes. Some in Unicode have more."


EXPENSIVE = Exercise("An expensive text", examine=_examine_expensive)


def _encoded(word, ranks, choose=min, most=None):
    """Joins of the pair that `choose` takes among (rank, place) of those known, at most `most` of them."""
    parts = list(_bytes(word))
    while most != 0 and (known := [(ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]):
        i = choose(known)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        most = most and most - 1
    return [ranks[part] for part in parts]


def _encode_word(word, ranks):
    parts = list(_bytes(word))
    merge_word(parts, ranks)
    return [ranks[part] for part in parts]


def _longest_first(word, ranks):
    data, ids = word.encode(), []
    while data:
        size = max(n for n in range(1, len(data) + 1) if data[:n] in ranks)
        ids.append(ranks[data[:size]])
        data = data[size:]
    return ids


def _ranks(*tokens):
    return {token: i for i, token in enumerate(tokens)}


_LETTERS = (b"a", b"b", b"c", b"d")
_HAT = _ranks(b" ", b"a", b"e", b"h", b"t", b"at", b"th", b"the", b" the", b" hat")

ENCODE = Exercise(
    "Encode a word",
    _encode_word,
    cases=(
        ("abcd", _ranks(*_LETTERS, b"bc", b"ab", b"abcd")),
        ("abc", _ranks(*_LETTERS, b"ab", b"bc")),
        ("abc", {b"a": 0, b"b": 1, b"c": 2, b"bc": 4, b"ab": 3}),
        (" the", _HAT),
        ("that", _HAT),
        ("aaa", _ranks(b"a", b"aa")),
        ("aaaaaaa", _ranks(b"a", b"aa", b"aaaa")),
        ("abcab", _ranks(*_LETTERS, b"ab", b"bca")),
        ("n\u00e9e", _ranks(b"n", b"e", b"\xc3", b"\xa9", b"n\xc3")),
        ("", _ranks(b"a")),
    ),
    mistakes={
        "This takes the longest token that fits, from the left. "
        "Start from single bytes and join in the order in which the tokens were learned.":
            _longest_first,
        "This joins the first known pair from the left. "
        "Among all pairs that are there, the one with the lowest rank comes first.":
            lambda word, ranks: _encoded(word, ranks, lambda known: min(known, key=lambda pair: pair[1])),
        "This joins the token that was learned last. The lowest rank comes first: what is built of it comes later.":
            lambda word, ranks: _encoded(word, ranks, lambda known: max(known, key=lambda pair: (pair[0], -pair[1]))),
        "One join isn't enough: go on until no pair of neighbours is a token.": lambda word, ranks: _encoded(word, ranks, most=1),
        "Where two places have the same rank, the left one is joined first.":
            lambda word, ranks: _encoded(word, ranks, lambda known: min(known, key=lambda pair: (pair[0], -pair[1]))),
        "The tokens are right, but a model reads numbers: return ranks[token] of each.":
            lambda word, ranks: [{i: token for token, i in ranks.items()}[i] for i in _encode_word(word, ranks)],
        "These are single bytes: join neighbours whose bytes together are a token.":
            lambda word, ranks: _encoded(word, ranks, most=0),
        "A word's letters aren't its bytes: \u00e9 is two of them. Start from word.encode().":
            lambda word, ranks: _encode_word(word, ranks) if word.isascii() else [ranks[letter.encode()] for letter in word],
    },
)  # fmt: skip


def _ready(data):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(data), decoder.getstate()[0]


def _all_or_nothing(data):
    return (data.decode(errors="replace"), b"") if not _ready(data)[1] else ("", data)


def _hold_back(data, held):
    cut = len(data)
    while cut and held(data[cut - 1]):
        cut -= 1
    return data[:cut].decode(errors="replace"), data[cut:]


def _from_last_start(data):
    """Always waits with the last character, if it has several bytes."""
    text, waiting = _ready(data)
    return (text[:-1], text[-1].encode()) if not waiting and text and not text[-1].isascii() else (text, waiting)


_MASKS = "\U0001f3ad"

READY = Exercise(
    "What is ready to print",
    _ready,
    cases=tuple(
        (data,)
        for data in (
            b"abc", b"", "\u00e9".encode(), "\u00e9".encode()[:1], "n\u00e9e".encode()[:2], f"ab{_MASKS}".encode()[:5],
            _MASKS.encode() * 2, (_MASKS.encode() * 2)[:7],
            "\u65e5\u672c".encode()[:5], "\u65e5\u672c".encode()[:4], "\u00e9\u00e9".encode(),
            "a\ufffd".encode(),
        )
    ),
    mistakes={
        "All or nothing: while the last character isn't complete, those before it are ready all the same.": _all_or_nothing,
        "The text is right, but the bytes that wait are thrown away: "
        "the rest of the character will come, and then they're needed.":
            lambda data: (_ready(data)[0], b""),
        "Half a character was printed as \ufffd, and what is printed stays. Its bytes must wait for the rest.":
            lambda data: (data.decode(errors="replace"), b""),
        "A byte of 128 or more isn't a reason to wait: a character that is complete is ready.":
            lambda data: _hold_back(data, lambda byte: byte >= 128),
        "This waits with a last character that is complete. Its first byte says how many bytes belong to it.": _from_last_start,
        "Up to three bytes can be waiting, not only one.":
            lambda data: _ready(data) if len(_ready(data)[1]) < 2 else (data[:-1].decode(errors="replace"), data[-1:]),
    },
)  # fmt: skip

EXERCISES = [COUNT, JOIN, EXPENSIVE, ENCODE, READY]
