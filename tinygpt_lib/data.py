"""Corpora: the bundled play, Tiny Shakespeare, or a text of your own; and batches of them."""

import hashlib
import os
from pathlib import Path

import numpy as np

from . import archive, validate
from .tokenizer import END_OF_TEXT

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def load_corpus(name="play"):
    """A text: "play" (bundled), "shakespeare" (fetched once, 1.1 MB) or the path of a UTF-8 file.

    TINYGPT_DATA_DIR, if set, is where tinyshakespeare.txt is kept instead of the user's cache.
    """
    if name == "play":
        path = archive.ASSETS / "play.txt"
    elif name == "shakespeare":
        path = _fetch_shakespeare()
    else:
        path = Path(name)
        if not os.path.isfile(path):  # which doesn't mind the length of a name, such as a whole text
            raise FileNotFoundError(f"there is no corpus or file {str(name)[:99]!r}: use 'play', 'shakespeare' or a file's path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} isn't UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8 first") from error
    if not text.strip():
        raise ValueError(f"{path} is empty: a corpus needs text")
    # The play's file begins with a title page, a document of its own.
    return text.split(f"{END_OF_TEXT}\n", 1)[1] if name == "play" else text


def _fetch_shakespeare():
    import pooch
    import requests

    folder = Path(os.environ.get("TINYGPT_DATA_DIR") or pooch.os_cache("tinygpt"))
    pooch.get_logger().setLevel("WARNING")  # its news would stand in red in a notebook
    try:
        # pooch checks the hash of a file that is there and fetches one that isn't.
        return Path(pooch.retrieve(SHAKESPEARE_URL, SHAKESPEARE_SHA256, "tinyshakespeare.txt", folder, progressbar=True))
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        raise ConnectionError(
            f"{folder} has no tinyshakespeare.txt with the known bytes, and fetching it failed ({type(error).__name__}): go "
            'online once, or set TINYGPT_DATA_DIR to a folder that holds it, or use load_corpus("play"), which is bundled'
        ) from error


def sha256(text):
    """The SHA-256 of a text, by which a checkpoint names its corpus."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def split(sequence, fraction=0.9):
    """The first part of a text or an array for training and the rest for validation."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    cut = int(len(sequence) * fraction)
    return sequence[:cut], sequence[cut:]


def encode(encoding, text):
    """The ids of a text as an array, <|endoftext|> as its one id."""
    validate.string("text", text)
    return np.array(encoding.encode(text, allowed_special="all"), dtype=np.int64)


def batches(ids, batch_size, block_size, rng):
    """An endless iterator of (inputs, targets), each (batch_size, block_size): random windows, targets one token later."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise TypeError(f"batches are cut from one array of integer ids, got shape {ids.shape} of {ids.dtype}")
    validate.whole_number("batch_size", batch_size, least=1)
    validate.whole_number("block_size", block_size, least=1)
    if len(ids) <= block_size:
        raise ValueError(f"windows of {block_size} tokens and a next one need at least {block_size + 1} ids, got {len(ids)}")
    return _windows(ids, batch_size, block_size, validate.generator(rng))


def _windows(ids, batch_size, block_size, rng):
    while True:
        windows = rng.integers(0, len(ids) - block_size, size=(batch_size, 1)) + np.arange(block_size)
        yield ids[windows], ids[windows + 1]
