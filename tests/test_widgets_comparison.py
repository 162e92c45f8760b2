"""A and B and the map: where texts part, what is counted and how surely, what is drawn, what the panels answer."""

import html
import itertools
import math
import re
import threading
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tinygpt_lib import GPT, GPTConfig, SamplingSettings, load_corpus, load_pretrained, no_grad, show_token, stream, train_bpe
from tinygpt_lib.widgets import comparison_panel
from tinygpt_lib.widgets.background import Background
from tinygpt_lib.widgets.comparison import (
    MEASURES, Estimate, Texts, compare, comparing, distinct, estimate, measure_map, measures, measuring, of_each, writing,
)  # fmt: skip
from tinygpt_lib.widgets.comparison_panel import ComparisonPanel, MapPanel
from tinygpt_lib.widgets.comparison_pictures import describe_map, draw_map, draw_table, draw_text, last_words, words_on_parting
from tinygpt_lib.widgets.controls import PRESETS
from tinygpt_lib.widgets.drawing import percent

EOT = 9
BALANCED, HOT, GREEDY = SamplingSettings(0.8, 50, 0.9), SamplingSettings(1.3, None, 0.95), SamplingSettings(0)


@pytest.fixture(scope="module")
def play():
    return load_pretrained("play")


@pytest.fixture(scope="module")
def small():
    """A model of 12 tokens that has learned nothing, is sure of something all the same, and has no encoding."""
    model = GPT(GPTConfig(vocab_size=12, block_size=16, n_layer=1, n_head=2, n_embd=8))
    model.load_state_dict({name: 8 * array for name, array in model.state_dict().items()})
    return model.eval()


def tokens(steps):
    return [step.token for step in steps]


# ---- A and B


def chosen(model, ids, settings, u):
    """The token that one uniform number falls on, by plain arithmetic and without the library's sampling."""
    with no_grad():
        logits = model([ids])[0].data[0, -1].astype(np.float64)
    if settings.temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / settings.temperature)
    likeliest = sorted(range(len(weights)), key=lambda i: (-weights[i], i))[: settings.top_k or len(weights)]
    enough, kept, mass = settings.top_p * weights[likeliest].sum(), [], 0.0
    for i in likeliest:
        kept.append(i)
        mass += weights[i]
        if mass >= enough:
            break
    place = u * mass
    for i in sorted(kept):
        place -= weights[i]
        if place < 0:
            return i


@pytest.mark.parametrize("settings", [BALANCED, HOT, GREEDY])
def test_equal_settings_and_seed_give_equal_texts(play, settings):
    model, encoding = play
    ids = encoding.encode("The king")
    both = compare(model, ids, settings, settings, seed=4, n_tokens=25)
    expected = [step.token for step in stream(model, ids, settings, max_new_tokens=25, seed=4)]
    assert tokens(both.a) == tokens(both.b) == expected and both.parting is None
    np.testing.assert_array_equal(both.luck, np.random.default_rng(4).random(25))


PAIRS = [
    (BALANCED, HOT),
    (GREEDY, BALANCED),
    (SamplingSettings(top_k=5), SamplingSettings(top_p=0.5)),
    (HOT, SamplingSettings(1.31, None, 0.95)),
]


@pytest.mark.parametrize("a, b", PAIRS)
@pytest.mark.parametrize("seed", range(4))
def test_texts_part_where_one_random_number_falls_on_two_tokens(play, a, b, seed):
    model, encoding = play
    ids, luck, expected = encoding.encode("The king"), np.random.default_rng(seed).random(20), None
    for n in range(20):
        one, other = (chosen(model, ids, settings, luck[n]) for settings in (a, b))
        if one != other:
            expected = n
            break
        ids.append(one)
    both = compare(model, encoding.encode("The king"), a, b, seed=seed, n_tokens=20)
    assert both.parting == expected
    if expected is not None:
        assert tokens(both.a[:expected]) == tokens(both.b[:expected])
        assert (both.a[expected].token, both.b[expected].token) == (one, other)


def test_these_pairs_part_early_and_late(play):
    model, encoding = play
    partings = {
        compare(model, encoding.encode("The king"), a, b, seed=seed, n_tokens=20).parting for a, b in PAIRS for seed in range(4)
    }
    assert len(partings - {None}) > 3 and 0 in partings


def test_a_text_may_end_before_the_other(play):
    model, encoding = play
    ids = encoding.encode("I'll watch the tide come in:\nIt asks no leave of law where to begin.\nExeunt.")
    for both in comparing(model, ids, GREEDY, SamplingSettings(1.5), seed=1, n_tokens=30):
        pass
    assert len(both.a) < len(both.b) == 30 and both.a[-1].token == encoding.eot_token
    assert both.parting is not None and both.parting < len(both.a)


def test_a_comparison_grows_by_a_token_of_each_and_can_be_left(play):
    model, encoding = play
    growing = comparing(model, encoding.encode("The king"), BALANCED, HOT, seed=0, n_tokens=500)
    lengths = [(len(both.a), len(both.b)) for both in itertools.islice(growing, 3)]
    growing.close()
    assert lengths == [(1, 1), (2, 2), (3, 3)]


def test_without_an_encoding_nothing_ends_early(small):
    assert len(compare(small, [1], BALANCED, HOT, seed=0, n_tokens=40).a) == 40


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": None}, {"n_tokens": 0}, {"n_tokens": 2.5}])
def test_a_comparison_refuses_what_is_no_seed_or_length(small, wrong):
    with pytest.raises(ValueError, match="must be a whole number"):
        compare(small, [1], BALANCED, HOT, **{"seed": 0, "n_tokens": 4, **wrong})


# ---- many texts


def test_writing_is_what_stream_draws_for_a_batch(small):
    *_, texts = writing(small, [1, 2], HOT, seed=3, n_texts=5, n_tokens=30)
    expected = [step.token for step in stream(small, [[1, 2]] * 5, HOT, max_new_tokens=30, seed=3)]
    np.testing.assert_array_equal(texts.tokens, np.transpose(expected))
    np.testing.assert_array_equal(texts.lengths, [30] * 5)


def test_surprise_is_in_bits_of_the_models_own_probabilities(small):
    *_, texts = writing(small, [1, 2], SamplingSettings(0.3, 2), seed=3, n_texts=4, n_tokens=12)
    for row, bits in zip(texts.tokens.tolist(), texts.bits):
        with no_grad():
            logits = small([[1, 2, *row]])[0].data[0, 1:-1].astype(np.float64)
        probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(bits, [-math.log2(p[token]) for p, token in zip(probs, row)], rtol=1e-4, atol=1e-5)


def test_texts_that_end_are_filled_with_end_of_text(play):
    model, encoding = play
    ids = encoding.encode("I'll watch the tide come in:\nIt asks no leave of law where to begin.\nExeunt.")
    *_, texts = writing(model, ids, BALANCED, seed=0, n_texts=6, n_tokens=40)
    assert texts.lengths.min() < texts.tokens.shape[1] <= 40
    for row, length in zip(texts.tokens, texts.lengths):
        assert encoding.eot_token not in row[:length] and (row[length:] == encoding.eot_token).all()


def test_each_measure_as_counted_by_hand():
    rows = [
        [1, 2, 1, 2, 1, EOT, EOT],  # 12121: pairs 12 21 12 21, triples 121 212 121, fours 1212 2121
        [5, 5, 5, 5, 5, 5, 5],
        [1, 2, 3, EOT, EOT, EOT, EOT],  # too short for a run of four
        [EOT] * 7,
    ]
    found = of_each(Texts(np.array(rows), np.arange(28.0).reshape(4, 7), EOT))
    expected = {
        "distinct-1": [2 / 5, 1 / 7, 1, np.nan],
        "distinct-2": [2 / 4, 1 / 6, 1, np.nan],
        "distinct-3": [2 / 3, 1 / 5, 1, np.nan],
        "repetition": [0, 3 / 4, np.nan, np.nan],
        "surprise": [(0 + 1 + 2 + 3 + 4 + 5) / 6, 10, (14 + 15 + 16 + 17) / 4, 21],  # end-of-text surprises, too, once
        "length": [5, 7, 3, 0],
    }
    assert list(found) == list(expected) == list(MEASURES)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_distinct_is_a_share():
    assert distinct([1, 2, 1], 1) == 2 / 3 and distinct([1, 2, 1, 2], 2) == 2 / 3 and distinct([1, 2, 3], 3) == 1
    assert math.isnan(distinct([1, 2], 3))


def test_measures_are_the_means_over_the_texts(small):
    *_, texts = writing(small, [1], HOT, seed=5, n_texts=9, n_tokens=20)
    found = measures(small, [1], HOT, seed=5, n_texts=9, n_tokens=20)
    for name, values in of_each(texts).items():
        assert found[name].mean == pytest.approx(values.mean()) and found[name].low <= found[name].mean <= found[name].high


def test_greedy_says_always_the_same_so_its_intervals_are_points(small):
    for name, found in measures(small, [1], GREEDY, seed=0, n_texts=4, n_tokens=12).items():
        assert found.low == pytest.approx(found.mean) == pytest.approx(found.high), name


def test_heat_makes_texts_more_varied_and_more_surprising(play):
    model, encoding = play
    cold, hot = (
        measures(model, encoding.encode("The king"), SamplingSettings(T), seed=0, n_texts=16, n_tokens=40) for T in (0.3, 1.5)
    )
    assert cold["distinct-2"].high < hot["distinct-2"].low and cold["surprise"].high < hot["surprise"].low


# ---- intervals


def test_an_interval_is_as_wide_as_the_formula_says():
    values = np.random.default_rng(0).normal(3, 2, 400)
    mean, low, high = estimate(values)
    reach = 1.96 * values.std(ddof=1) / 20
    assert mean == pytest.approx(values.mean())
    assert mean - low == pytest.approx(reach, rel=0.1) and high - mean == pytest.approx(reach, rel=0.1)


@pytest.mark.parametrize("draw, true", [("normal", 0), ("exponential", 1), ("uniform", 0.5)])
def test_about_95_intervals_of_100_hold_the_true_mean(draw, true):
    rng = np.random.default_rng(1)
    intervals = [estimate(getattr(rng, draw)(size=32), resamples=400) for _ in range(400)]
    held = np.mean([low <= true <= high for _, low, high in intervals])
    assert 0.9 < held < 0.98


def test_of_two_values_all_resamples_are_known():
    assert estimate([0, 1]) == (0.5, 0, 1)  # a quarter of them is 0 and 0, a quarter 1 and 1


def test_an_interval_stays_where_values_can_be():
    share = np.r_[np.ones(30), 0.9, 0.9]
    assert estimate(share).high == 1 and estimate(1 - share).low == 0


def test_texts_without_a_value_are_left_out():
    assert estimate([np.nan, 2, 2]) == (2, 2, 2) and estimate([3]) == (3, 3, 3)
    assert np.isnan(estimate([np.nan, np.nan])).all() and np.isnan(estimate([])).all()


# ---- the map


def test_the_map_is_the_measures_of_each_pair(small):
    options = {"seed": 2, "n_texts": 3, "n_tokens": 8}
    *_, (share, cells) = measure_map(small, [1], (0.5, 2.0), (0.3, 0.6, 1.0), SamplingSettings(top_k=7), **options)
    assert share == 1 and len(cells) == 6
    for cell, (T, p) in zip(cells, itertools.product((0.5, 2.0), (0.3, 0.6, 1.0))):
        assert cell == measures(small, [1], SamplingSettings(T, 7, p), **options)


def test_the_map_tells_how_far_it_is_and_can_be_left(small):
    mapping = measure_map(small, [1], (0.5, 2.0), (0.6, 1.0), seed=0, n_texts=2, n_tokens=5)
    seen = [(round(20 * share), len(cells)) for share, cells in itertools.islice(mapping, 12)]
    mapping.close()
    assert seen == [(n, (n - 1) // 5) for n in range(1, 13)]
    seen = [share for share, _ in measure_map(small, [1], (0.5, 2.0), (0.6, 1.0), seed=0, n_texts=2, n_tokens=5)]
    assert seen == sorted(seen) and seen[-1] == 1


def test_the_same_luck_for_each_of_the_settings(small):
    *_, (share, (one, other)) = measuring(small, [1], [HOT, HOT], seed=2, n_texts=3, n_tokens=8)
    for name in MEASURES:
        np.testing.assert_array_equal(one[name], other[name])


# ---- what is drawn


@pytest.fixture(scope="module")
def parted(play):
    """Two texts that part after some tokens, and the encoding."""
    model, encoding = play
    both = compare(model, encoding.encode("The king"), SamplingSettings(0.7, 20), SamplingSettings(0.8, 20), seed=3, n_tokens=20)
    assert 0 < both.parting < 19
    return both, encoding


def spans(drawn):
    """[(style, title, text)] of the tokens in a drawn text."""
    return [(span.get("style"), span.get("title"), span.text) for span in ET.fromstring(drawn) if span.get("title")]


def test_the_mark_stands_where_the_texts_part(parted):
    both, encoding = parted
    for steps in (both.a, both.b):
        shown = spans(draw_text("The king", steps, encoding, both.parting))
        marked = [n for n, (style, _, text) in enumerate(shown) if "outline" in style and text.startswith("◆")]
        assert marked == [both.parting] and sum(text.startswith("◆") or "outline" in style for style, _, text in shown) == 1
        words = [show_token(encoding, step.token) for step in steps]
        assert [text.removeprefix("◆").replace(" ", "·").strip() for _, _, text in shown] == words


def test_no_mark_where_nothing_parts(parted):
    both, encoding = parted
    drawn = draw_text("", both.a, encoding, None)
    assert "◆" not in drawn and "outline" not in drawn


def test_likelier_tokens_are_bluer(parted):
    both, encoding = parted
    red = [int(re.search(r"rgb\((\d+),", style)[1]) for style, _, _ in spans(draw_text("", both.a, encoding, None))]
    likely = [step.trace.raw[step.token] for step in both.a]
    np.testing.assert_allclose(red, 255 - 205 * np.array(likely), atol=0.6)


def test_words_say_where_and_why_the_texts_part(parted):
    both, encoding = parted
    n, words = both.parting, words_on_parting(both, encoding)
    assert f"A and B part after {n} equal token" in words and f"the random number {both.luck[n]:.3f} falls" in words
    for step in (both.a[n], both.b[n]):
        assert f"on <b>{html.escape(show_token(encoding, step.token))}</b> ({percent(step.trace.final[step.token])};" in words


def test_words_say_if_the_other_cuts_the_token(play):
    model, encoding = play
    both = compare(model, encoding.encode("The king"), GREEDY, SamplingSettings(2.0), seed=1, n_tokens=3)
    assert "part at once</b>" in words_on_parting(both, encoding) and "in A cut)" in words_on_parting(both, encoding)


def test_words_say_if_nothing_parts(play):
    model, encoding = play
    both = compare(model, encoding.encode("The king"), HOT, HOT, seed=1, n_tokens=7)
    assert "A and B don't part</b>: each of the 7 random numbers" in words_on_parting(both, encoding)


def test_the_end_of_a_text_is_shown():
    encoding = load_pretrained("play")[1]
    assert last_words(encoding, encoding.encode("the king\nis")) == "the king↵is"
    assert last_words(encoding, encoding.encode("one\n" * 60 + "the end")) == "…" + ("one↵" * 60 + "the end")[-40:]


def cells_of(*means):
    return [{name: Estimate(mean, mean - 0.01, mean + 0.01) for name in MEASURES} for mean in means]


def test_the_table_holds_means_intervals_and_differences():
    a = {name: np.array([0.25, 0.75, 0.5, 0.5]) for name in MEASURES} | {"length": np.array([40.0, 40, 12, 40])}
    b = a | {
        "distinct-2": a["distinct-2"] + 0.125,
        "repetition": np.array([0.5, 0.5, 0.75, 0.25]),
        "distinct-3": np.full(4, np.nan),
    }
    table = ET.fromstring(f"<div>{draw_table(a, b, 40)}</div>".replace("<br>", " "))
    rows = {row[0].find("b").text: ["".join(cell.itertext()) for cell in row[1:]] for row in table.findall(".//tr")[1:]}
    assert list(rows) == list(MEASURES)
    assert re.fullmatch(r"0\.50 \(0\.\d\d to 0\.\d\d\)", rows["distinct-2"][0])
    assert rows["distinct-2"][2] == "+0.12 (+0.12 to +0.12) ▲ more in B"
    assert rows["distinct-1"][2] == "+0.00 (+0.00 to +0.00) no difference"
    assert rows["repetition"][2].endswith("may be chance")
    assert rows["distinct-3"][1] == "the texts are too short"
    assert "of 4 texts each" in "".join(table.itertext()) and "in 1 of A and 1 of B" in "".join(table.itertext())


def test_less_is_said_to_be_less():
    a = {name: np.linspace(0.4, 0.6, 30) for name in MEASURES}
    b = {name: values - 0.3 for name, values in a.items()}
    assert draw_table(a, b, 40).count("▼ less in B") == 6 and "−0.30 (−0.30 to −0.30)" in draw_table(a, b, 40)


SVG = "{http://www.w3.org/2000/svg}"


def test_the_map_has_a_number_in_each_cell_and_says_which_is_which():
    svg = ET.fromstring(draw_map(cells_of(0.1, 0.2, 0.3, 0.9), "distinct-2", (0.5, 1.0, 2.0), (0.8, 1.0)))
    titles = [title.text for title in svg.iter(f"{SVG}title")]
    assert titles[:2] == ["temperature 0.5, top-p 0.8: 0.10 (0.09 to 0.11)", "temperature 0.5, top-p 1: 0.20 (0.19 to 0.21)"]
    assert titles[4:] == ["temperature 2, top-p 0.8: to come", "temperature 2, top-p 1: to come"]
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts == ["0.10", "0.20", "0.30", "0.90", "0.5", "1", "2", "0.8", "1", "top-p (1 is off)", "temperature"]


def test_in_the_map_hotter_is_higher_more_top_p_further_right_and_more_is_bluer():
    svg = ET.fromstring(draw_map(cells_of(0.1, 0.2, 0.3, 0.9), "distinct-2", (0.5, 1.0), (0.8, 1.0)))
    boxes = [(float(box.get("x")), float(box.get("y")), box.get("fill")) for box in svg.iter(f"{SVG}rect")]
    (x0, y0, white), (x1, y1, _), (x2, y2, _), (x3, y3, blue) = boxes
    assert x0 == x2 < x1 == x3 and y0 == y1 > y2 == y3
    assert white == "rgb(255,255,255)" and blue == "rgb(50,142,193)"


def test_the_maps_text_alternative_follows_it():
    cells, axes = cells_of(0.1, 0.2, 0.3, 0.9), ((0.5, 1.0), (0.8, 1.0))
    for count in range(5):
        for name in ("distinct-2", "surprise"):
            words = describe_map(cells[:count], name, *axes)
            assert ET.fromstring(draw_map(cells[:count], name, *axes)).get("aria-label") == words
            assert words.startswith(f"{name} (") and f"{count} of 4 cells" in words
    assert "lowest at temperature 0.5 and top-p 0.8, 0.10; highest at temperature 1 and top-p 1, 0.90." in words
    assert "reach 0.01 to either side" in words


@pytest.mark.parametrize("means", [(np.nan,) * 4, (0.5,) * 4, (np.nan, 0.5, 0.6, np.nan)])
def test_a_map_of_nothing_or_of_one_value_can_be_drawn(means):
    drawn = draw_map(cells_of(*means), "distinct-3", (0.5, 1.0), (0.8, 1.0))
    assert "nan" not in drawn.replace("the texts are too short", "") and drawn.count("<rect") == 4


# ---- the panels


@pytest.fixture
def panel(play):
    model, encoding = play
    panel = ComparisonPanel(model, encoding, encoding.encode("The king"), n_tokens=12, n_texts=4)
    panel._writing.wait()
    return panel


def test_the_panel_writes_what_its_settings_say(play, panel):
    model, encoding = play
    ids = encoding.encode("The king")
    for control, trait, value in ((panel.a, "settings", HOT), (panel.seed, "value", 9), (panel.b.sliders["top_p"], "value", 0.4)):
        setattr(control, trait, value)
        panel._writing.wait()
        expected = compare(model, ids, panel.a.settings, panel.b.settings, seed=panel.seed.value, n_tokens=12)
        assert (tokens(panel.comparison.a), tokens(panel.comparison.b)) == (tokens(expected.a), tokens(expected.b))
        assert words_on_parting(expected, encoding) in panel.parting.value
        assert draw_text("The king", expected.a, encoding, expected.parting) in panel.text_a.value
        assert draw_text("The king", expected.b, encoding, expected.parting) in panel.text_b.value


def test_of_many_changes_the_last_one_wins(play, panel):
    for T in np.linspace(0.1, 2, 30):
        panel.b.settings = SamplingSettings(round(T, 2))
    panel._writing.wait()
    expected = compare(*play[:1], play[1].encode("The king"), panel.a.settings, SamplingSettings(2), seed=0, n_tokens=12)
    assert tokens(panel.comparison.b) == tokens(expected.b)


def test_another_text_and_another_model(play, panel, small):
    model, encoding = play
    panel.set_text(model, encoding, encoding.encode("My lord"))
    panel._writing.wait()
    assert "My lord" in panel.text_a.value
    written = panel.comparison
    panel.set_text(model, encoding, np.array(encoding.encode("My lord")))  # the same again
    panel._writing.wait()
    assert panel.comparison is written
    other, other_encoding = load_pretrained("shakespeare")
    panel.set_text(other, other_encoding, other_encoding.encode("My lord"))
    panel._writing.wait()
    expected = compare(other, other_encoding.encode("My lord"), panel.a.settings, panel.b.settings, seed=0, n_tokens=12)
    assert tokens(panel.comparison.a) == tokens(expected.a)


def test_top_k_can_be_set_up_to_each_models_own_vocabulary(panel):
    assert panel.a.sliders["top_k"].options[-2] == 1024
    other = GPT(GPTConfig(vocab_size=300, block_size=16, n_layer=1, n_head=1, n_embd=8))
    panel.set_text(other, train_bpe(load_corpus("play")[:5000], 300), [1])
    panel._writing.wait()
    assert panel.a.sliders["top_k"].options[-2] == panel.b.sliders["top_k"].options[-2] == 300
    assert panel.a.settings == PRESETS["balanced"] and panel.b.settings == PRESETS["creative"]


def test_measuring_fills_the_table_which_says_when_it_is_old(panel):
    assert panel.table.value == ""
    panel.job.start.click()
    panel.job.work.wait()
    assert draw_table(*panel.found, 12) in panel.table.value and panel.job.bar.value == 100 and panel.job.said.value == "done"
    assert panel.stale.value == ""
    before = panel.b.settings
    panel.b.settings = GREEDY
    assert "have changed since" in panel.stale.value
    panel.b.settings = before
    assert panel.stale.value == ""


def test_a_map_says_when_it_is_old(play):
    model, encoding = play
    panel = MapPanel(model, encoding, [1], n_tokens=5, n_texts=4, temperatures=(1.0,), top_ps=(0.5, 1.0))
    panel.set_text(model, encoding, [2])
    assert panel.stale.value == ""  # there is no map yet
    panel.job.go()
    panel.job.work.wait()
    for other in ((model, encoding, [3]), (load_pretrained("shakespeare")[0], load_pretrained("shakespeare")[1], [2])):
        panel.set_text(*other)
        assert "model or text have changed" in panel.stale.value
        panel.set_text(model, encoding, [2])
        assert panel.stale.value == ""


def test_a_table_is_old_until_a_new_one_is_there(panel, monkeypatch):
    panel.job.start.click()
    panel.job.work.wait()
    panel.b.settings = GREEDY
    table = panel.table.value

    def cancelled_at_once(*args, **options):
        assert "have changed since" in panel.stale.value
        return iter([panel.found[:1]])

    monkeypatch.setattr(comparison_panel, "measuring", cancelled_at_once)
    panel.job.start.click()
    panel.job.work.wait()
    assert panel.table.value == table and "have changed since" in panel.stale.value


def test_what_is_cancelled_stays_as_it_was(play):
    model, encoding = play
    panel = MapPanel(model, encoding, encoding.encode("The king"), n_tokens=30, n_texts=4)
    panel.job.start.click()
    while len(panel.cells) < 2 and panel.job.work.busy:
        time.sleep(0.01)
    panel.job.cancel.click()
    assert not panel.job.work.busy and re.fullmatch(r"cancelled at \d+ %", panel.job.said.value)
    before = panel.picture.value, len(panel.cells)
    time.sleep(0.3)
    assert (panel.picture.value, len(panel.cells)) == before and before[1] < 42
    panel.measure.value = "surprise"
    assert "surprise (" in panel.picture.value and f"{before[1]} of 42 cells" in panel.words.value
    panel.job.cancel.click()  # nothing to cancel
    assert panel.job.said.value.startswith("cancelled at")


def test_the_map_panel_shows_the_map_of_its_text(play):
    model, encoding = play
    ids, options = encoding.encode("<b>&"), {"n_tokens": 6, "n_texts": 4}
    panel = MapPanel(model, encoding, ids, temperatures=(0.5, 1.5), top_ps=(0.5, 1.0), **options)
    panel.job.start.click()
    panel.job.work.wait()
    *_, (_, cells) = measure_map(model, ids, (0.5, 1.5), (0.5, 1.0), seed=0, **options)
    for name in MEASURES:
        panel.measure.value = name
        assert draw_map(cells, name, (0.5, 1.5), (0.5, 1.0)) in panel.picture.value
        assert html.escape(describe_map(cells, name, (0.5, 1.5), (0.5, 1.0))) in panel.words.value
    assert "4 texts of up to 6 tokens after “&lt;b&gt;&amp;”" in panel.words.value


def test_a_text_that_has_no_tokens_is_answered_in_a_sentence(play, panel):
    panel.set_text(*play, [])
    panel._writing.wait()
    assert "start from at least one token" in panel.parting.value and panel.text_a.value == ""
    panel.job.start.click()
    panel.job.work.wait()
    assert "start from at least one token" in panel.job.said.value
    panel.set_text(*play, play[1].encode("The king"))
    panel._writing.wait()
    assert "part" in panel.parting.value and "The king" in panel.text_a.value


def test_text_forms_are_the_same_everywhere(play, panel):
    assert repr(panel) == "ComparisonPanel: run this cell to set A and B, and see where their texts part"
    assert repr(MapPanel(*play, [1])).startswith("MapPanel: run this cell")


# ---- the thread


def test_a_newer_task_takes_the_place_of_the_one_before():
    background, shown, ended, gate = Background(), [], [], threading.Event()

    def slow():
        yield "old"
        gate.wait()
        yield "too late"

    background.start(slow(), shown.append, ended.append)
    while not shown:
        time.sleep(0.001)
    background.start(iter(["new"]), shown.append, ended.append)
    gate.set()
    background.wait()
    assert shown == ["old", "new"] and ended == [None] and not background.busy


def test_an_error_is_handed_on_and_the_next_task_runs():
    background, shown, ended = Background(), [], []
    background.start((1 / n for n in (1, 0)), shown.append, ended.append)
    background.wait()
    assert shown == [1] and isinstance(ended[0], ZeroDivisionError)
    background.start([5], shown.append, ended.append)
    background.wait()
    assert shown == [1, 5] and ended[1] is None


def test_it_leaves_the_number_of_blas_threads_as_it_was(play):
    with threadpool_limits(limits=2, user_api="blas"):
        before = [pool["num_threads"] for pool in threadpool_info()]
        panels = [MapPanel(*play, [1], n_tokens=5, n_texts=4, temperatures=(1.0,), top_ps=(0.5, 1.0)) for _ in range(3)]
        for panel in panels:
            panel.job.go()
        for panel in panels:
            panel.job.work.wait()
        assert [pool["num_threads"] for pool in threadpool_info()] == before and 2 in before
