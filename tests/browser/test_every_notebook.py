"""Each notebook opened in JupyterLab, run from top to bottom, and seen."""

import pytest

from tests.browser.conftest import ROOT

NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_runs_without_an_error_and_shows_its_pictures(name, open_notebook, tmp_path):
    lab = open_notebook(name)
    lab.run_all()
    assert lab.errors() == []
    pictures = lab.page.query_selector_all(".jp-RenderedImage img")
    assert pictures and all(picture.evaluate("image => image.complete && image.naturalWidth > 200") for picture in pictures)
    widths = [picture.evaluate("image => image.getBoundingClientRect().width") for picture in pictures]
    notebook = lab.page.query_selector(".jp-Notebook").evaluate("e => e.getBoundingClientRect().width")
    assert max(widths) <= notebook
