"""Nothing in the process is changed by importing the package, generating or training."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tinygpt_lib import GPT, GPTConfig, SamplingSettings, Tensor, TrainSettings, TrainState
from tinygpt_lib import estimate_loss, generate_text, generate_top_p, stream, train, train_bpe

ROOT = Path(__file__).parents[1]
LOOK = """
import json, locale, logging, os, signal, sys, threading, warnings
import numpy as np
def look():
    return repr((dict(os.environ), np.geterr(), np.get_printoptions(), np.random.get_state()[1].tolist(),
        np.random.get_state()[2:], [str(f) for f in warnings.filters], signal.getsignal(signal.SIGINT),
        locale.setlocale(locale.LC_ALL), sys.getrecursionlimit(), sys.path, logging.root.handlers, logging.root.level,
        threading.active_count(), os.getcwd(), sys.excepthook))
"""


def state():
    """What a library must not change, to be compared."""
    generator, blas = np.random.get_state(), [pool["num_threads"] for pool in threadpool_info()]
    settings = dict(os.environ), np.geterr(), np.get_printoptions(), list(warnings.filters), sys.getrecursionlimit()
    return repr((generator[1].tolist(), generator[2:], blas, settings, signal.getsignal(signal.SIGINT), os.getcwd()))


@pytest.fixture(autouse=True)
def two_blas_threads():
    """Were there one from the start, no one would see that a function leaves one."""
    with threadpool_limits(limits=2, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def model(play):
    model = GPT(GPTConfig(vocab_size=280, block_size=8, n_layer=2, n_head=2, n_embd=8, dropout=0.3))
    model.encoding = train_bpe(play[:5000], 280)
    return model


def weights(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def test_importing_changes_nothing_in_the_process():
    code = LOOK + "before = look()\nimport tinygpt_lib\nprint(json.dumps([before, look()]))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(run.stdout)
    assert before == after and run.stderr == ""


def test_importing_writes_no_files(tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "import tinygpt_lib; tinygpt_lib.load_corpus()"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), **home}, check=True)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("call", [
    lambda model: generate_text(model, "To be", max_tokens=20, seed=1),
    lambda model: generate_text(model, "To be", max_tokens=5, temperature=1e-300),
    lambda model: generate_top_p(model, [[1, 2], [3, 4]], 12, seed=1, min_p=0.1, typical_p=0.9, repetition_penalty=1.3),
    lambda model: list(stream(model, [1], SamplingSettings(temperature=0), max_new_tokens=5)),
    lambda model: next(stream(model, [1], SamplingSettings())),
    lambda model: estimate_loss(model, np.arange(50)),
])  # fmt: skip
@pytest.mark.parametrize("training", [True, False])
def test_generating_leaves_the_process_and_the_model_as_they_were(model, call, training):
    model.train(training)
    before, held = state(), weights(model)
    call(model)
    assert state() == before and weights(model) == held
    assert all(module.training is training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_stream_that_is_left_leaves_gradients_on(model):
    steps = stream(model, [1], SamplingSettings(), max_new_tokens=5)
    next(steps)
    x = Tensor([2.0], requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0]
    steps.close()


def test_generating_leaves_the_callers_ids_as_they_were(model):
    array, listed, tensor = np.array([[1, 2, 3]]), [[1, 2, 3]], Tensor([[1, 2, 3]])
    for ids in (array, listed, tensor):
        generate_top_p(model, ids, 12, seed=1)
    assert array.tolist() == listed == tensor.data.tolist() == [[1, 2, 3]]


def test_generating_does_not_read_numpys_global_generator(model):
    texts = []
    for seed in (1, 2):
        np.random.seed(seed)
        texts.append(generate_text(model, "To be", max_tokens=20, seed=7))
    assert texts[0] == texts[1]


def small_training():
    config = GPTConfig(vocab_size=280, block_size=8, n_layer=1, n_head=2, n_embd=8)
    return TrainState(GPT(config), TrainSettings(steps=3, batch_size=4, eval_every=2))


def test_training_leaves_the_process_and_the_ids_as_they_were():
    ids = np.random.default_rng(0).integers(0, 280, 400)
    own, before = ids.copy(), state()
    assert len(list(train(small_training(), ids, ids))) == 3
    assert state() == before and (ids == own).all()


def test_training_that_is_left_in_the_middle_leaves_the_process_as_it_was():
    before = state()
    next(train(small_training(), np.arange(280)))
    assert state() == before


def test_nothing_is_printed(model, capfd):
    generate_text(model, "To be", max_tokens=3, seed=1)
    list(train(TrainState(GPT(model.config), TrainSettings(steps=1, batch_size=2)), np.arange(280)))
    assert capfd.readouterr() == ("", "")
