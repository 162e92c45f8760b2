"""Byte-pair encoding against a case worked by hand, its definition, and tiktoken."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import regex
import requests
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygpt_lib import archive, encode, get_encoding, learn_merges, load_corpus, load_pretrained, show_token, train_bpe
from tinygpt_lib.tokenizer import END_OF_TEXT, GPT2_PATTERN, pack_encoding, unpack_encoding

ROOT = Path(__file__).parents[1]
# What the pattern treats differently: contractions, digits of other scripts, marks, many kinds of space.
SIGNS = st.sampled_from("'sdmtlvre aB19\u0663\u0301 \u00a0\u3000\n\r\t\u200d!")
TRICKY = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), SIGNS))


def segment(parts, ranks):
    """Byte-pair encoding from its definition: join the neighbours of lowest rank, the leftmost first, until none has one."""
    joined = [ranks.get(a + b, float("inf")) for a, b in zip(parts, parts[1:])]
    if not joined or min(joined) == float("inf"):
        return parts
    i = joined.index(min(joined))
    return segment([*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]], ranks)


def plain_encode(encoding, text):
    ranks = {encoding.decode_single_token_bytes(i): i for i in range(encoding.eot_token)}
    words = {}
    for word in (pieces := regex.findall(GPT2_PATTERN, text)):
        if word not in words:
            words[word] = [ranks[part] for part in segment([bytes([b]) for b in word.encode()], ranks)]
    return [token for word in pieces for token in words[word]]


def neighbours(words, ranks):
    """How often each pair of neighbours occurs in words {text: count} once they are segmented with ranks."""
    counts = Counter()
    for word, n in words.items():
        parts = segment([bytes([b]) for b in word.encode()], ranks)
        counts.update({a + b: 0 for a, b in zip(parts, parts[1:])})
        for a, b in zip(parts, parts[1:]):
            counts[a + b] += n
    return counts


def assert_merges_follow_the_definition(text, most=None):
    words, ranks = Counter(regex.findall(GPT2_PATTERN, text)), {}
    for token, count in learn_merges(text):
        counts = neighbours(words, ranks)
        assert (token, count) == min(counts.items(), key=lambda item: (-item[1], item[0]))
        ranks[token] = len(ranks)
        if len(ranks) == most:
            return
    assert not neighbours(words, ranks), "learning stopped although pairs were left"


# ---- learning


def test_merges_worked_by_hand():
    # Words "ab", " ab", " abc", " bc": a+b occurs 3 times, then " "+ab twice, then three pairs
    # once each, of which " abc" is the first in byte order; " bc" is left, and " b" comes before "bc".
    assert list(learn_merges("ab ab abc bc")) == [(b"ab", 3), (b" ab", 2), (b" abc", 1), (b" b", 1), (b" bc", 1)]


def test_a_tie_goes_to_the_first_in_byte_order():
    assert next(learn_merges("zy zy ab ab")) == (b" a", 2)  # before "ab" and "zy", which occur twice, too
    assert [token for token, _ in learn_merges("ba\ncd")] == [b"ba", b"cd"]


@pytest.mark.parametrize("text", ["aaaa aaa aa aaaaaaa", "abcbcab cabab abcabc", "the thee then, the end. "])
def test_every_merge_of_a_small_text_is_the_most_frequent_pair(text):
    assert_merges_follow_the_definition(text)


def test_the_first_merges_of_the_play_are_the_most_frequent_pairs(play):
    assert_merges_follow_the_definition(play[:20_000].replace(END_OF_TEXT, ""), 40)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.text("ab é", max_size=60))
def test_every_merge_of_a_random_text_is_the_most_frequent_pair(text):
    assert_merges_follow_the_definition(text)


def test_learning_does_not_depend_on_the_hash_seed():
    code = "from tinygpt_lib import *; print(list(learn_merges(load_corpus()[:5000])))"
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        outputs.add(
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True).stdout
        )
    assert len(outputs) == 1 and len(outputs.pop()) > 1000


# ---- encoding, which is tiktoken's


def test_tiktoken_cuts_the_whole_play_as_the_definition_says(play, play_encoding):
    text = play.replace(END_OF_TEXT, "")
    assert play_encoding.encode_ordinary(text) == plain_encode(play_encoding, text)


def test_tiktoken_cuts_all_of_shakespeare_as_the_definition_says(shakespeare, play_encoding):
    assert play_encoding.encode_ordinary(shakespeare) == plain_encode(play_encoding, shakespeare)
    own = train_bpe(shakespeare[:100_000], 400)
    assert own.encode_ordinary(shakespeare) == plain_encode(own, shakespeare)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(TRICKY)
def test_random_unicode_is_cut_as_the_definition_says_and_comes_back(play_encoding, text):
    ids = play_encoding.encode_ordinary(text)
    assert ids == plain_encode(play_encoding, text)
    assert play_encoding.decode(ids) == text


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.text(st.sampled_from("añ→ 😀\n"), min_size=40, max_size=200), TRICKY)
def test_an_encoding_of_random_unicode_cuts_as_the_definition_says(learned, text):
    most = 257 + sum(1 for _ in learn_merges(learned))
    encoding = train_bpe(learned, min(most, 290))
    assert encoding.encode_ordinary(learned + text) == plain_encode(encoding, learned + text)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(TRICKY)
def test_the_pattern_cuts_as_gpt2s_does(gpt2_encoding, text):
    assert regex.findall(GPT2_PATTERN, text) == regex.findall(gpt2_encoding._pat_str, text)


def test_the_pattern_cuts_the_corpora_as_gpt2s_does(gpt2_encoding, play, shakespeare):
    for text in (play, shakespeare):
        assert regex.findall(GPT2_PATTERN, text) == regex.findall(gpt2_encoding._pat_str, text)


# ---- the vocabulary


def test_the_vocabulary_is_bytes_then_merges_then_end_of_text(play, play_encoding):
    merges = [token for (token, _), _ in zip(learn_merges(play), range(400 - 257))]
    tokens = [play_encoding.decode_single_token_bytes(i) for i in range(400)]
    assert tokens == [*(bytes([b]) for b in range(256)), *merges, END_OF_TEXT.encode()]
    assert play_encoding.n_vocab == 400 and play_encoding.eot_token == 399


def test_end_of_text_is_one_id_and_never_merged_into():
    encoding = train_bpe("ab<|endoftext|>cd" * 50, 259)
    learned = [encoding.decode_single_token_bytes(i) for i in range(256, 258)]
    assert learned == [b"ab", b"cd"]  # each 50 times; "da" 49 times
    assert encode(encoding, "ab<|endoftext|>cd").tolist() == [256, 258, 257]


def test_words_are_not_counted_across_end_of_text():
    assert list(learn_merges("a<|endoftext|>b<|endoftext|>c")) == []


def test_the_largest_possible_vocabulary_is_said():
    assert train_bpe("ab", 258).n_vocab == 258  # 256 bytes, "ab", end of text
    with pytest.raises(ValueError, match=r"258.*259"):
        train_bpe("ab", 259)


@pytest.mark.parametrize("size", [256, 0, -5, 300.0, "300", None])
def test_too_small_a_vocabulary_is_refused(size):
    with pytest.raises(ValueError, match="257"):
        train_bpe("some text", size)


@pytest.mark.parametrize("text", [b"bytes", 5, None, ["a", "list"]])
def test_text_must_be_a_string(text):
    with pytest.raises(TypeError, match=type(text).__name__):
        train_bpe(text, 300)


# ---- encodings by name, and kept


@pytest.mark.parametrize("name", archive.SHIPPED)
def test_a_shipped_encoding_fits_its_model_and_reads_its_corpus(name, play):
    encoding, (model, own) = get_encoding(name), load_pretrained(name)
    assert encoding.n_vocab == model.config.vocab_size == own.n_vocab
    assert encoding.decode(encode(encoding, play).tolist()) == play
    assert encode(own, play).tolist() == encode(encoding, play).tolist()


def test_gpt2s_encoding_comes_from_tiktoken(gpt2_encoding):
    # The ids are GPT-2's published ones.
    assert get_encoding("gpt2").encode("To be or not to be") == [2514, 307, 393, 407, 284, 307]


@pytest.mark.parametrize(
    "error", [requests.exceptions.ConnectionError("no route"), requests.exceptions.Timeout(), OSError("disk")]
)
def test_offline_says_what_works(monkeypatch, error):
    def offline(name):
        raise error

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(ConnectionError, match=f"gpt2.*TIKTOKEN_CACHE_DIR.*{archive.SHIPPED[0]}.*offline") as caught:
        get_encoding("gpt2")
    assert caught.value.__cause__ is error and "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="'gtp2'.*play.*gpt2"):
        get_encoding("gtp2")


@settings(derandomize=True, max_examples=50, deadline=None)
@given(TRICKY)
def test_a_packed_encoding_comes_back(play_encoding, text):
    again = unpack_encoding(pack_encoding(play_encoding))
    assert (again.name, again.n_vocab, again.eot_token) == (play_encoding.name, 400, 399)
    assert again.encode_ordinary(text) == play_encoding.encode_ordinary(text)


@pytest.mark.parametrize("special", [{END_OF_TEXT: 399, "<|user|>": 400}, {END_OF_TEXT: 405}, {"<|user|>": 399}])
def test_an_encoding_that_could_not_be_made_again_is_not_packed(play_encoding, special):
    other = tiktoken.Encoding(
        "mine", pat_str=play_encoding._pat_str, mergeable_ranks=play_encoding._mergeable_ranks, special_tokens=special
    )
    with pytest.raises(ValueError, match="one special token"):
        pack_encoding(other)


def test_gpt2s_encoding_is_packed_by_its_name(gpt2_encoding):
    packed = pack_encoding(gpt2_encoding)
    assert packed.nbytes < 100 and unpack_encoding(packed) is gpt2_encoding


# ---- tokens as one can print them


@pytest.mark.parametrize("data, shown", [
    (b" the", "·the"), (b"\n", "↵"), (b"\t", "⇥"), (b"\n\n", "↵↵"), (b"a", "a"), (b"\xc3", "<c3>"), (b"\xff", "<ff>"),
    (b"\x00", "<00>"), ("é".encode(), "é"), (b"\x9f\x98", "<9f><98>"), (END_OF_TEXT.encode(), END_OF_TEXT),
])  # fmt: skip
def test_show_token(data, shown):
    tokens = [*(bytes([b]) for b in range(256)), b" the", b"\n\n", "é".encode(), b"\x9f\x98"]
    ranks = {token: i for i, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("x", pat_str=".", mergeable_ranks=ranks, special_tokens={END_OF_TEXT: 260})
    assert show_token(encoding, encoding.encode_single_token(data)) == shown


def test_every_token_of_the_play_is_shown_on_one_printable_line(play_encoding):
    shown = [show_token(play_encoding, i) for i in range(400)]
    assert all(text.isprintable() and " " not in text and text for text in shown)


def test_the_default_corpus_is_the_play(play):
    assert load_corpus() == play
