"""The token playground of notebook 02, as its reader meets it."""

import pytest

PANEL = ".jp-OutputArea .widget-vbox"
BOXES = f"{PANEL} sub"


@pytest.fixture
def lab(open_notebook):
    return open_notebook("02_tokenization.ipynb")


def wait_for(lab, words):
    lab.page.wait_for_function("([panel, words]) => document.querySelector(panel)?.innerText.includes(words)", arg=[PANEL, words], timeout=20_000)


def shown(lab):
    """The text of each box in the panel, without its id."""
    return lab.page.eval_on_selector_all(BOXES, "subs => subs.map(sub => sub.parentElement.firstChild.textContent)")


def write(lab, text):
    """Replace what stands in the panel's text box, by keyboard."""
    lab.page.click(f"{PANEL} textarea")
    lab.page.keyboard.press("Control+A")
    lab.page.keyboard.insert_text(text)


def test_the_boxes_are_seen_in_a_notebook_that_nobody_has_run(lab):
    borders = lab.page.eval_on_selector_all(".jp-RenderedHTML sub", "subs => subs.map(sub => getComputedStyle(sub.parentElement).border)")
    assert len(borders) > 80 and {border.split(" rgb")[0] for border in borders} == {"1px solid", "3px double"}
    assert not lab.page.query_selector(PANEL)


def test_typing_and_choosing_change_what_is_shown(lab):
    lab.run_all()
    assert lab.errors() == []
    lab.page.wait_for_selector(BOXES)
    assert "·many" in shown(lab)

    lab.page.get_by_label("text", exact=True).press("Control+A")
    lab.page.keyboard.type("thou hast <b>")
    wait_for(lab, "13 characters, 13 bytes")
    before = shown(lab)
    assert "".join(before) == "thou·hast·<b>" and "thou" in before[0] + before[1]
    assert not lab.page.query_selector(f"{PANEL} .widget-html b")

    button = lab.page.locator(f"{PANEL} button")
    while not button.get_by_text("bytes alone").evaluate("button => button === document.activeElement"):
        lab.page.keyboard.press("Shift+Tab")  # from the text back to the buttons
    lab.page.keyboard.press("Space")
    wait_for(lab, "bytes alone: 13 characters, 13 bytes, 13 tokens")
    assert shown(lab) == list("thou·hast·<b>")
    button.get_by_text("Shakespeare").click()
    wait_for(lab, f"Shakespeare: 13 characters, 13 bytes, {len(before)} tokens")
    assert shown(lab) == before

    write(lab, "To be, or not to be? " * 500)
    wait_for(lab, "10,500 characters, 10,500 bytes")
    wait_for(lab, "more tokens are counted and not drawn")
    assert len(shown(lab)) == 1000

    write(lab, "a<|endoftext|>")
    wait_for(lab, "14 characters, 14 bytes, 2 tokens")
    assert shown(lab) == ["a", "<|endoftext|>"]

    lab.page.keyboard.press("Control+A")
    lab.page.keyboard.press("Delete")
    wait_for(lab, "type a text")
    assert shown(lab) == []


