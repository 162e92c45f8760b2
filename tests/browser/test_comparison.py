"""A and B and the map in the explorer of notebook 10, worked with keyboard and mouse."""

import re

import numpy as np
import pytest

from tests.browser.panel import Panel
from tests.test_widgets_comparison import chosen
from tinygpt_lib import SamplingSettings, load_pretrained, show_token
from tinygpt_lib.widgets.comparison import MEASURES, measures

NAME = "10_sampling_explorer.ipynb"
N_TOKENS = 60


@pytest.fixture
def panel(open_notebook):
    lab = open_notebook(NAME)
    lab.run_all()
    yield Comparison(lab)
    assert lab.errors() == []


class Comparison(Panel):
    """What a reader sees and touches of the explorer's lower part."""

    def show(self, part, awaited):
        """Choose a part of the explorer and wait for something that only it has."""
        self.button(part).click()
        self.root.locator(awaited).first.wait_for()

    def column(self, name):
        """The controls of A or of B."""
        return self.root.locator(".widget-vbox").filter(has=self.page.locator(f"label:text-is('{name}: temperature')")).last

    def boxes(self, name):
        """The number boxes of temperature, top-k, top-p and min-p."""
        return self.column(name).locator("input").all()

    def settings(self, name):
        T, k, p, least = (float(box.input_value()) for box in self.boxes(name))
        return SamplingSettings(T, int(k) or None, p, least)

    def seed(self):
        return self.root.locator(".widget-inline-hbox").filter(has=self.page.locator("label:text-is('seed')")).locator("input")

    def tokens(self, name):
        """The tokens of text A or B, the mark still at its place."""
        text = self.root.locator(f".widget-html-content > div:has(> b:text-is('{name}'))")
        return [token.replace(" ", "·").replace("↵\n", "↵") for token in text.locator("span[title]").all_text_contents()]

    def bar(self):
        return float(self.root.locator(".progress-bar").evaluate("bar => parseFloat(bar.style.width)"))


def expected(model, encoding, panel):
    """(position, token of A, token of B) at which the texts must part, computed from the logits; position None if never."""
    ids, luck = encoding.encode("My lord, I"), np.random.default_rng(int(panel.seed().input_value())).random(N_TOKENS)
    a, b = panel.settings("A"), panel.settings("B")
    for n in range(N_TOKENS):
        one, other = (chosen(model, ids[-model.config.block_size :], settings, luck[n]) for settings in (a, b))
        if one != other:
            return n, show_token(encoding, one), show_token(encoding, other)
        ids.append(one)
    return None, "", ""


def agrees(model, encoding, panel):
    """Wait until both texts have their mark at the token that the test finds, and say where."""
    n, *names = expected(model, encoding, panel)

    def marked():
        texts = [panel.tokens(name) for name in "AB"]
        if n is None:
            return texts[0] == texts[1] and len(texts[0]) == N_TOKENS and "A and B don't part" in panel.said()
        return (
            all(
                [m for m, token in enumerate(text) if token.startswith("◆")] == [n] and text[n] == f"◆{name}"
                for text, name in zip(texts, names)
            )
            and texts[0][:n] == texts[1][:n]
            and (f"after {n} equal" if n else "at once") in panel.said()
        )

    panel.wait(marked)
    return n


def test_a_and_b_part_where_their_distributions_do(panel):
    model, encoding = load_pretrained("shakespeare")
    panel.show("A and B", "b:text-is('B') + div span[title]")
    places = {agrees(model, encoding, panel)}

    before = panel.settings("B")
    panel.press("B: temperature", "ArrowLeft", times=2)
    panel.wait(lambda: panel.settings("B").temperature == pytest.approx(before.temperature - 0.1))
    places.add(agrees(model, encoding, panel))

    panel.drag("A: top-p", 0.5)
    panel.wait(lambda: panel.settings("A").top_p < 0.7)
    places.add(agrees(model, encoding, panel))

    panel.seed().fill("5")
    panel.seed().press("Enter")
    places.add(agrees(model, encoding, panel))

    panel.boxes("B")[0].fill("0.4")
    panel.boxes("B")[0].press("Enter")
    panel.wait(lambda: panel.settings("B").temperature == 0.4)
    places.add(agrees(model, encoding, panel))

    for name in "AB":
        panel.column(name).locator("button", has_text="focused").click()
        panel.wait(lambda name=name: panel.settings(name) == SamplingSettings(0.5, 20, 0.8))
    assert agrees(model, encoding, panel) is None and len(places) > 1


def test_both_are_measured_while_the_sliders_stay_live(panel):
    model, encoding = load_pretrained("shakespeare")
    panel.show("A and B", "b:text-is('B') + div span[title]")
    panel.press("texts each", "End")  # the longest measurement, still at work when the slider below has moved on a slow machine
    settings = [panel.settings(name) for name in "AB"]
    panel.button("measure A and B").click()
    panel.wait(lambda: re.search(r"\b[1-9]\d? %", panel.said()))

    panel.press("B: temperature", "ArrowRight")
    panel.wait(lambda: panel.settings("B") != settings[1])
    assert panel.root.locator("table").count() == 0
    panel.wait(lambda: panel.root.locator("table").count() == 1)
    assert "settings, seed or text have changed since" in panel.said()

    rows = {row.locator("b").inner_text(): row.locator("td").all_inner_texts() for row in panel.root.locator("tr").all()[1:]}
    assert list(rows) == list(MEASURES)
    for column, one in enumerate(settings):
        found = measures(model, encoding.encode("My lord, I"), one, seed=0, n_texts=64, n_tokens=N_TOKENS)
        for name, cells in rows.items():
            shown = [float(number) for number in re.findall(r"[\d.]+", cells[column])]
            np.testing.assert_allclose(shown, found[name], atol=0.051 if found[name].high >= 10 else 0.0051, err_msg=name)


def test_the_map_fills_is_cancelled_and_is_drawn_to_the_end(panel):
    picture = panel.root.locator("svg[aria-label*=' of 42 cells']")
    panel.show("map", "svg[aria-label*=' of 42 cells']")
    numbers = lambda: [t for t in picture.locator("g text").all_text_contents() if re.fullmatch(r"[\d.]+", t)]  # noqa: E731
    alternative = lambda: picture.get_attribute("aria-label")  # noqa: E731
    panel.wait(lambda: alternative() == f"distinct-2 ({MEASURES['distinct-2']}), 0 of 42 cells.")

    panel.button("draw the map").click()
    panel.wait(lambda: len(numbers()) >= 3)
    panel.button("surprise").click()
    panel.wait(lambda: alternative().startswith("surprise ("))
    panel.button("cancel").click()
    panel.wait(lambda: "cancelled at" in panel.said())
    count, bar = len(numbers()), panel.bar()
    panel.page.wait_for_timeout(1000)
    assert (len(numbers()), panel.bar()) == (count, bar) and 3 <= count < 42 and 0 < bar < 100
    assert f"{count} of 42 cells" in alternative() and alternative() in panel.said()

    panel.press("texts each", "Home")
    panel.button("draw the map").click()
    panel.wait(lambda: "done" in panel.said(), seconds=150)
    assert len(numbers()) == 42 and panel.bar() == 100 and "42 of 42 cells" in alternative()
    fills = set(picture.locator("rect").evaluate_all("boxes => boxes.map(box => box.getAttribute('fill'))"))
    assert len(fills) > 10

    panel.button("repetition").focus()
    panel.page.keyboard.press("Enter")
    panel.wait(lambda: alternative().startswith("repetition (") and alternative() in panel.said())
    lowest, highest = (float(n) for n in re.search(r"lowest .*, ([\d.]+); highest .*, ([\d.]+)\. The", alternative()).groups())
    assert (lowest, highest) == (min(map(float, numbers())), max(map(float, numbers())))
