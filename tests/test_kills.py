"""Training killed at random moments loses nothing that was saved, and ends as if it had never been killed."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygpt_lib import load_training, read_checkpoint

ROOT = Path(__file__).parent.parent
KILLS = 20
SIZES = "--vocab-size 280 --block-size 8 --n-layer 1 --n-head 1 --n-embd 8"
SETTINGS = "--batch-size 2 --dropout 0.1 --eval-every 5 --warmup-steps 0"


def start(*arguments):
    command = [sys.executable, "-m", "tinygpt_lib", "train", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after_a_new_save(process, out, before, delay):
    """Kill the process `delay` seconds after it has saved again; False if it had ended by then."""
    while process.poll() is None and (not out.exists() or out.stat().st_mtime_ns == before):
        time.sleep(0.002)
    time.sleep(delay)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    return not ended


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps files open that a killed process was writing")
def test_training_killed_twenty_times_ends_like_one_left_alone(tmp_path, play):
    corpus, rng = tmp_path / "play.txt", np.random.default_rng(0)
    corpus.write_text(play[:4000], encoding="utf-8")
    steps = ["--corpus", corpus, "--steps", 1000, *SIZES.split(), *SETTINGS.split()]
    assert start(*steps, "--out", tmp_path / "whole.npz").wait() == 0

    out, saved, process = tmp_path / "killed.npz", 0, start(*steps, "--out", tmp_path / "killed.npz")
    for _ in range(KILLS):
        before = out.stat().st_mtime_ns if out.exists() else 0
        assert kill_after_a_new_save(process, out, before, rng.uniform(0, 0.03)), "it ended before it could be killed"
        state, _ = load_training(out)
        assert state.step > saved  # what was saved is there, whole
        saved, process = state.step, start("--resume", out)
    assert process.wait() == 0
    expected, got = (read_checkpoint(path).weights for path in (tmp_path / "whole.npz", out))
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)
    assert len(list(tmp_path.iterdir())) == 3  # the corpus and the two models: nothing half-written is left
