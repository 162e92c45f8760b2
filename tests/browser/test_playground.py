"""The token playground of notebook 02, as its reader meets it."""

import pytest

from tests.browser.panel import Panel


class Playground(Panel):
    """What a reader sees and touches of the playground."""

    def __init__(self, lab):
        super().__init__(lab)
        self.text = self.root.locator("textarea")

    def shown(self):
        """The text of each box, without its id."""
        return self.root.locator("sub").evaluate_all("subs => subs.map(sub => sub.parentElement.firstChild.textContent)")

    def write(self, text):
        """Replace what stands in the text box, by keyboard."""
        self.text.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)


@pytest.fixture
def lab(open_notebook):
    return open_notebook("02_tokenization.ipynb")


def test_the_boxes_are_seen_in_a_notebook_that_nobody_has_run(lab):
    borders = lab.page.eval_on_selector_all(
        ".jp-RenderedHTML sub", "subs => subs.map(sub => getComputedStyle(sub.parentElement).border)"
    )
    assert len(borders) > 80 and {border.split(" rgb")[0] for border in borders} == {"1px solid", "3px double"}
    assert not lab.page.query_selector(".widget-textarea")


def test_typing_and_choosing_change_what_is_shown(lab):
    lab.run_all()
    assert lab.errors() == []
    panel = Playground(lab)
    panel.wait(lambda: "·many" in panel.shown())

    panel.text.press("Control+A")
    panel.page.keyboard.type("thou hast <b>")
    panel.wait_for("13 characters, 13 bytes")
    before = panel.shown()
    assert "".join(before) == "thou·hast·<b>" and "thou" in before[0] + before[1]
    assert not panel.root.locator(".widget-html b").count()

    while not panel.button("bytes alone").evaluate("button => button === document.activeElement"):
        panel.page.keyboard.press("Shift+Tab")  # from the text back to the buttons
    panel.page.keyboard.press("Space")
    panel.wait_for("bytes alone: 13 characters, 13 bytes, 13 tokens")
    assert panel.shown() == list("thou·hast·<b>")
    panel.button("Shakespeare").click()
    panel.wait_for(f"Shakespeare: 13 characters, 13 bytes, {len(before)} tokens")
    assert panel.shown() == before

    panel.write("To be, or not to be? " * 500)
    panel.wait_for("10,500 characters, 10,500 bytes")
    panel.wait_for("more tokens are counted and not drawn")
    assert len(panel.shown()) == 1000

    panel.write("a<|endoftext|>")
    panel.wait_for("14 characters, 14 bytes, 2 tokens")
    assert panel.shown() == ["a", "<|endoftext|>"]

    panel.page.keyboard.press("Control+A")
    panel.page.keyboard.press("Delete")
    panel.wait_for("type a text")
    assert panel.shown() == []
