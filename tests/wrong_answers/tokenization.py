"""Notebook 02."""

from collections import Counter


def pairs_unweighted(words):
    return Counter(a + b for parts in words for a, b in zip(parts, parts[1:]))


def pairs_overwritten(words):
    counts = {}
    for parts, n in words.items():
        here = Counter(a + b for a, b in zip(parts, parts[1:]))
        counts.update({token: n for token in here})
    return counts


def pairs_once_a_word(words):
    counts = {}
    for parts, n in words.items():
        for token in {parts[i] + parts[i + 1] for i in range(len(parts) - 1)}:
            counts[token] = counts.get(token, 0) + n
    return counts


def pairs_as_tuples(words):
    counts = {}
    for parts, n in words.items():
        for i in range(len(parts) - 1):
            pair = parts[i], parts[i + 1]
            counts[pair] = counts.get(pair, 0) + n
    return counts


def pairs_last_missing(words):
    counts = {}
    for parts, n in words.items():
        for i in range(len(parts) - 2):
            counts[parts[i] + parts[i + 1]] = counts.get(parts[i] + parts[i + 1], 0) + n
    return counts


def join_no_skip(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            out.append(new)
            if tuple(ids[i + 1 : i + 3]) != pair:
                i += 1
        else:
            out.append(ids[i])
        i += 1
    return out


def join_keeps_second(ids, pair, new):
    out = list(ids)
    for i in range(len(ids) - 1):
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            out[i] = new
    return out


def join_first_only(ids, pair, new):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return ids[:i] + [new] + ids[i + 2 :]
    return list(ids)


def join_loses_last(ids, pair, new):
    out, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def join_from_the_right(ids, pair, new):
    ids = list(ids)
    for i in range(len(ids) - 2, -1, -1):
        if tuple(ids[i : i + 2]) == pair:
            ids[i : i + 2] = [new]
    return ids


def join_by_sum(ids, pair, new):
    out = []
    for i in ids:
        if out and out[-1] != new and out[-1] + i == pair[0] + pair[1]:
            out[-1] = new
        else:
            out.append(i)
    return out


def join_in_place(ids, pair, new):
    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new]
        i += 1
    return ids


def encode_longest(word, ranks):
    data, out, i = word.encode(), [], 0
    while i < len(data):
        for j in range(len(data), i, -1):
            if data[i:j] in ranks:
                out.append(ranks[data[i:j]])
                i = j
                break
    return out


def _parts(word):
    return [bytes([b]) for b in word.encode("utf-8")]


def encode_leftmost(word, ranks):
    parts, i = _parts(word), 0
    while i < len(parts) - 1:
        if parts[i] + parts[i + 1] in ranks:
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i = 0
        else:
            i += 1
    return [ranks[part] for part in parts]


def _encode(word, ranks, key):
    parts = _parts(word)
    while places := [i for i in range(len(parts) - 1) if parts[i] + parts[i + 1] in ranks]:
        i = min(places, key=lambda i: key(ranks[parts[i] + parts[i + 1]], i))
        parts = parts[:i] + [parts[i] + parts[i + 1]] + parts[i + 2 :]
    return parts


def encode_newest(word, ranks):
    return [ranks[part] for part in _encode(word, ranks, lambda rank, i: -rank)]


def encode_rightmost(word, ranks):
    return [ranks[part] for part in _encode(word, ranks, lambda rank, i: (rank, -i))]


def encode_to_bytes(word, ranks):
    return _encode(word, ranks, lambda rank, i: rank)


def encode_once(word, ranks):
    parts = _parts(word)
    joined = [a + b for a, b in zip(parts, parts[1:])]
    known = [token for token in joined if token in ranks]
    if known:
        i = joined.index(min(known, key=ranks.get))
        parts[i : i + 2] = [joined[i]]
    return [ranks[part] for part in parts]


def encode_bytes_only(word, ranks):
    return [ranks[part] for part in _parts(word)]


def encode_letters(word, ranks):
    parts = [letter.encode() for letter in word]
    while joined := [a + b for a, b in zip(parts, parts[1:]) if a + b in ranks]:
        token = min(joined, key=ranks.get)
        i = [a + b for a, b in zip(parts, parts[1:])].index(token)
        parts[i : i + 2] = [token]
    return [ranks[part] for part in parts]


def ready_all_or_nothing(data):
    try:
        return data.decode("utf-8"), b""
    except UnicodeDecodeError:
        return "", data


def ready_ignored(data):
    return data.decode("utf-8", errors="ignore"), b""


def ready_replaced(data):
    return data.decode("utf-8", errors="replace"), b""


def ready_ascii_only(data):
    end = len(data.rstrip(bytes(range(128, 256))))
    return data[:end].decode(), data[end:]


def ready_last_waits(data):
    starts = [i for i, byte in enumerate(data) if byte < 0x80 or byte >= 0xC0]
    if not starts or data[starts[-1]] < 0x80:
        return data.decode(), b""
    return data[: starts[-1]].decode(), data[starts[-1] :]


def ready_one_byte(data):
    try:
        return data.decode(), b""
    except UnicodeDecodeError:
        return data[:-1].decode("utf-8", "replace"), data[-1:]


WRONG = {
    "2.1": [
        (pairs_unweighted, "add its number n"),
        (pairs_overwritten, "overwritten by a later one"),
        (pairs_once_a_word, "several times in a word"),
        (pairs_as_tuples, "spell together"),
        (pairs_last_missing, "expected a dict"),
    ],
    "2.2": [
        (join_no_skip, "used twice"),
        (join_keeps_second, "still there"),
        (join_first_only, "Only the first place"),
        (join_loses_last, "last id gets lost"),
        (join_from_the_right, "the leftmost two"),
        (join_by_sum, "Ids are names"),
        (join_in_place, "changes its arguments"),
    ],
    "2.3": [
        ("a" * 40, "ten are allowed"),
        ("jazzy quiz", "never cost more than a token"),
        ("n\u00e9e", "1 or 2 bytes"),
        ("\u65e5\u672c" * 5, "have 3 bytes"),
        ("\U0001f3ad", "Use all ten"),
        (40, "got int"),
    ],
    "2.4": [
        (encode_longest, "the longest token that fits"),
        (encode_leftmost, "first known pair from the left"),
        (encode_newest, "learned last"),
        (encode_rightmost, "the left one"),
        (encode_to_bytes, "a model reads numbers"),
        (encode_once, "One join isn't enough"),
        (encode_bytes_only, "single bytes"),
        (encode_letters, "aren't its bytes"),
    ],
    "2.5": [
        (ready_all_or_nothing, "All or nothing"),
        (ready_ignored, "thrown away"),
        (ready_replaced, "stays"),
        (ready_ascii_only, "a reason to wait"),
        (ready_last_waits, "first byte says"),
        (ready_one_byte, "not only one"),
    ],
}
