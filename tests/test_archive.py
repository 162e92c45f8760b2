"""Checkpoint files: what was written is what is read, or one sentence says that it isn't."""

import gc
import os
import pickle
import sys
import warnings
import zipfile

import numpy as np
import pytest

from tinygpt_lib import GPT, GPTConfig, archive, read_checkpoint, save_checkpoint, train_bpe

ENTRIES = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b/c": np.array([], dtype=np.float16),
    "meta/info": archive.pack({"é": 1}),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A file to damage: (path, its bytes, all that it holds)."""
    path = tmp_path_factory.mktemp("damaged") / "model.npz"
    model = GPT(GPTConfig(vocab_size=260, block_size=3, n_layer=1, n_head=1, n_embd=2))
    encoding = train_bpe("the cat sat on the mat, the cat the cat", 260)
    save_checkpoint(path, model, encoding=encoding, history=[{"step": 1, "train_loss": 0.1}], info={"corpus": "play"})
    return path, path.read_bytes(), contents(path)


def contents(path):
    c = read_checkpoint(path)
    tokens = c.encoding and [c.encoding.decode_single_token_bytes(i) for i in range(c.encoding.n_vocab)]
    return {name: (w.dtype, w.shape, w.tobytes()) for name, w in c.weights.items()}, c.config, tokens, c.history, c.info


def assert_refused_or_equal(path, damage, want, label, read=contents):
    path.write_bytes(damage)
    try:
        got = read(path)
    except ValueError as error:
        assert "model.npz" in str(error) and "\n" not in str(error), label
    else:
        assert got == want, label


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


# ---- round trip


@pytest.mark.parametrize("value", [None, {"a": [1, 2.5, "naïve ☃"]}, [], 0.1, float(np.float64(1) / 3)])
def test_json_packed_into_bytes_comes_back(value):
    packed = archive.pack(value)
    assert packed.dtype == np.uint8 and archive.unpack(packed) == value


def test_what_was_written_is_read(tmp_path):
    archive.write(tmp_path / "a.npz", ENTRIES)
    back = archive.read(tmp_path / "a.npz")
    assert back.keys() == ENTRIES.keys() | {archive.HASH}
    for name, array in ENTRIES.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape and np.array_equal(back[name], array)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_writing_to_a_link_writes_what_it_points_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.npz").symlink_to(tmp_path / "disk" / "a.npz")
    archive.write(tmp_path / "a.npz", {"w": np.ones(2)})
    assert (tmp_path / "a.npz").is_symlink() and (tmp_path / "disk" / "a.npz").is_file()


def test_a_closed_file_is_refused_in_words(tmp_path):
    archive.write(tmp_path / "a.npz", {"w": np.ones(2)})
    with np.load(tmp_path / "a.npz") as closed:
        pass
    with pytest.raises(ValueError, match="isn't a whole checkpoint"):
        archive.read(closed)


def test_numpy_alone_reads_the_file_without_pickle(tmp_path):
    archive.write(tmp_path / "a.npz", ENTRIES)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["a"], ENTRIES["a"])


@pytest.mark.parametrize("name", ["two words.npz", "modèle été.npz", "モデル.npz", "no suffix", "mes modèles/à moi.npz"])
def test_any_name_is_kept_as_it_is(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    archive.write(path, ENTRIES)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert np.array_equal(archive.read(str(path))["a"], ENTRIES["a"])


# ---- damage


@pytest.mark.parametrize("part", np.linspace(0, 1, 41)[:-1], ids="{:.3f}".format)
def test_a_truncated_file_is_refused(part, damaged):
    path, whole, _ = damaged
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match="isn't a whole checkpoint") as error:
        contents(path)
    assert "model.npz" in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_its_last_bytes_is_refused(damaged):
    path, whole, _ = damaged
    for missing in range(1, 60):
        path.write_bytes(whole[:-missing])
        with pytest.raises(ValueError, match="isn't a whole checkpoint"):
            contents(path)


def test_one_flipped_bit_anywhere_is_noticed_or_harmless(damaged):
    path, whole, want = damaged
    for bit in np.random.default_rng(0).integers(8 * len(whole), size=200):
        assert_refused_or_equal(path, flip(whole, int(bit)), want, f"bit {bit}")


@pytest.mark.parametrize("field", [24, 28, 29, 30, 31, 32, 33, 42, 43], ids="byte {} of an entry".format)
def test_one_flipped_bit_in_the_table_of_contents_is_noticed_or_harmless(field, damaged):
    path, whole, want = damaged
    entries = [i for i in range(len(whole)) if whole.startswith(b"PK\x01\x02", i)]
    for bit in range(8):  # lengths there say where the next entry is: a wrong one can hide those that follow
        for start in entries[-5:]:
            assert_refused_or_equal(path, flip(whole, 8 * (start + field) + bit), want, f"byte {start + field}, bit {bit}")


def test_one_flipped_bit_in_a_large_arrays_header_is_noticed_or_harmless(tmp_path):
    path, array = tmp_path / "model.npz", np.arange(2400, dtype=np.float32).reshape(60, 40)
    archive.write(path, {"w": array})
    whole = path.read_bytes()
    start = whole.index(b"\x93NUMPY")
    for bit in range(8 * start, 8 * (start + 80)):
        assert_refused_or_equal(
            path, flip(whole, bit), array.tolist(), f"bit {bit}", lambda path: archive.read(path)["w"].tolist()
        )


@pytest.mark.parametrize("change", [
    {"a": ENTRIES["a"] + np.float32(1e-6)},
    {"a": ENTRIES["a"].astype(np.float64)},
    {"a": ENTRIES["a"].reshape(3, 2)},
    {"a": ENTRIES["a"].view(np.int32)},
    {"b/c": np.array([0], dtype=np.float16)},
    {"more": np.zeros(1)},
    {"meta/info": archive.pack({"é": 2})},
    {"meta/hash": archive.pack("0" * 64)},
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_changed_contents_do_not_match_the_hash(change, tmp_path):
    archive.write(tmp_path / "a.npz", ENTRIES)
    np.savez(tmp_path / "b.npz", **{**archive.read(tmp_path / "a.npz"), **change})  # whole as a file
    with pytest.raises(ValueError, match="hash"):
        archive.read(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as file, pytest.raises(ValueError, match="hash"):
        archive.read(file)
    with np.load(tmp_path / "b.npz") as file, pytest.raises(ValueError, match="hash"):
        archive.read(dict(file))


def test_removed_contents_do_not_match_the_hash(tmp_path):
    archive.write(tmp_path / "a.npz", ENTRIES)
    entries = archive.read(tmp_path / "a.npz")
    del entries["a"]
    with pytest.raises(ValueError, match="hash"):
        archive.read(entries)


# ---- files that are none of ours


class Bomb:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _npz(path, bomb):
    np.savez(path, a=np.array([bomb], dtype=object))


def _npy(path, bomb):
    with open(path, "wb") as file:
        np.save(file, np.array([bomb], dtype=object))


def _pickle(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


def _npz_of_a_pickle(path, bomb):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", pickle.dumps(bomb))
        file.writestr("meta/hash.npy", pickle.dumps(bomb))


@pytest.mark.parametrize("write", [_npz, _npy, _pickle, _npz_of_a_pickle])
def test_no_pickle_is_ever_loaded(write, tmp_path):
    path, trace = tmp_path / "a.npz", tmp_path / "trace"
    write(path, Bomb(str(trace)))
    for read in (archive.read, read_checkpoint):
        with pytest.raises(ValueError):
            read(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(str(trace)))).close()
    assert trace.exists()  # it would have


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", bytes(1000)], ids=["empty", "text", "start of a zip", "zeros"])
def test_other_files_are_refused(data, tmp_path):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="isn't a whole checkpoint"):
        archive.read(tmp_path / "a.npz")


def test_a_refused_file_is_closed(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 and no more")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(ValueError):
            archive.read(path)
        gc.collect()
    assert not caught, caught[0].message


def test_a_single_array_is_refused_as_what_it_is(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="begin as an .npz file does"):
        archive.read(tmp_path / "a.npy")


def test_a_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.npz"):
        archive.read(tmp_path / "absent.npz")
    with pytest.raises(FileNotFoundError, match="no folder"):
        archive.write(tmp_path / "absent" / "a.npz", ENTRIES)


# ---- writing


@pytest.mark.parametrize(
    "error", [OSError("disk full"), MemoryError(), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("function", ["numpy.savez", "os.fsync", "os.replace"])
def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(function, error, tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    archive.write(path, ENTRIES)
    before = path.read_bytes()

    def fails(file, *_, **__):
        if hasattr(file, "write"):
            file.write(b"half")
        raise error

    monkeypatch.setattr(function, fails)
    with pytest.raises(type(error)):
        archive.write(path, {"a": np.zeros(5)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path, monkeypatch):
    path, savez, seen = tmp_path / "a.npz", np.savez, []
    archive.write(path, ENTRIES)

    def save(file, **entries):
        savez(file, **entries)
        seen.append(archive.read(path)["a"].tolist())

    monkeypatch.setattr(np, "savez", save)
    archive.write(path, {"a": np.zeros(1)})
    assert seen == [ENTRIES["a"].tolist()] and archive.read(path)["a"].tolist() == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask for groups and others")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002], ids=oct)
def test_permissions_follow_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        archive.write(tmp_path / "a.npz", ENTRIES)
    finally:
        os.umask(before)
    assert (tmp_path / "a.npz").stat().st_mode & 0o777 == 0o666 & ~umask
