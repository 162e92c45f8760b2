"""The sampling explorer without a browser: its state, its pictures, its controls, and the panel that binds them."""

import asyncio
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygpt_lib import GPT, GPTConfig, SamplingSettings, encode, load_pretrained, save_checkpoint, save_gpt2, stream, trace
from tinygpt_lib.widgets import PRESETS, SamplingExplorer, SettingsControls, explorer_state
from tinygpt_lib.widgets.controls import OFF, steps_of_k
from tinygpt_lib.widgets.drawing import percent
from tinygpt_lib.widgets.explorer_pictures import cut_by, describe, draw_bars, draw_curve, draw_text, figures
from tinygpt_lib.widgets.explorer_state import ExplorerState

PLAIN = SamplingSettings()
WARM = SamplingSettings(temperature=0.9, top_k=30, top_p=0.95)


@pytest.fixture(scope="module")
def play():
    return load_pretrained("play")


@pytest.fixture(scope="module")
def start(play):
    model, encoding = play
    return ExplorerState.begin(model, encode(encoding, "Enter the"), seed=3, end=encoding.eot_token)


def words(state):
    return [token.id for token in state.tokens]


def everything(state):
    """All that a state holds, to compare it with itself later."""
    branches = [
        ([(t.id, t.logits.tobytes(), t.settings) for t in b.tokens], b.logits.tobytes(), b.origin) for b in state.branches
    ]
    return state.prompt.tolist(), state.seed, branches, state.current, state.picked, state.end, id(state.past)


# ---- the text grows


def test_a_text_is_the_one_that_stream_draws(play, start):
    steps = stream(play[0], start.prompt, WARM, seed=3, max_new_tokens=40)
    expected = [step.token for step in steps]
    assert words(start.steps(WARM, 40)) == expected
    one_by_one = start
    for _ in range(40):
        one_by_one = one_by_one.steps(WARM)
    assert words(one_by_one) == expected


def test_the_logits_are_those_of_the_whole_text(play, start):
    state = start.steps(WARM, 12)
    for place in (0, 5, 11):
        logits = play[0]([state.ids[: len(start.prompt) + place]])[0].data[0, -1]
        np.testing.assert_allclose(state.pick(place).trace(PLAIN).logits, logits, atol=1e-4)
    np.testing.assert_allclose(state.trace(PLAIN).logits, play[0]([state.ids])[0].data[0, -1], atol=1e-4)


def test_a_place_has_its_luck_whatever_stands_before_it(start):
    state = start.steps(WARM, 10)
    numbers = np.random.default_rng(3).random(30)
    for settings_before in (SamplingSettings(temperature=0), SamplingSettings(temperature=2)):
        other = start.steps(settings_before, 10).steps(WARM, 20)
        for place in (10, 17, 29):
            looked_at = other.pick(place)
            edges = looked_at.trace(WARM).final.cumsum()
            assert looked_at.looked_at.id == np.searchsorted(edges, numbers[place] * edges[-1], side="right")
    assert words(state.undo().steps(WARM, 10)) == words(state)


def test_settings_can_change_between_steps_and_each_token_remembers_its_own(start):
    state = start.steps(WARM, 3).steps(PLAIN, 2)
    assert [token.settings for token in state.tokens] == [WARM] * 3 + [PLAIN] * 2
    assert words(state)[:3] == words(start.steps(WARM, 3))


def test_a_text_ends_with_end_of_text(start):
    over = start.steps(WARM, 2).choose(start.end)
    assert over.is_over and over.steps(WARM, 5) is over and over.choose(7) is over
    assert not over.fork(2, 7).is_over


def test_a_text_has_a_longest_length(start, monkeypatch):
    monkeypatch.setattr(explorer_state, "LONGEST", 6)
    state = start.steps(WARM, 100)
    assert len(state.tokens) == 6 and state.is_over


def test_a_prompt_beyond_the_context_is_read_from_its_end(play):
    model, encoding = play
    prompt = encode(encoding, "The king is dead. " * 60)
    state = ExplorerState.begin(model, prompt, seed=1).steps(WARM, 4)
    assert words(state) == [step.token for step in stream(model, prompt, WARM, seed=1, max_new_tokens=4)]
    assert len(state.ids) == len(prompt) + 4


# ---- branches


def test_a_fork_keeps_what_came_before_and_leaves_its_parent_alone(start):
    parent = start.steps(WARM, 10)
    before = everything(parent)
    token = int(parent.pick(4).trace(PLAIN).order[7])
    child = parent.fork(4, token)
    assert words(child) == [*words(parent)[:4], token] and child.current == 1 and child.picked is None
    assert child.branch.origin == (0, 4) and child.tokens[4].settings is None and child.tokens[:4] == parent.tokens[:4]
    grown = child.steps(WARM, 8)
    assert words(grown)[:5] == words(child) and words(grown.switch(0)) == words(parent)
    assert everything(parent) == before and parent.branches[0] is child.branches[0] is grown.branches[0]


def test_choosing_what_stands_there_is_no_fork(start):
    state = start.steps(WARM, 5).pick(2)
    assert state.choose(state.looked_at.id) is state


def test_choosing_the_next_token_goes_on_with_the_branch(start):
    state = start.steps(WARM, 5)
    chosen = state.choose(9)
    assert words(chosen) == [*words(state), 9] and len(chosen.branches) == 1
    assert words(chosen.steps(WARM, 3))[:6] == words(chosen)


def test_a_fork_at_the_first_token_and_a_fork_of_a_fork(start):
    first = start.steps(WARM, 6).fork(0, 40).steps(WARM, 6)
    second = first.fork(3, 41)
    assert words(second) == [*words(first)[:3], 41] and second.branch.origin == (1, 3) and len(second.branches) == 3


def test_again_draws_a_text_as_long_from_the_prompt(start):
    state = start.steps(WARM, 9).fork(3, 50).steps(WARM, 4)
    anew = state.again(PLAIN)
    assert len(state.tokens) == 8 and words(anew) == words(start.steps(PLAIN, 8)) and anew.undo() is state
    assert words(state.again(WARM, seed=8)) == words(ExplorerState.begin(state.model, state.prompt, 8, state.end).steps(WARM, 8))


@pytest.mark.parametrize(
    "act", [lambda s: s.pick(5), lambda s: s.pick(-1), lambda s: s.switch(1), lambda s: s.choose(10**6), lambda s: s.choose(-1)]
)
def test_places_branches_and_tokens_that_arent_there_are_refused(start, act):
    with pytest.raises(ValueError, match="must lie from 0"):
        act(start.steps(WARM, 5))


acts = st.one_of(
    st.tuples(st.just("steps"), st.sampled_from([PLAIN, WARM, SamplingSettings(temperature=0)]), st.integers(1, 4)),
    st.tuples(st.just("choose"), st.integers(0, 255)),
    st.tuples(st.just("pick"), st.integers(0, 30)),
    st.tuples(st.just("switch"), st.integers(0, 30)),
    st.tuples(st.just("again"), st.just(WARM)),
)


@settings(max_examples=40, deadline=None)
@given(plan=st.lists(acts, max_size=8))
def test_undo_takes_back_each_act_exactly(start, plan):
    state, past = start, []
    for name, *arguments in plan:
        if name == "pick":
            arguments = [arguments[0] % len(state.tokens) if state.tokens else None]
        elif name == "switch":
            arguments = [arguments[0] % len(state.branches)]
        after = getattr(state, name)(*arguments)
        if after is not state and name != "pick":
            past.append((state, everything(state)))
        state = after
    for before, then in reversed(past):
        state = state.undo()
        assert state is before and everything(state) == then
    assert start.undo() is start


# ---- the trace, against probabilities computed here


def by_hand(logits, T, k, p, m):
    """Final probabilities, and what each filter keeps, by loops over sorted tokens."""
    x = np.asarray(logits, dtype=np.float64)
    order = sorted(range(len(x)), key=lambda i: (-x[i], i))
    if T == 0:
        weight = {order[0]: 1.0}
    else:
        weight = {i: np.exp((x[i] - x[order[0]]) / T) for i in order}
    total = sum(weight.values())
    scaled = np.array([weight.get(i, 0.0) / total for i in range(len(x))])
    alive, kept = list(order), {}
    if k:
        alive = alive[:k]
        kept["top_k"] = set(alive) & {i for i in order if T or i == order[0]}
    if p < 1:
        mass, inside, whole = 0.0, [], scaled[alive].sum()
        for i in alive:
            if inside and mass / whole >= p - 1e-7:
                break
            inside.append(i)
            mass += scaled[i]
        alive = inside
        kept["top_p"] = set(alive) & {i for i in order if T or i == order[0]}
    if m:
        alive = [i for i in alive if scaled[i] >= m * scaled[order[0]] * (1 - 1e-7)]
        kept["min_p"] = set(alive)
    final = np.zeros(len(x))
    final[alive] = scaled[alive] / scaled[alive].sum()
    return scaled, final, kept


some_settings = st.builds(
    SamplingSettings,
    temperature=st.one_of(st.sampled_from([0, 1, 2.5]), st.floats(0.05, 2.5)),
    top_k=st.one_of(st.none(), st.integers(1, 1100)),
    top_p=st.one_of(st.sampled_from([0, 1]), st.floats(0, 1)),
    min_p=st.one_of(st.just(0), st.floats(0, 1)),
)


@settings(max_examples=300, deadline=None)
@given(chosen=some_settings, place=st.integers(0, 9))
def test_the_trace_agrees_with_probabilities_computed_by_hand(start, chosen, place):
    state = start.steps(WARM, 9)
    trace = (state if place == 9 else state.pick(place)).trace(chosen)
    scaled, final, kept = by_hand(trace.logits, chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p)
    np.testing.assert_allclose(trace.scaled, scaled, atol=1e-9)
    np.testing.assert_allclose(trace.final, final, atol=1e-9)
    assert list(trace.kept) == [name for name in ("top_k", "top_p", "min_p") if name in kept]  # the pinned order
    alive = np.ones(len(final), dtype=bool)
    for name, mask in trace.kept.items():
        assert set(np.flatnonzero(mask)) == kept[name] and not (mask & ~alive).any()
        alive = mask
    assert not trace.final[~alive].any() and (chosen.temperature == 0 or trace.final[alive].all())
    inside = final > 0
    np.testing.assert_allclose(trace.kept_mass, scaled[inside].sum())
    np.testing.assert_allclose(trace.entropy, -sum(q * np.log2(q) for q in final[inside]), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(chosen=some_settings)
def test_a_cold_temperature_comes_to_greedy(start, chosen):
    cold = SamplingSettings(1e-3, chosen.top_k, chosen.top_p, chosen.min_p)
    greedy = SamplingSettings(0, chosen.top_k, chosen.top_p, chosen.min_p)
    logits = start.trace(PLAIN).logits
    assert (logits == logits.max()).sum() == 1
    np.testing.assert_allclose(start.trace(cold).final, start.trace(greedy).final, atol=1e-6)


# ---- the pictures

SVG = "{http://www.w3.org/2000/svg}"
CUTTING = SamplingSettings(temperature=1.3, top_k=9, top_p=0.9, min_p=0.1)


def called(token):
    return f"<{token}&"


def texts(svg):
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_each_bar_is_as_long_as_its_probability_and_says_it(start):
    t = start.trace(CUTTING)
    svg, most = draw_bars(t, called), 0.05
    words = texts(svg)
    said = {words[i - 1]: word for i, word in enumerate(words) if "→" in word}
    widths = [float(rect.get("width")) for rect in ET.fromstring(svg).iter(f"{SVG}rect")][3:]
    while most < max(t.raw.max(), t.final.max()):
        most = {0.05: 0.1, 0.1: 0.2, 0.2: 0.5, 0.5: 1}[most]
    for i in t.order[:16].tolist():
        if cut_by(t, i):
            assert said[called(i)].endswith(f"cut by {cut_by(t, i).replace('_', '-')}")
        else:
            assert said[called(i)] == f"{percent(t.raw[i])} → {percent(t.final[i])}"
            assert round(270 * t.final[i] / most, 1) in widths
        assert round(270 * t.raw[i] / most, 1) in widths
    assert {cut_by(t, i) for i in t.order[:16].tolist()} >= {None, "top_k"}


def test_a_token_far_down_is_shown_where_it_stands(start):
    t = start.trace(CUTTING)
    last = int(t.order[-1])
    assert f"▸{called(last)}" in texts(draw_bars(t, called, last)) and called(last) in describe(t, called, last)
    assert f"▸{called(int(t.order[2]))}" in texts(draw_bars(t, called, int(t.order[2])))


def test_the_curve_marks_each_filter_where_it_cuts(start):
    t = start.trace(CUTTING)
    left = {name: kept.sum() for name, kept in t.kept.items()}
    said = texts(draw_curve(t))
    assert {
        f"top-k 9 leaves {left['top_k']}",
        f"top-p 0.9 leaves {left['top_p']}",
        f"min-p 0.1 leaves {left['min_p']}",
        "T = 1.3",
    } <= set(said)
    assert not any("leaves" in text for text in texts(draw_curve(start.trace(PLAIN))))


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-1e3, 1e3) | st.just(-np.inf), min_size=1, max_size=40).filter(lambda x: max(x) > -np.inf),
    chosen=some_settings,
    penalty=st.sampled_from([1, 1.3]),
)
def test_any_distribution_can_be_drawn(logits, chosen, penalty):
    t = trace(np.array(logits), SamplingSettings(**{**vars(chosen), "repetition_penalty": penalty, "typical_p": 0.9}), [0])
    for svg in (draw_bars(t, called), draw_bars(t, called, len(logits) - 1), draw_curve(t)):
        root = ET.fromstring(svg)
        assert "nan" not in svg and root.get("role") == "img" and len(root.get("aria-label")) > 20
    assert ET.fromstring(figures(t, called)) is not None


@pytest.mark.parametrize(
    "p, said",
    [
        (0, "0 %"), (1e-9, "≈0 %"), (0.0004, "0.04 %"), (0.0312, "3.1 %"),
        (0.231, "23 %"), (0.998, "99.8 %"), (0.9999, "≈100 %"), (1, "100 %"),
    ],  # fmt: skip
)
def test_percentages_are_short(p, said):
    assert percent(p) == said


def test_the_text_shows_each_token_once_and_the_one_that_is_looked_at(play, start):
    state = start.steps(WARM, 6).choose(9).pick(2)
    drawn = ET.fromstring(draw_text(state, called).join(("<div>", "</div>")))
    spans = [span for span in drawn.iter("span") if span.get("title")]
    assert [span.text for span in spans] == [called(token.id) for token in state.tokens]
    assert [i for i, span in enumerate(spans) if "outline" in span.get("style")] == [2]
    assert [i for i, span in enumerate(spans) if "by hand" in span.get("title")] == [6]
    assert spans[2].get("title") == f"2: {percent(state.tokens[2].probability)}"


# ---- the controls


def test_sliders_boxes_and_presets_say_the_same():
    controls, got = SettingsControls(), []
    controls.observe_settings(got.append)
    controls.sliders["temperature"].value = 1.3
    controls.boxes["top_k"].value = 37
    assert got[-1] == controls.settings == SamplingSettings(1.3, 37, 0.9) and controls.presets.value is None
    assert controls.boxes["temperature"].value == 1.3 and controls.sliders["top_k"].value in (36, 38)
    controls.presets.value = "wild"
    assert controls.settings == PRESETS["wild"] and controls.sliders["top_k"].value == OFF and controls.boxes["top_k"].value == 0
    controls.reset.click()
    assert controls.settings == PRESETS["balanced"] and controls.presets.value == "balanced" and len(got) == 4


def test_settings_can_be_assigned_beyond_what_the_sliders_reach():
    controls, chosen = SettingsControls(), SamplingSettings(
        temperature=7, top_k=600, top_p=0.123, min_p=0.5, repetition_penalty=1.2
    )
    controls.settings = chosen
    assert (
        controls.settings == chosen and controls.sliders["temperature"].value == 2.5 and controls.boxes["temperature"].value == 7
    )
    controls.sliders["min_p"].value = 0.25
    assert controls.settings == SamplingSettings(7, 600, 0.123, 0.25, repetition_penalty=1.2)
    with pytest.raises(TypeError, match="SamplingSettings"):
        controls.settings = 0.8


def test_nothing_is_told_where_nothing_changes():
    controls, got = SettingsControls(), []
    controls.observe_settings(got.append)
    controls.settings = SamplingSettings(0.8, 50, 0.9)
    controls.set_vocabulary(300)
    assert got == [] and controls.sliders["top_k"].value == 50 and controls.sliders["top_k"].options[-2:] == (300, OFF)


@pytest.mark.parametrize("size", [1, 2, 30, 1024, 50257])
def test_the_steps_of_k_rise_to_the_vocabulary(size):
    *steps, last = steps_of_k(size)
    assert last == OFF and steps[-1] == size and steps == sorted(set(steps)) and len(steps) < 160
    assert set(range(1, min(size, 20))) <= set(steps)


# ---- the panel


@pytest.fixture
def explorer(play):
    return SamplingExplorer(*play, prompt="Enter the")


def shown(explorer):
    return re.sub(r"<[^>]*>", " ", explorer.picture.value)


def test_the_panel_shows_the_trace_of_its_settings(explorer):
    for chosen in (PRESETS["wild"], PRESETS["greedy"], CUTTING):
        explorer.settings = chosen
        assert explorer.trace.settings == chosen and f"{explorer.trace.entropy:.2f} bits" in shown(explorer)
        assert f"{(explorer.trace.final > 0).sum():,} of {len(explorer.trace.final):,}" in shown(explorer)


def test_a_text_grows_forks_and_is_taken_back(explorer, play):
    explorer.next.click()
    explorer.next_20.click()
    text = explorer.text
    expected = stream(play[0], encode(play[1], "Enter the"), explorer.settings, seed=0, max_new_tokens=21)
    assert explorer.ids.tolist()[-21:] == [step.token for step in expected]
    explorer.place.value = 4
    stands = explorer.state.looked_at.id
    assert explorer.state.picked == 4 and "Token 4" in shown(explorer)
    explorer.others.value = next(i for _, i in explorer.others.options if i != stands)
    assert explorer.state.place == 5 and len(explorer.branch.options) == 2 and explorer.branch.layout.display == "grid"
    assert explorer.others.value is None
    explorer.branch.value = 0
    assert explorer.text == text
    explorer.undo.click()
    explorer.undo.click()
    assert explorer.text == text and explorer.branch.layout.display == "none"
    explorer.seed = 5
    assert explorer.text != text and explorer.seed == 5 and len(explorer.state.tokens) == 21
    explorer.undo.click()
    assert explorer.text == text and explorer._seed.value == 0
    explorer.undo.click()
    explorer.undo.click()
    assert explorer.text == "" and explorer.undo.disabled


@pytest.mark.parametrize(
    "prompt, said",
    [
        ("", "The prompt is empty"),
        ("<|endoftext|>", "as one token"),
        ("a 🎭", "single bytes"),
        ("The king is dead. " * 556, "it sees the last 128"),
    ],
)
def test_odd_prompts_are_answered_and_the_panel_still_works(explorer, prompt, said):
    explorer.prompt = prompt
    assert said in explorer.message.value and explorer.prompt == prompt
    explorer.next_20.click()
    assert len(explorer.state.tokens) == 20 or explorer.state.is_over
    explorer.prompt = "The king"
    assert explorer.message.value == "" and explorer.text == ""


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "&amp; <b>'\"", "\n\n", "\u202e\u0000x"])
def test_no_prompt_becomes_markup(explorer, text):
    explorer.prompt = text
    for part in (explorer.words, explorer.picture):
        assert ET.fromstring(part.value) is not None and "<script" not in part.value


def test_a_text_that_was_cut_off_isnt_said_to_have_ended(explorer, monkeypatch):
    monkeypatch.setattr(explorer_state, "LONGEST", 1)
    explorer.settings = PLAIN
    explorer.next.click()
    assert explorer.state.tokens[-1].id != explorer.state.end
    assert "though the text hasn't ended, after 1 token;" in explorer.picture.value
    explorer.place.value = 0
    assert "was drawn under temperature 1, all filters off;" in explorer.picture.value


def test_a_seed_beyond_its_box_is_refused(explorer):
    with pytest.raises(ValueError, match="at most 2,147,483,647"):
        explorer.seed = 2**31


@pytest.mark.parametrize("settings, name, typed", [
    (SamplingSettings(temperature=0), "temperature", 1e-5), (PLAIN, "top_p", 0.99999), (PLAIN, "min_p", 1e-5),
])  # fmt: skip
def test_a_box_says_what_is_set_after_rounding(settings, name, typed):
    controls = SettingsControls(settings)
    controls.boxes[name].value = typed
    assert controls.settings == settings and controls.boxes[name].value == getattr(settings, name)


def test_models_are_chosen_and_what_is_none_is_said(explorer, play, tmp_path):
    small = GPT(GPTConfig(vocab_size=play[1].n_vocab, block_size=16, n_layer=1, n_head=1, n_embd=8))
    small.encoding = play[1]
    save_checkpoint(tmp_path / "small.npz", small)
    explorer.chooser.value = "from a path"
    explorer.path.value = str(tmp_path / "small.npz")
    assert explorer.model.config.block_size == 16 and explorer.message.value == ""
    given = explorer.model
    for path in (tmp_path / "none.npz", tmp_path, __file__):
        explorer.path.value = str(path)
        assert "the model is still the one before" in explorer.message.value and explorer.model is given
    explorer.prompt = "Another beginning"  # which doesn't make the chooser's model the one that writes
    assert "the model is still the one before" in explorer.message.value
    save_gpt2(small, tmp_path / "gpt2")
    explorer.path.value = str(tmp_path / "gpt2")
    assert "pass encoding=" in explorer.message.value
    explorer.chooser.value = "shakespeare"
    assert explorer.model.config.vocab_size == 1024 and explorer.message.value == ""
    explorer.next_20.click()
    explorer.chooser.value = "the one given"
    assert explorer.model is play[0] and explorer.text == ""


def test_a_run_goes_on_under_the_settings_of_the_moment_until_it_is_stopped(explorer, monkeypatch):
    monkeypatch.setattr("tinygpt_lib.widgets.explorer.PAUSE", 0)

    async def run():
        explorer.run.value = True
        while len(explorer.state.tokens) < 5:
            await asyncio.sleep(0.01)
        explorer.settings = PRESETS["focused"]
        at = len(explorer.state.tokens)
        while len(explorer.state.tokens) < at + 4:
            await asyncio.sleep(0.01)
        explorer.run.value = False
        count = len(explorer.state.tokens)
        await explorer._run
        return at, count

    at, count = asyncio.run(run())
    tokens = explorer.state.tokens
    assert len(tokens) == count and tokens[0].settings == PRESETS["balanced"] and tokens[at + 1].settings == PRESETS["focused"]
    explorer.undo.click()
    assert explorer.text == ""


def test_a_run_ends_with_the_text(explorer, monkeypatch):
    monkeypatch.setattr("tinygpt_lib.widgets.explorer.PAUSE", 0)
    monkeypatch.setattr(explorer_state, "LONGEST", 7)

    async def run():
        explorer.run.value = True
        await explorer._run

    asyncio.run(run())
    assert len(explorer.state.tokens) <= 7 and explorer.state.is_over and not explorer.run.value and explorer.next.disabled


def test_the_other_parts_follow_the_prompt(explorer):
    explorer.part.value = "A and B"
    panel = explorer._panels["A and B"]
    assert explorer._below.children == (panel,) and panel.ids == explorer.state.prompt.tolist()
    explorer.prompt = "The king"
    assert panel.ids == explorer.state.prompt.tolist()
    explorer.part.value = "one text"
    assert explorer._below.children == (explorer._one,)


def test_its_text_form_is_the_same_everywhere(explorer):
    assert repr(explorer) == "SamplingExplorer: run this cell to move the dials, and see the distribution and the text change"
