"""Corpora and batches: what is in them, and what is refused."""

import hashlib
import re

import numpy as np
import pooch
import pytest
import requests

from tinygpt_lib import batches, data, encode, load_corpus, split
from tinygpt_lib.data import sha256
from tinygpt_lib.tokenizer import END_OF_TEXT

# ---- the play


def test_the_play_is_long_enough_plain_and_without_its_title_page(play):
    assert len(play) >= 80_000 and play.isascii()
    assert "BRAZEN TONGUE, a comedy" not in play and "CC0" not in play and not play.startswith("\n")


def test_the_plays_scenes_are_documents_ended_by_end_of_text(play):
    assert play.endswith(f"\n{END_OF_TEXT}\n")
    scenes = play.split(f"{END_OF_TEXT}\n")[:-1]
    assert len(scenes) >= 10 and all(len(scene.strip()) > 500 and END_OF_TEXT not in scene for scene in scenes)


def test_every_speech_of_the_play_is_a_name_and_lines(play):
    scenes = play.split(f"{END_OF_TEXT}\n")[:-1]
    for speech in (speech for scene in scenes for speech in scene.strip().split("\n\n")):
        name, *lines = speech.split("\n")
        assert re.fullmatch(r"[A-Z][A-Z ]*:", name), name
        assert lines and all(line == line.strip() and line for line in lines), speech


def test_the_play_is_not_made_from_templates(play):
    lines = [line for line in play.split("\n") if len(line) > 20]
    assert len(set(lines)) > 0.98 * len(lines)
    words = re.findall(r"[a-z']+", play.lower())
    runs = [tuple(words[i : i + 6]) for i in range(len(words) - 5)]
    assert len(set(runs)) > 0.95 * len(runs)


# ---- Tiny Shakespeare


def test_shakespeare_is_the_known_file(shakespeare):
    text = load_corpus("shakespeare")
    assert text == shakespeare and len(text) == 1_115_394
    known = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert sha256(text) == hashlib.sha256(text.encode()).hexdigest() == known


def test_the_split_of_shakespeare_is_the_usual_one(shakespeare, gpt2_encoding):
    parts = split(shakespeare)
    assert [len(part) for part in parts] == [1_003_854, 111_540]
    assert [len(encode(gpt2_encoding, part)) for part in parts] == [301_966, 36_059]


@pytest.mark.parametrize(
    "error", [requests.exceptions.ConnectionError("no route"), OSError("disk full"), ValueError("hash differs")]
)
def test_offline_says_what_works(monkeypatch, tmp_path, error):
    def offline(*args, **kwargs):
        raise error

    monkeypatch.setenv("TINYGPT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(ConnectionError, match=r"TINYGPT_DATA_DIR.*load_corpus\(\"play\"\)") as caught:
        load_corpus("shakespeare")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_fetch_logs_nothing_which_a_notebook_would_show_in_red(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TINYGPT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data, "SHAKESPEARE_URL", "http://127.0.0.1:9/refused")
    logger = pooch.get_logger()
    logger.setLevel("NOTSET")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    with pytest.raises(ConnectionError):
        load_corpus("shakespeare")
    assert caplog.records == []


def test_another_edition_of_shakespeare_is_not_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGPT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data, "SHAKESPEARE_URL", "http://127.0.0.1:9/refused")
    (tmp_path / "tinyshakespeare.txt").write_text("First Citizen:\r\n", encoding="utf-8")
    with pytest.raises(ConnectionError, match="no tinyshakespeare.txt with the known bytes"):
        load_corpus("shakespeare")


def test_a_fetch_asks_for_the_known_file(monkeypatch, tmp_path):
    asked = {}

    def retrieve(url, known_hash, fname, path, **options):
        asked.update(url=url, known_hash=known_hash, path=path)
        (tmp_path / fname).write_text("KING:\nHere.\n", encoding="utf-8")
        return str(tmp_path / fname)

    monkeypatch.setenv("TINYGPT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert load_corpus("shakespeare") == "KING:\nHere.\n" and asked["path"] == tmp_path
    assert asked["known_hash"].endswith("86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")
    assert asked["url"].startswith("https://raw.githubusercontent.com/karpathy/char-rnn/")


# ---- a text of one's own


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_a_file_with_accents_and_spaces_in_its_path(tmp_path, as_path):
    folder = tmp_path / "mes pièces à lire"
    folder.mkdir()
    (folder / "œuvre één.txt").write_text("Ça ira: 你好 😀\n", encoding="utf-8")
    assert load_corpus(as_path(folder / "œuvre één.txt")) == "Ça ira: 你好 😀\n"


def test_a_text_with_end_of_text_is_read_whole(tmp_path):
    (tmp_path / "two.txt").write_text(f"one\n{END_OF_TEXT}\ntwo\n", encoding="utf-8")
    assert load_corpus(tmp_path / "two.txt") == f"one\n{END_OF_TEXT}\ntwo\n"


@pytest.mark.parametrize("content, words", [
    ("café".encode("latin-1"), ["UTF-8", "byte 3", "save"]), ("text".encode("utf-16"), ["UTF-8", "byte 0"]),
    (b"", ["empty"]), (b" \n\n\t", ["empty"]),
])  # fmt: skip
def test_a_file_that_is_no_text_is_refused(tmp_path, content, words):
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load_corpus(tmp_path / "mine.txt")
    assert all(word in str(caught.value) for word in ["mine.txt", *words]) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.txt", "", ".", "Shakespeare"])
def test_a_missing_file_is_named_with_what_there_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="'play'.*'shakespeare'") as caught:
        load_corpus(name)
    assert repr(name) in str(caught.value)


# ---- split and encode


def test_split_cuts_once_and_loses_nothing():
    text, ids = "abcdefghij", np.arange(10)
    assert split(text) == ("abcdefghi", "j") and split(text, 0.5) == ("abcde", "fghij")
    assert [part.tolist() for part in split(ids, 0.25)] == [[0, 1], [2, 3, 4, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 90, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction.*between 0 and 1"):
        split("abc", fraction)


def test_encode_gives_integers_with_end_of_text_as_one(play_encoding):
    ids = encode(play_encoding, f"a{END_OF_TEXT}b")
    assert ids.dtype == np.int64 and ids.tolist() == [ord("a"), 399, ord("b")]
    assert encode(play_encoding, "").shape == (0,)


# ---- batches


def test_targets_are_inputs_one_token_later_and_every_window_is_inside():
    ids = np.arange(50) * 3  # so that the next token is 3 more
    stream, starts = batches(ids, 8, 7, np.random.default_rng(0)), set()
    for _ in range(100):
        x, y = next(stream)
        assert x.shape == y.shape == (8, 7) and (y == x + 3).all() and (np.diff(x) == 3).all()
        starts |= set((x[:, 0] // 3).tolist())
    assert starts == set(range(43))  # the last window's targets end with the last token


def test_one_window_is_enough():
    x, y = next(batches(np.arange(5), 2, 4, np.random.default_rng(0)))
    assert x.tolist() == [[0, 1, 2, 3]] * 2 and y.tolist() == [[1, 2, 3, 4]] * 2


def test_the_same_seed_gives_the_same_batches():
    def first(seed):
        return next(batches(np.arange(1000), 16, 8, np.random.default_rng(seed)))[0]

    assert (first(1) == first(1)).all() and (first(1) != first(2)).any()


def test_windows_are_spread_evenly():
    # 20,000 starts over 40 places: a chi-squared of 39 degrees of freedom exceeds 80 once in 10,000 times.
    x, _ = next(batches(np.arange(50), 20_000, 10, np.random.default_rng(0)))
    counts = np.bincount(x[:, 0], minlength=40)
    assert len(counts) == 40 and ((counts - 500) ** 2 / 500).sum() < 80


def test_batches_leave_the_ids_as_they_were():
    ids = np.arange(50)
    x, y = next(batches(ids, 4, 8, np.random.default_rng(0)))
    x[:] = y[:] = -1
    assert (ids == np.arange(50)).all()


@pytest.mark.parametrize("ids, error, words", [
    (np.arange(8), ValueError, "at least 9 ids, got 8"), ([], TypeError, "integer"),
    (np.zeros((2, 20), int), TypeError, r"\(2, 20\)"), (np.zeros(20), TypeError, "float64"), ("text" * 9, TypeError, "integer"),
])  # fmt: skip
def test_ids_that_make_no_windows_are_refused(ids, error, words):
    with pytest.raises(error, match=words):
        next(batches(ids, 2, 8, np.random.default_rng(0)))


def test_a_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8-sig")
    assert load_corpus(tmp_path / "a.txt") == "hello"
