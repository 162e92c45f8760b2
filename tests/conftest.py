"""What several test files need: the corpora, GPT-2's vocabulary, a small encoding."""

import hashlib
import os
import signal
from pathlib import Path

# Two processes whose products each use all cores wait for each other, up to three times as long. Before NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest  # noqa: E402

from tinygpt_lib import load_corpus, train_bpe  # noqa: E402

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and tests press it

GPT2_FILES = [f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{name}" for name in ("vocab.bpe", "encoder.json")]


@pytest.fixture(scope="session")
def play():
    return load_corpus("play")


@pytest.fixture(scope="session")
def shakespeare():
    """Tiny Shakespeare's text, never fetched."""
    path = Path(os.environ.get("TINYGPT_DATA_DIR") or "absent") / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("needs Tiny Shakespeare: set TINYGPT_DATA_DIR to a folder that holds tinyshakespeare.txt")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def gpt2_encoding():
    """tiktoken's GPT-2 encoding, never fetched."""
    folder = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or "absent")
    if not all((folder / hashlib.sha1(url.encode()).hexdigest()).is_file() for url in GPT2_FILES):
        pytest.skip("needs GPT-2's vocabulary: set TIKTOKEN_CACHE_DIR to a folder where tiktoken has cached it")
    import tiktoken

    return tiktoken.get_encoding("gpt2")


@pytest.fixture(scope="session")
def play_encoding(play):
    """400 tokens learned from the play."""
    return train_bpe(play, 400, name="play400")


def pytest_terminal_summary(terminalreporter):
    """Print what tests have measured, and noted by `record_property`."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    for name, value in {item for report in reports for item in getattr(report, "user_properties", ())}:
        terminalreporter.write_line(f"{name}: {value}")
