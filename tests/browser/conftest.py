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
    (overrides / "overrides.json").write_text(
        json.dumps({"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}, "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}})
    )
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data")}
    options = [
        f"--ServerApp.root_dir={home / 'notebooks'}", f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token=",
        "--ServerApp.password=", f"--LabApp.app_settings_dir={overrides}",
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


@pytest.fixture(scope="module")  # while it's open, no other test can run an event loop
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=120_000)
        yield running
        running.close()


class Lab:
    """A notebook opened in JupyterLab."""

    def __init__(self, browser, server, name, width=1280, height=1400):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(90_000)  # a busy machine is slow
        self.page.goto(f"{server}/lab/workspaces/w{time.time_ns()}/tree/{name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.wait_for_selector("text=/Python 3.*Idle/")  # in the status bar: the kernel is there

    def menu(self, name, item):
        """Choose an entry of the menu bar."""
        self.page.click(f".lm-MenuBar-itemLabel >> text=/^{name}$/")
        self.page.click(f".lm-Menu-itemLabel >> text=/^{item}$/")

    def run_all(self, timeout=200):
        """Run all cells, and wait until each has its number."""
        self.menu("Edit", "Clear Outputs of All Cells")
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(
            r"() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].every(e => /\[\d+\]/.test(e.textContent))",
            timeout=timeout * 1000,
        )

    def errors(self):
        """The texts of all error outputs."""
        kinds = ",".join(f".jp-RenderedText[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr"))
        return [e.inner_text() for e in self.page.query_selector_all(kinds)]

    def close(self):
        """Close the page and end its kernel, which would go on without it."""
        self.page.evaluate("""async () => {
            const kernels = await (await fetch('/api/kernels')).json();
            for (const kernel of kernels) await fetch(`/api/kernels/${kernel.id}`, {method: 'DELETE', headers: {'X-XSRFToken': document.cookie.match(/_xsrf=([^;]*)/)?.[1]}});
        }""")
        self.page.close()


@pytest.fixture
def open_notebook(browser, server):
    """open_notebook("04_attention.ipynb") gives a Lab."""
    opened = []

    def open_one(name, **options):
        opened.append(Lab(browser, server, name, **options))
        return opened[-1]

    yield open_one
    for lab in opened:
        lab.close()
