"""JupyterLab in a real browser: a server on a free port, Debian's Chromium driven by Playwright."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a JupyterLab that serves a copy of the notebooks."""
    pytest.importorskip("playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} isn't there: apt-get install chromium")
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    overrides = home / "settings"
    overrides.mkdir()
    settings = {
        "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
    }
    (overrides / "overrides.json").write_text(json.dumps(settings))
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data")}
    options = [
        f"--ServerApp.root_dir={home / 'notebooks'}", f"--port={port}", "--no-browser", "--allow-root",
        "--IdentityProvider.token=", "--ServerApp.password=", f"--LabApp.app_settings_dir={overrides}",
        "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with open(home / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], stdout=log, stderr=log, env=environment)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1)
            break
        except OSError:
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.5)
    yield address
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="package")  # while it's open, no test elsewhere can run an event loop
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=120_000)
        yield running
        running.close()


class Lab:
    """JupyterLab, or Notebook 7, with one notebook open at a time."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1280, "height": 1400})
        self.page.set_default_timeout(90_000)  # a busy machine is slow
        self.page.goto(address)
        self.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")

    def open(self, name):
        """Open a notebook whose kernel is ready."""
        self.page.evaluate(
            """async name => {
                const panel = await jupyterapp.commands.execute('docmanager:open', {path: name});
                await panel.sessionContext.ready;
                await panel.sessionContext.session.kernel.info;
            }""",
            name,
        )
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")

    def menu(self, name, item):
        """Choose an entry of the menu bar."""
        self.page.click(f".lm-MenuBar-itemLabel >> text=/^{name}$/")
        self.page.click(f".lm-Menu-itemLabel >> text=/^{item}$/")

    def run_all(self, timeout=500):
        """Run all cells, and wait until each has its number."""
        self.menu("Edit", "Clear Outputs of All Cells")
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]"
            r".every(prompt => /\[\d+\]/.test(prompt.textContent))",
            timeout=timeout * 1000,
            polling=200,
        )

    def errors(self):
        """The texts of all error outputs."""
        kinds = ",".join(f".jp-RenderedText[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr"))
        return [e.inner_text() for e in self.page.query_selector_all(kinds)]

    def close(self):
        """Close the notebook as it is and end its kernel, which would go on without it."""
        self.page.evaluate("""async () => {
            await jupyterapp.serviceManager.sessions.shutdownAll();
            for (const panel of [...jupyterapp.shell.widgets('main')]) panel.dispose();
        }""")


@pytest.fixture(scope="package")
def jupyterlab(browser, server):
    """The page of JupyterLab: to load it takes longer than most notebooks take to run."""
    return Lab(browser, f"{server}/lab?reset")


@pytest.fixture
def open_notebook(jupyterlab):
    """open_notebook("04_attention.ipynb") gives a Lab with it."""

    def open_one(name):
        jupyterlab.open(name)
        return jupyterlab

    yield open_one
    jupyterlab.close()
