"""The token playground without a browser: what it shows for a text, and that it follows its controls."""

import html
import re

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygpt_lib import show_token, train_bpe
from tinygpt_lib.tokenizer import END_OF_TEXT
from tinygpt_lib.widgets import TokenPlayground, Tokens
from tinygpt_lib.widgets.playground import DRAWN, LONGEST, count_sentence, panel, token_boxes

BOX = re.compile(r'<span style="([^"]*)">(.*?)<sub style="[^"]*">(\d+)</sub></span>(<br>|\n)')
TEXT = st.text(st.one_of(st.characters(), st.sampled_from("<>&\"' \n\té🎭")), max_size=60)


def boxes(source):
    """(style, text, id, what ends it) of each box."""
    return [(style, html.unescape(text), int(token), end) for style, text, token, end in BOX.findall(source)]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(TEXT)
def test_every_token_has_its_box_and_nothing_else_is_left(play_encoding, text):
    source, ids = token_boxes(play_encoding, text), play_encoding.encode(text, allowed_special="all")
    assert [(shown, i) for _, shown, i, _ in boxes(source)] == [(show_token(play_encoding, i), i) for i in ids]
    assert BOX.sub("", source) == '<div dir="ltr" style="font-family:monospace"></div>'


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a &amp; b", "\"quoted' <b>", "</div>"])
def test_signs_of_html_are_only_shown(play_encoding, text):
    source = token_boxes(play_encoding, text)
    assert set(re.findall(r"<(/?\w+)", source)) <= {"div", "/div", "span", "/span", "sub", "/sub", "br"}
    assert "".join(shown for _, shown, *_ in boxes(source)).replace("·", " ") == text


def test_a_colour_belongs_to_an_id_and_a_border_to_every_box(play_encoding):
    drawn = boxes(token_boxes(play_encoding, "the bell, the bell"))
    styles = {i: {style for style, _, j, _ in drawn if j == i} for _, _, i, _ in drawn}
    assert all(len(found) == 1 for found in styles.values()) and len(set.union(*styles.values())) > 2
    assert all("border:1px solid #808080" in style for style, *_ in drawn)


def test_a_newline_ends_the_row_and_is_seen(play_encoding):
    found = [(text, end) for _, text, _, end in boxes(token_boxes(play_encoding, "a\n b"))]
    assert found == [("a", "\n"), ("↵", "<br>"), ("·b", "\n")]


def test_a_special_token_is_one_box_with_a_double_border(play_encoding):
    drawn = boxes(token_boxes(play_encoding, f"a{END_OF_TEXT}b"))
    assert [(text, i) for _, text, i, _ in drawn] == [("a", 97), (END_OF_TEXT, 399), ("b", 98)]
    assert ["double" in style for style, *_ in drawn] == [False, True, False]


def test_every_special_token_is_known():
    encoding = tiktoken.Encoding(
        "x", pat_str=".", mergeable_ranks={bytes([b]): b for b in range(256)}, special_tokens={"<one>": 256, "<two>": 300}
    )
    assert ["double" in style for style, *_ in boxes(token_boxes(encoding, "<two>a<one>"))] == [True, False, True]


def test_half_a_character_is_shown_as_bytes(play_encoding):
    assert [text for _, text, *_ in boxes(token_boxes(play_encoding, "é"))] == ["<c3>", "<a9>"]


def test_a_long_text_is_counted_whole_and_drawn_in_part(play_encoding):
    text = "x " * 5_000
    source, tokens = panel(play_encoding, text), len(play_encoding.encode(text))
    assert len(boxes(source)) == DRAWN and f"{tokens - DRAWN:,} more tokens are counted" in source
    assert f"10,000 characters, 10,000 bytes, {tokens:,} tokens" in source
    exact = play_encoding.decode(play_encoding.encode(text)[:DRAWN])
    assert len(boxes(panel(play_encoding, exact))) == DRAWN and "more tokens" not in panel(play_encoding, exact)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "0 characters, 0 bytes, 0 tokens"),
        ("x", "1 character, 1 byte, 1 token (1.00 characters a token)"),
        ("é🎭", "2 characters, 6 bytes, 6 tokens (0.33 characters a token)"),
        (END_OF_TEXT, "13 characters, 13 bytes, 1 token (13.00 characters a token)"),
    ],
)
def test_counts(play_encoding, text, words):
    assert count_sentence(play_encoding, text) == words


def test_half_a_surrogate_pair_such_as_a_browser_can_send_is_no_error(play_encoding):
    assert "1 character, 3 bytes" in panel(play_encoding, "\ud83c")


@pytest.mark.parametrize(
    "text, words", [("", "type a text"), ("x" * (LONGEST + 1), f"{LONGEST + 1:,} characters: up to {LONGEST:,}")]
)
def test_a_text_without_boxes_is_answered_in_a_sentence(play_encoding, text, words):
    assert words in panel(play_encoding, text) and "<span" not in panel(play_encoding, text)


def test_the_longest_text_that_is_read(play_encoding):
    assert f"{LONGEST:,} characters" in panel(play_encoding, "x" * LONGEST)


# ---- as a cell's output, and as a panel


def test_a_cells_output_in_html_and_in_plain_text(play_encoding):
    output = Tokens(play_encoding, "the <b>\n")
    assert output._repr_html_() == panel(play_encoding, "the <b>\n")
    assert repr(output).split("|") == [show_token(play_encoding, i) for i in play_encoding.encode("the <b>\n")]


@pytest.fixture
def playground(play_encoding):
    return TokenPlayground({"the play": play_encoding, "bytes alone": train_bpe("", 257)}, text="the bell")


def test_it_begins_with_its_text_and_the_first_encoding(playground, play_encoding):
    assert (playground.chooser.value, playground.text.value) == ("the play", "the bell")
    assert playground.shown.value == panel(play_encoding, "the bell", "the play")
    assert playground.shown.value.startswith("<p>the play: 8 characters, 8 bytes, ")


def test_it_follows_the_text_and_the_chooser(playground, play_encoding):
    playground.text.value = "another <text>"
    assert playground.shown.value == panel(play_encoding, "another <text>", "the play")
    playground.chooser.value = "bytes alone"
    assert "bytes alone: 14 characters, 14 bytes, 14 tokens" in playground.shown.value
    playground.text.value = ""
    assert "type a text" in playground.shown.value
    playground.text.value = END_OF_TEXT
    assert "1 token (" in playground.shown.value


def test_its_controls_are_labelled_and_stand_in_reading_order(playground):
    assert playground.children == (playground.chooser, playground.text, playground.shown)
    assert [control.description for control in playground.children[:2]] == ["encoding", "text"]


def test_a_name_is_only_shown(play_encoding):
    assert "&lt;b&gt;: 1 character" in TokenPlayground({"<b>": play_encoding}, "x").shown.value


def test_its_plain_text_is_the_same_whatever_it_shows(playground, play_encoding):
    assert repr(playground) == repr(TokenPlayground({"x": play_encoding})) and "TokenPlayground" in repr(playground)


@pytest.mark.parametrize("encodings", [{}, [], None, {"play": "play"}])
def test_without_encodings_it_says_what_to_pass(encodings):
    with pytest.raises(ValueError, match="dict {name: tiktoken.Encoding}.*got"):
        TokenPlayground(encodings)
