"""The .npz file of a checkpoint: arrays by name, JSON under names with the prefix meta/, a hash of it all."""

import hashlib
import json
import os
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parent / "assets"
SHIPPED = ("shakespeare", "play")  # models that come with the package, as assets/gpt_NAME.npz
META = "meta/"
CONFIG, ENCODING, HISTORY, INFO, HASH = (META + name for name in ("config", "encoding", "history", "info", "hash"))


def asset(name):
    """The file of a shipped model."""
    return ASSETS / f"gpt_{name}.npz"


def pack(value):
    """A JSON value as an array of bytes, which .npz can hold without pickling."""
    return np.frombuffer(json.dumps(value, default=np.generic.item).encode("utf-8"), dtype=np.uint8)


def unpack(array):
    """The JSON value of `pack`."""
    return json.loads(array.tobytes().decode("utf-8"))


def without_meta(entries):
    """The weights alone."""
    return {name: array for name, array in entries.items() if not name.startswith(META)}


def content_hash(entries):
    """SHA-256 over every entry's name, type, shape and bytes, but the hash itself."""
    digest = hashlib.sha256()
    for name in sorted(entries.keys() - {HASH}):
        array = np.ascontiguousarray(entries[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def write(path, entries):
    """Write `entries` to `path` in one move: whoever reads it finds the old file or the new one, never half.

    Only one process at a time may write to a path.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in: make it first")
    # The hash first: damage to a zip's list of contents hides what comes later.
    entries = {HASH: pack(content_hash(entries)), **{name: entries[name] for name in entries if name != HASH}}
    temporary = path.with_name(f".{path.name}.part")  # what a killed process leaves, the next one overwrites
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **entries)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except PermissionError as error:  # on Windows, where an open file can't be replaced
            kept = path.with_name(f"{path.stem}.kept{path.suffix}")
            os.replace(temporary, kept)
            raise PermissionError(f"{path} is open elsewhere (another np.load?): close it; the new one is in {kept}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(source):
    """The entries of a path, an open NpzFile or a dict, compared with their hash where they carry one."""
    if isinstance(source, (str, os.PathLike)):
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no file {source}: check the name, or the folder you are in ({Path.cwd()})")
        with _damage_explained(source), open(source, "rb") as file:  # opened here, so that it's closed whatever happens
            if file.read(2) != b"PK":  # as every zip does; of other files np.load would say that they hold pickles
                raise ValueError("it doesn't begin as an .npz file does")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                entries = dict(stored)
    elif hasattr(source, "items"):
        with _damage_explained("the checkpoint"):
            entries = dict(source.items())
    else:
        raise TypeError(f"weights come as a dict or from np.load, got {type(source).__name__}")
    for name, array in entries.items():
        if not hasattr(array, "dtype"):
            raise ValueError(f"the entry {name} is {type(array).__name__}, not an array: is this a checkpoint?")
    if HASH in entries:
        with _damage_explained(source if isinstance(source, (str, os.PathLike)) else "the checkpoint"):
            if unpack(entries[HASH]) != content_hash(entries):
                raise ValueError("its contents don't match its hash")
    return entries


# All that a flipped bit was seen to make zipfile, zlib and NumPy's reader raise.
DAMAGE = (
    EOFError, KeyError, MemoryError, NotImplementedError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError,
    AttributeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def _damage_explained(name):
    """Turns what a damaged file makes zipfile, zlib and NumPy raise into one sentence."""
    try:
        yield
    except PermissionError:
        raise
    except DAMAGE as error:
        raise ValueError(f"{name} isn't a whole checkpoint ({error}): copy or train it again") from error
