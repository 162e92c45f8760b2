"""The viewer of heads: the weights it shows, what it draws of them, what it answers to odd texts."""

import base64
import re
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

from tinygpt_lib import GPT, GPTConfig, causal_attention, encode, load_pretrained, no_grad
from tinygpt_lib.widgets import heads
from tinygpt_lib.widgets.drawing import percent
from tinygpt_lib.widgets.heads import HeadViewer, attention_weights, draw_head, draw_heads, draw_still, draw_text

SVG = "{http://www.w3.org/2000/svg}"
TOKENS = ["a", "<b>", "&", "↵", '"d"']
T = len(TOKENS)


def some_weights(*shape):
    """Random causal weights (..., T, T)."""
    scores = np.random.default_rng(0).normal(size=(*shape, T, T))
    weights = np.exp(scores) * np.tri(T)
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def play_model():
    return load_pretrained("play")[0]


@pytest.fixture
def viewer(play_model):
    return HeadViewer(play_model, text="the king\nis dead")


def pixels(image):
    """The levels, 0 to 255, of a PNG of ours."""
    data = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    start = data.index(b"IDAT")
    size = int.from_bytes(data[start - 4 : start], "big")
    rows = zlib.decompress(data[start + 4 : start + 4 + size])
    return np.frombuffer(rows, dtype=np.uint8).reshape(height, width + 1)[:, 1:]


# ---- the weights


@pytest.mark.parametrize("length", [1, 2, 70])
def test_weights_make_the_output_of_the_models_own_attention(length):
    config = GPTConfig(vocab_size=20, block_size=70, n_layer=3, n_head=4, n_embd=32, dropout=0.5)
    model = GPT(config)
    model.load_state_dict({name: 10 * array for name, array in model.state_dict().items()})  # far from an even spread
    ids = np.random.default_rng(0).integers(0, 20, length)
    weights = attention_weights(model, ids)
    assert weights.shape == (3, 4, length, length) and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    assert not np.triu(weights, 1).any()
    model.eval()
    with no_grad():
        x = model.wte([ids]) + model.wpe(np.arange(length))
        for block, w in zip(model.h, weights, strict=True):
            q, k, v = (
                part.reshape(length, 4, 8).swapaxes(0, 1)
                for part in np.split(block.attn.c_attn(block.ln_1(x)).data[0], 3, axis=-1)
            )
            np.testing.assert_allclose(w @ v, causal_attention(q, k, v).data, atol=1e-4)
            x = block(x)


def test_weights_dont_depend_on_the_mode_and_leave_it_alone(play_model):
    expected = attention_weights(play_model, [1, 2, 3])
    play_model.train()
    try:
        np.testing.assert_array_equal(attention_weights(play_model, [1, 2, 3]), expected)
        assert play_model.training and play_model.h[0].attn.training
    finally:
        play_model.eval()
    assert all(parameter.grad is None for parameter in play_model.parameters())


@pytest.mark.parametrize("ids", [[], [[1, 2]], list(range(129))])
def test_ids_that_are_no_text_for_the_model_are_refused(play_model, ids):
    with pytest.raises(ValueError, match="1 to 128 tokens"):
        attention_weights(play_model, ids)


def test_ids_beyond_the_vocabulary_are_refused(play_model):
    with pytest.raises(ValueError, match="ids must lie from 0"):
        attention_weights(play_model, [play_model.config.vocab_size])


# ---- the drawings


def test_the_text_shows_each_token_once_and_escaped():
    weights = some_weights()
    drawn = draw_text(TOKENS, weights, 2)
    assert re.findall(r"<span[^>]*>([^<]*)</span>", drawn) == ["a", "&lt;b&gt;", "&amp;", "↵", "&quot;d&quot;"]
    assert re.findall(r'title="([^"]*)"', drawn) == [*(percent(w) for w in weights[2, :3]), *["not yet said"] * 2]
    assert drawn.count("outline") == 1 and drawn.count("<br>") == 1
    assert ET.fromstring(drawn.replace("<br>", "")) is not None


def test_more_weight_is_bluer():
    weights = np.array([[1.0, 0, 0], [0, 1, 0], [0.09, 0.01, 0.9]])
    colours = re.findall(r"background:#(..)(..)(..)", draw_text(["a", "b", "c"], weights, 2))
    reds = [int(red, 16) for red, _, _ in colours]
    assert reds[2] < reds[0] < reds[1] < 255
    assert re.findall(r"background:(#......)", draw_text(["a", "b", "c"], weights, 0)) == ["#004d80", "#ffffff", "#ffffff"]


def test_words_name_the_strongest_and_never_the_future():
    assert heads.strongest(["a", "b", "c", "d"], np.array([0.1, 0.2, 0.1, 0.6])) == "d (60 %), b (20 %), a (10 %)"
    assert heads.strongest(["a"], np.array([1.0, 0.0])) == "a (100 %)"


def test_all_heads_are_drawn_from_their_weights_and_the_chosen_one_is_framed():
    weights = some_weights(2, 3)
    svg = ET.fromstring(draw_heads(weights, 1, 2))
    images = svg.findall(f".//{SVG}image")
    assert len(images) == 6
    for image, w in zip(images, weights.reshape(6, T, T), strict=True):
        np.testing.assert_array_equal(pixels(image), np.rint(255 * np.sqrt(w)))
    assert [title.text for title in svg.findall(f".//{SVG}title")] == [f"layer {i}, head {j}" for i in range(2) for j in range(3)]
    (frame,) = (rect for rect in svg.findall(f".//{SVG}rect") if rect.get("stroke") == heads.MARK)
    assert (frame.get("x"), frame.get("y")) == (images[5].get("x"), images[5].get("y"))
    assert "layer 1, head 2" in svg.get("aria-label")


@pytest.mark.parametrize("query", [0, 2, T - 1])
def test_one_head_frames_the_querys_row_and_names_the_tokens(query):
    svg = ET.fromstring(draw_head(TOKENS, some_weights(), query))
    (frame,) = (rect for rect in svg.findall(f".//{SVG}rect") if rect.get("stroke") == heads.MARK)
    assert abs(float(frame.get("y")) - query * heads.SIDE / T) <= 1.1
    texts = svg.findall(f".//{SVG}text")
    assert [t.text for t in texts[1:]] == [name for token in TOKENS for name in (token, token)]
    assert {t.text for t in texts if t.get("font-weight")} == {TOKENS[query]}


def test_a_long_text_names_three_tokens_only():
    n = 100
    svg = ET.fromstring(draw_head([f"t{i}" for i in range(n)], np.tri(n) / np.arange(1, n + 1)[:, None], 50))
    assert {t.text for t in svg.findall(f".//{SVG}text")[1:]} == {"0 t0", "50 t50", "99 t99"}


def test_the_still_names_what_it_shows():
    left, right = draw_still(TOKENS, some_weights(2, 3), 1, 2, 3)
    assert [label.get_text() for label in left.get_xticklabels()] == ["0", "1", "2"]
    assert (left.get_xlabel(), left.get_ylabel(), right.get_xlabel(), right.get_ylabel()) == ("head", "layer", "key", "query")
    assert right.get_title(loc="left").startswith("Layer 1, head 2: ↵ looks at ")
    assert [label.get_text() for label in right.get_yticklabels()] == TOKENS


# ---- the panel


def shown(viewer):
    return viewer.words.value, viewer.all_heads.value, viewer.one_head.value


def test_it_begins_with_the_last_token(viewer):
    assert viewer.token.value == len(viewer.tokens) - 1
    assert f"Layer 0, head 0: <b>{viewer.tokens[-1]}</b> looks at" in viewer.words.value


@pytest.mark.parametrize(
    "control, value, redrawn",
    [("layer", 2, (True, True, True)), ("head", 1, (True, True, True)), ("token", 1, (True, False, True))],
)
def test_each_control_redraws_what_depends_on_it(viewer, control, value, redrawn):
    before = shown(viewer)
    getattr(viewer, control).value = value
    assert tuple(a != b for a, b in zip(before, shown(viewer))) == redrawn
    layer, head, query = viewer.layer.value, viewer.head.value, viewer.token.value
    said = heads.strongest(viewer.tokens[: query + 1], viewer.weights[layer, head, query])
    assert f"Layer {layer}, head {head}:" in viewer.words.value and f"looks at {said}." in viewer.words.value


def test_a_new_text_is_read_and_its_last_token_looks(viewer):
    viewer.layer.value, viewer.token.value = 2, 0
    viewer.text.value = "no more"
    assert "".join(viewer.tokens) == "no·more" and viewer.token.value == len(viewer.tokens) - 1
    assert "Layer 2" in viewer.words.value and f"<b>{viewer.tokens[-1]}</b>" in viewer.words.value
    assert [label for label, _ in viewer.token.options] == [f"{i} {token}" for i, token in enumerate(viewer.tokens)]


def test_all_controls_are_labelled(viewer):
    assert [c.description for c in (viewer.text, viewer.layer, viewer.head, viewer.token)] == ["text", "layer", "head", "token"]
    assert (viewer.layer.max, viewer.head.max) == (viewer.model.config.n_layer - 1, viewer.model.config.n_head - 1)


def test_an_empty_text_is_answered_and_then_forgotten(viewer):
    before = shown(viewer)
    viewer.text.value = ""
    assert "The text is empty" in viewer.words.value and viewer.all_heads.value == viewer.one_head.value == ""
    assert viewer.layer.disabled and viewer.head.disabled and viewer.token.disabled
    viewer.text.value = "the king\nis dead"
    assert shown(viewer) == before and not viewer.token.disabled


def test_it_can_begin_with_an_empty_text(play_model):
    assert "The text is empty" in HeadViewer(play_model, text="").words.value


def test_a_text_longer_than_the_context_is_cut_and_says_so(viewer):
    text = "The king is dead. " * 40
    viewer.text.value = text
    count = len(encode(viewer.encoding, text))
    assert (
        len(viewer.tokens) == 128
        and f"The text has {count} tokens and the model reads 128 at once: these are the last 128." in viewer.words.value
    )
    viewer.text.value = "The king"
    assert "at once" not in viewer.words.value


def test_characters_without_a_token_are_explained(viewer):
    viewer.text.value = "a 🎭"
    assert viewer.tokens[-4:] == ["<f0>", "<9f>", "<8e>", "<ad>"] and "are single bytes" in viewer.words.value
    assert "&lt;f0&gt;" in viewer.words.value


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "&amp; <b>'\"", "<|endoftext|>", "\n\n", "\u202e\u0000x"])
def test_no_text_becomes_markup(viewer, text):
    viewer.text.value = text
    for value in shown(viewer):
        assert ET.fromstring(value.replace("<br>", "")) is not None
        assert "<script" not in value


@pytest.mark.parametrize("layer, head", [(9, 0), (0, -1)])
def test_a_layer_or_head_that_isnt_there_is_the_nearest(play_model, layer, head):
    viewer = HeadViewer(play_model, layer=layer, head=head)
    assert 0 <= viewer.layer.value <= viewer.layer.max and 0 <= viewer.head.value <= viewer.head.max


def test_without_an_encoding_it_says_what_to_pass():
    with pytest.raises(ValueError, match="pass encoding="):
        HeadViewer(GPT(GPTConfig(vocab_size=20, block_size=8, n_layer=1, n_head=1, n_embd=8)))


def test_its_text_form_is_the_same_everywhere(viewer):
    assert repr(viewer) == "HeadViewer: 4 layers of 4 heads"
