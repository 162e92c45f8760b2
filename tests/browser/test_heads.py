"""The viewer of heads in notebook 05, worked with the keyboard and the mouse."""

import re

from tests.browser.panel import Panel

NAME = "05_multi_head_attention.ipynb"


class Viewer(Panel):
    """What a reader sees and touches of the viewer."""

    def __init__(self, lab):
        super().__init__(lab)
        self.text = self.root.locator("textarea")

    def sentence(self):
        """(layer, head, the token that looks)."""
        words = self.root.locator(".widget-html-content").first
        found = re.match(r"Layer (\d+), head (\d+): (.*) looks at ", words.inner_text())
        return int(found[1]), int(found[2]), found[3]

    def frame(self, picture):
        """Where the orange frame stands in the first or second picture."""
        rect = self.root.locator("svg").nth(picture).locator("rect[stroke='#d55e00']")
        return float(rect.get_attribute("x")), float(rect.get_attribute("y"))

    def tokens(self):
        return self.root.locator("span[title]").all_inner_texts()

    def sizes(self):
        """The widths of all heads' pictures, in their own pixels, as the browser decodes them."""
        return self.root.locator("image").evaluate_all(
            "images => Promise.all(images.map(async image => {"
            "const copy = new Image(); copy.src = image.getAttribute('href'); await copy.decode(); return copy.naturalWidth; }))"
        )


def test_the_viewer_answers_to_keyboard_mouse_and_text(open_notebook):
    lab = open_notebook(NAME)
    lab.run_all()
    panel = Viewer(lab)
    keyboard_and_mouse(panel)
    a_text_of_ones_own(panel)
    texts_that_are_none(panel)
    assert lab.errors() == []


def keyboard_and_mouse(panel):
    layer, head, token = panel.sentence()
    assert panel.tokens()[-1] == token

    panel.text.focus()
    panel.page.keyboard.press("Tab")
    assert panel.handle("layer").evaluate("handle => handle === document.activeElement")
    before = panel.frame(0)
    key, other = ("ArrowLeft", layer - 1) if layer else ("ArrowRight", 1)
    panel.page.keyboard.press(key)
    panel.wait_for(f"Layer {other}, head {head}:")
    panel.wait(lambda: panel.frame(0)[0] == before[0] and panel.frame(0)[1] != before[1])

    panel.drag("head", 0)
    panel.wait_for(f"Layer {other}, head 0:")
    panel.wait(lambda: panel.frame(0)[0] == 0)

    row, first = panel.frame(1)[1], panel.tokens()[0]
    panel.slider("token").locator(".noUi-base").click(position={"x": 1, "y": 1})
    panel.wait_for(f"{first} looks at {first} (100 %)")
    panel.wait(lambda: panel.frame(1)[1] < row)
    assert panel.slider("token").locator(".widget-readout").inner_text() == f"0 {first}"


def a_text_of_ones_own(panel):
    layer, head, _ = panel.sentence()
    panel.text.click()
    panel.page.keyboard.press("Control+A")
    panel.page.keyboard.type("my <b>lord</b>")
    panel.wait(lambda: "".join(panel.tokens()) == "my·<b>lord</b>")
    assert panel.sentence() == (layer, head, panel.tokens()[-1]) and panel.root.locator("span[title] b").count() == 0
    panel.wait(lambda: set(panel.sizes()) == {len(panel.tokens())})
    assert len(panel.sizes()) > 16


def texts_that_are_none(panel):
    panel.text.fill("")
    panel.wait_for("The text is empty: type at least one character.")
    panel.wait(lambda: panel.root.locator("svg").count() == 0)
    panel.text.fill("a 🎭")
    panel.wait_for("are single bytes")
    assert panel.tokens()[-4:] == ["<f0>", "<9f>", "<8e>", "<ad>"]
    panel.text.fill("The king is dead. " * 60)
    panel.wait_for("at once: these are the last")
    panel.wait(lambda: panel.root.locator("svg").count() == 2)
    assert panel.root.bounding_box()["width"] <= panel.page.locator(".jp-Notebook").bounding_box()["width"]
