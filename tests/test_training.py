"""Training: what a step does, what it reports, and that stopping loses nothing."""

import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tinygpt_lib import (
    GPT, GPTConfig, AdamW, Tensor, TrainSettings, TrainState, batches, cross_entropy, estimate_loss, load_pretrained,
    load_training, save_checkpoint, save_training, train, train_bpe, training, warmup_cosine,
)  # fmt: skip
from tinygpt_lib.nn import Linear, evaluating
from tinygpt_lib.training import backward_on_all_cores, one_blas_thread, train_step

CONFIG = GPTConfig(vocab_size=17, block_size=8, n_layer=2, n_head=2, n_embd=8, dropout=0.3)
PLAIN = dataclasses.replace(CONFIG, dropout=0.0)
SETTINGS = TrainSettings(
    steps=10, batch_size=5, learning_rate=1e-2, min_learning_rate=1e-3, warmup_steps=3, average=0.8, eval_every=4, seed=3
)
rng = np.random.default_rng(0)
IDS, VAL = rng.integers(17, size=200), rng.integers(17, size=45)
INPUTS, TARGETS = rng.integers(17, size=(2, 5, 8))


def fresh():
    return TrainState(GPT(CONFIG, seed=1), SETTINGS)


def finished():
    state = fresh()
    return state, list(train(state, IDS, VAL))


def stopped(after):
    state = fresh()
    return state, list(itertools.islice(train(state, IDS, VAL), after))


def without_speed(records):
    return [dataclasses.replace(record, tokens_per_second=0) for record in records]


def assert_same_arrays(a, b):
    assert len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def assert_same_state(a, b):
    assert_same_arrays([p.data for p in a.model.parameters()], [p.data for p in b.model.parameters()])
    assert_same_arrays(a.optimizer.m, b.optimizer.m)
    assert_same_arrays(a.optimizer.v, b.optimizer.v)
    assert_same_arrays(a.mean, b.mean)
    assert (a.step, a.optimizer.t, a.settings, a.model.config) == (b.step, b.optimizer.t, b.settings, b.model.config)


# ---- stopping and going on


@pytest.mark.parametrize("after", [1, 3, 4, 7, 8, 9])
def test_a_run_resumed_from_a_file_is_one_that_never_stopped(after, tmp_path):
    whole, records = finished()
    state, first = stopped(after)
    save_training(tmp_path / "run.npz", state)
    state, _ = load_training(tmp_path / "run.npz")
    rest = list(train(state, IDS, VAL))
    assert without_speed(first + rest) == without_speed(records)
    assert_same_state(state, whole)


@pytest.mark.parametrize("after", [1, 4, 7, 8])
def test_the_history_of_a_resumed_run_is_that_of_one_that_never_stopped(after, tmp_path):
    whole, _ = finished()
    state, _ = stopped(after)
    save_training(tmp_path / "run.npz", state)
    state, _ = load_training(tmp_path / "run.npz")
    list(train(state, IDS, VAL))
    assert state.history == whole.history


@pytest.mark.parametrize("after", [1, 4, 7])
def test_leaving_the_loop_and_training_on_is_never_having_left(after):
    whole, records = finished()
    state, first = stopped(after)
    assert without_speed(first + list(train(state, IDS, VAL))) == without_speed(records)
    assert_same_state(state, whole)
    assert state.history == whole.history


def test_stopping_and_saving_again_and_again_changes_nothing(tmp_path):
    whole, _ = finished()
    state, _ = stopped(4)
    for _ in range(6):
        save_training(tmp_path / "run.npz", state)
        state, _ = load_training(tmp_path / "run.npz")
        next(train(state, IDS, VAL))
    assert_same_state(state, whole)


def test_a_saved_run_keeps_encoding_info_and_time(tmp_path):
    state = TrainState(GPT(dataclasses.replace(CONFIG, vocab_size=258)), SETTINGS, seconds=2.5)
    save_training(tmp_path / "run.npz", state, encoding=train_bpe("to be to be to be", 258), info={"corpus": "play"})
    back, info = load_training(tmp_path / "run.npz")
    assert back.model.encoding.n_vocab == 258 and info["corpus"] == "play" and back.seconds == 2.5


def test_a_finished_run_has_no_more_steps(tmp_path):
    state, _ = finished()
    save_training(tmp_path / "run.npz", state)
    assert list(train(load_training(tmp_path / "run.npz")[0], IDS, VAL)) == []


def test_a_finished_model_cannot_be_gone_on_with(tmp_path):
    save_checkpoint(tmp_path / "model.npz", GPT(CONFIG))
    with pytest.raises(ValueError, match="nothing to go on with"):
        load_training(tmp_path / "model.npz")


# ---- what a step does and reports


def test_records_say_what_happened():
    state, records = finished()
    assert [r.step for r in records] == list(range(1, 11))
    assert [r.learning_rate for r in records] == [warmup_cosine(i, 1e-2, 3, 10, 1e-3) for i in range(10)]
    assert all(r.tokens_per_second > 0 and math.isfinite(r.loss) and r.grad_norm > 0 for r in records)
    assert [r.step for r in records if r.val_loss is not None] == [4, 8, 10]
    assert records[-1].val_loss == estimate_loss(state.result(), VAL)
    assert state.step == 10 and state.optimizer.t == [10] * len(state.optimizer.params) and state.seconds > 0


def test_history_has_the_mean_loss_since_the_last_evaluation():
    state, records = finished()
    losses = [r.loss for r in records]
    for entry, span in zip(state.history, [losses[:4], losses[4:8], losses[8:]], strict=True):
        assert entry["train_loss"] == pytest.approx(np.mean(span))
        assert entry["val_loss"] == records[entry["step"] - 1].val_loss


def test_the_mean_of_the_weights_is_what_is_evaluated_and_kept():
    state = fresh()
    first, *_ = state.model.parameters()
    mean = first.data.astype(np.float64)
    for record in train(state, IDS, VAL):
        decay = min(0.8, record.step / (record.step + 10))
        mean = decay * mean + (1 - decay) * first.data
    kept = state.result()
    np.testing.assert_allclose(kept.wte.weight.data, mean, rtol=1e-5, atol=1e-7)
    assert state.history[-1]["val_loss"] == estimate_loss(kept, VAL) != estimate_loss(state.model, VAL)


def test_an_unfinished_run_is_read_as_the_mean_that_its_loss_was_measured_of(tmp_path):
    state, records = stopped(8)
    save_training(tmp_path / "run.npz", state)
    model, _ = load_pretrained(tmp_path / "run.npz")
    assert estimate_loss(model, VAL) == records[-1].val_loss


@pytest.mark.parametrize("before, after", [(0.9, 0.0), (0.0, 0.9)])
def test_averaging_is_not_switched_within_a_run(before, after, tmp_path):
    state = TrainState(GPT(CONFIG), dataclasses.replace(SETTINGS, average=before))
    state.settings = dataclasses.replace(state.settings, average=after)
    for use in (lambda: train(state, IDS), lambda: save_training(tmp_path / "run.npz", state)):
        with pytest.raises(ValueError, match="average can't be switched"):
            use()
    assert not list(tmp_path.iterdir())


def test_without_an_average_the_model_itself_is_kept():
    state = TrainState(GPT(CONFIG), dataclasses.replace(SETTINGS, average=0.0))
    assert state.result() is state.model


def test_without_validation_ids_there_is_no_validation_loss():
    state = TrainState(GPT(CONFIG), SETTINGS)
    assert {r.val_loss for r in train(state, IDS)} == {None} == {entry["val_loss"] for entry in state.history}


def test_the_first_record_is_of_the_weights_before_the_step():
    state = TrainState(GPT(PLAIN, seed=1), SETTINGS)
    inputs, targets = next(batches(IDS, 5, 8, np.random.default_rng(3)))  # the settings' seed
    twin = GPT(PLAIN, seed=1)
    _, loss = twin(inputs, targets)
    loss.backward()
    length = math.sqrt(sum((p.grad.astype(np.float64) ** 2).sum() for p in twin.parameters()))
    record = next(train(state, IDS))
    assert record.loss == pytest.approx(loss.item(), rel=1e-5) and record.grad_norm == pytest.approx(length, rel=1e-5)


def test_only_matrices_decay():
    state = TrainState(GPT(CONFIG), dataclasses.replace(SETTINGS, weight_decay=0.25))
    assert {(p.ndim, decay) for p, decay in zip(state.optimizer.params, state.optimizer.decays)} == {(2, 0.25), (1, 0.0)}
    assert {id(p) for p in state.optimizer.params} == {id(p) for p in state.model.parameters()}


@pytest.mark.parametrize("cores", [1, 2, 3, 5, 8])
def test_gradients_of_shares_are_those_of_the_whole_batch(cores, monkeypatch):
    monkeypatch.setattr(training, "_cores", lambda: cores)
    whole, shared = GPT(PLAIN, seed=1).to(np.float64), GPT(PLAIN, seed=1).to(np.float64)
    _, loss = whole(INPUTS, TARGETS)
    loss.backward()
    assert backward_on_all_cores(shared, INPUTS, TARGETS) == pytest.approx(loss.item(), rel=1e-12)
    for (name, a), b in zip(whole.named_parameters(), shared.parameters(), strict=True):
        np.testing.assert_allclose(b.grad, a.grad, rtol=0, atol=1e-12, err_msg=name)


def test_products_that_the_other_core_takes_over_change_no_bit(monkeypatch):
    monkeypatch.setattr(training, "_cores", lambda: 2)
    alone, helped = GPT(PLAIN, seed=1), GPT(PLAIN, seed=1)
    backward_on_all_cores(alone, INPUTS, TARGETS)
    ready, emptied, taken, take = threading.Event(), threading.Event(), [], training._taken_from

    def the_other_takes_all(queue, busy):
        if threading.current_thread() is threading.main_thread():
            ready.set()
            assert emptied.wait(60)
            yield from take(queue, busy)
        else:
            assert ready.wait(60)
            for product in take(queue, busy):
                taken.append(product)
                yield product
            emptied.set()

    monkeypatch.setattr(training, "_taken_from", the_other_takes_all)
    backward_on_all_cores(helped, INPUTS, TARGETS)
    assert len(taken) == 2 * (4 * PLAIN.n_layer + 1)  # of each share: four matrices a block, and the head's
    assert_same_arrays([p.grad for p in alone.parameters()], [p.grad for p in helped.parameters()])


@pytest.mark.parametrize("cores", [2, 3, 5])
def test_a_weight_that_only_some_shares_use_gets_their_gradient(cores, monkeypatch):
    class Forked(GPT):
        def forward(self, idx, targets):
            logits, _ = super().forward(idx)
            if 3 in idx:
                logits = self.extra(logits)
            return logits, cross_entropy(logits, targets)

    model = Forked(PLAIN, seed=1).to(np.float64)
    model.extra = Linear(PLAIN.vocab_size, PLAIN.vocab_size, np.random.default_rng(0)).to(np.float64)
    inputs = np.where(INPUTS == 3, 4, INPUTS)
    inputs[1, 2] = 3
    monkeypatch.setattr(training, "_cores", lambda: cores)
    loss = backward_on_all_cores(model, inputs, TARGETS)
    found, total = [p.grad for p in model.parameters()], 0
    model.zero_grad()
    for x, y in zip(np.array_split(inputs, cores), np.array_split(TARGETS, cores)):
        _, one = model(x, y)
        (one * (len(x) / len(inputs))).backward()
        total += one.item() * len(x) / len(inputs)
    assert loss == pytest.approx(total, rel=1e-12)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(found.pop(0), parameter.grad, rtol=0, atol=1e-12, err_msg=name)


def test_threads_that_take_from_a_queue_that_still_grows_get_every_entry_once():
    waiting, busy = deque(range(10_000)), [True]
    with ThreadPoolExecutor(4) as pool:
        shares = [pool.submit(lambda: list(training._taken_from(waiting, busy))) for _ in range(4)]
        for entry in range(10_000, 20_000):
            waiting.append(entry)
        busy.pop()
    assert sorted(itertools.chain(*(share.result() for share in shares))) == list(range(20_000))


@pytest.mark.parametrize("row", [0, -1])
def test_a_share_that_fails_leaves_no_other_waiting(row, monkeypatch):
    monkeypatch.setattr(training, "_cores", lambda: 2)
    inputs = INPUTS.copy()
    inputs[row] = 17
    with pytest.raises(ValueError, match="17"):
        backward_on_all_cores(GPT(PLAIN), inputs, TARGETS)
    model = GPT(PLAIN)
    backward_on_all_cores(model, INPUTS, TARGETS)  # and the threads are free again
    assert all(p.grad is not None for p in model.parameters())


def test_gradients_of_an_earlier_step_are_replaced():
    model = GPT(PLAIN, seed=1)
    backward_on_all_cores(model, INPUTS, TARGETS)
    first = [p.grad.copy() for p in model.parameters()]
    backward_on_all_cores(model, INPUTS, TARGETS)
    assert_same_arrays(first, [p.grad for p in model.parameters()])


def test_two_runs_with_one_seed_are_equal_and_with_another_differ():
    a, b = finished()[1], finished()[1]
    assert without_speed(a) == without_speed(b)
    other = TrainState(GPT(CONFIG, seed=1), dataclasses.replace(SETTINGS, seed=4))
    assert next(train(other, IDS)).loss != a[0].loss


def test_one_batch_is_learned_by_heart():
    data = np.random.default_rng(0)
    inputs, targets = data.integers(17, size=(2, 4, 8))
    model = GPT(dataclasses.replace(PLAIN, n_embd=32))
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        train_step(model, optimizer, inputs, targets)
    assert model.eval()(inputs, targets)[1].item() < 0.05


@pytest.mark.parametrize("step_fails", [False, True])
def test_blas_threads_are_as_before_after_a_step(step_fails):
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    model = GPT(CONFIG)
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        if step_fails:
            with pytest.raises(ValueError):
                train_step(model, AdamW(model.parameters()), INPUTS + 17, TARGETS)
        else:
            train_step(model, AdamW(model.parameters()), INPUTS, TARGETS)
        assert threads() == before and 2 in before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("another_trains", [False, True])
def test_a_forked_process_trains_too(another_trains):
    model = GPT(CONFIG)
    train_step(model, AdamW(model.parameters()), INPUTS, TARGETS)  # its threads aren't in the child
    inside, enough = threading.Event(), threading.Event()

    def train_until_told():
        with one_blas_thread():
            inside.set()
            enough.wait()

    if another_trains:
        thread = threading.Thread(target=train_until_told)
        thread.start()
        inside.wait()
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends it, should it wait for threads that aren't there
        try:
            train_step(model, AdamW(model.parameters()), INPUTS, TARGETS)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if another_trains:
        enough.set()
        thread.join()
    assert status == 0


def test_freed_memory_is_kept_while_training_runs_and_no_longer(monkeypatch):
    calls = []
    monkeypatch.setattr(training.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(training.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *call: calls.append(call)))
    steps = train(TrainState(GPT(CONFIG)), np.arange(100) % CONFIG.vocab_size)
    assert not calls
    for _ in range(3):
        next(steps)
        assert calls == list(training._KEEP)
    steps.close()
    assert calls == [*training._KEEP, *training._GROWN]


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_loss_is_of_whole_batches(size):
    with pytest.raises(ValueError, match="batch_size"):
        training.estimate_loss(GPT(CONFIG), np.zeros(40, dtype=int), batch_size=size)


def test_a_step_trains_with_dropout_whatever_the_models_mode_was():
    losses = set()
    for mode in (True, False):
        model = GPT(CONFIG, seed=1).train(mode)
        losses.add(train_step(model, AdamW(model.parameters()), INPUTS, TARGETS)[0])
    assert len(losses) == 1
    assert losses != {GPT(CONFIG, seed=1).eval()(INPUTS, TARGETS)[1].item()}


# ---- estimate_loss


def loss_by_hand(model, ids):
    surprises = []
    for start in range(0, len(ids) - 1, 8):
        window = ids[start : start + 9]
        z = model(window[None, :-1])[0].data[0].astype(np.float64)
        surprises += [np.log(np.exp(row).sum()) - row[target] for row, target in zip(z, window[1:])]
    assert len(surprises) == len(ids) - 1
    return np.mean(surprises)


@pytest.mark.parametrize("count", [2, 5, 8, 9, 10, 16, 17, 45], ids="{} ids".format)
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_estimate_is_the_mean_over_windows_with_a_shorter_last_one(count, batch_size):
    model = GPT(CONFIG)
    model.wte.weight.data *= 30  # far from equal probabilities
    want = loss_by_hand(model.eval(), VAL[:count])
    assert estimate_loss(model.train(), VAL[:count], batch_size) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_an_estimate_restores_every_mode(fails):
    model = GPT(CONFIG).train()
    model.h[0].eval()  # some of them
    before = [module.training for module in model.modules()]
    if fails:
        with pytest.raises(ValueError):
            estimate_loss(model, VAL + 17)
    else:
        estimate_loss(model, VAL)
    assert [module.training for module in model.modules()] == before


def test_an_estimate_leaves_no_gradients_and_draws_no_random_numbers():
    model = GPT(CONFIG)
    before = model.rng.bit_generator.state
    estimate_loss(model, VAL)
    assert model.rng.bit_generator.state == before and all(p.grad is None for p in model.parameters())


# ---- what is refused


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the overflow that is the point
def test_too_high_a_learning_rate_is_named():
    state = TrainState(GPT(CONFIG), dataclasses.replace(SETTINGS, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match="norm became .*learning rate .* too high"):
        list(train(state, IDS))


def test_a_nan_stops_training_before_it_reaches_the_weights():
    model = GPT(CONFIG)
    model.ln_f.bias.data[0] = np.nan
    before = model.state_dict()
    with pytest.raises(FloatingPointError, match="nan"):
        train_step(model, AdamW(model.parameters()), INPUTS, TARGETS)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name], equal_nan=True), name


@pytest.mark.parametrize("ids, val_ids, error", [
    (IDS + 1, VAL, "ids must lie from 0 to 16"),
    (IDS - 1, VAL, "ids must lie from 0 to 16"),
    (IDS, VAL + 1, "evaluate on must lie"),
    (IDS[:8], VAL, "at least 9 ids"),
    (IDS[None], VAL, "one array"),
    (IDS * 0.5, VAL, "integer"),
], ids=["too large", "negative", "validation", "too few", "two axes", "fractions"])  # fmt: skip
def test_ids_that_cannot_be_trained_on_are_refused(ids, val_ids, error):
    with pytest.raises((ValueError, TypeError), match=error):
        next(train(TrainState(GPT(CONFIG), SETTINGS), ids, val_ids))


def test_a_loss_of_one_token_is_refused():
    with pytest.raises(ValueError, match="at least 2 ids"):
        estimate_loss(GPT(CONFIG), VAL[:1])


@pytest.mark.parametrize(
    "wrong",
    [
        dict(steps=0), dict(batch_size=1.5), dict(eval_every=0), dict(learning_rate=0), dict(min_learning_rate=0.1),
        dict(warmup_steps=-1),
    ],  # fmt: skip
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(SETTINGS, **wrong)


# ---- interruptions and company


def test_ctrl_c_within_a_step_takes_effect_after_it(monkeypatch):
    state, whole = fresh(), fresh()
    step = state.optimizer.step

    def interrupted_step(*which):
        signal.raise_signal(signal.SIGINT)
        step(*which)

    state.optimizer.step = interrupted_step
    with pytest.raises(KeyboardInterrupt):
        next(train(state, IDS))
    next(train(whole, IDS))
    assert state.step == 1
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(state.model.state_dict()[name], array)


def test_a_frozen_parameter_stays():
    model = GPT(CONFIG, seed=1)
    model.wpe.weight.requires_grad = False
    state = TrainState(model, SETTINGS)
    before = state.model.wpe.weight.data.copy()
    next(train(state, IDS))
    np.testing.assert_array_equal(state.model.wpe.weight.data, before)


def test_a_frozen_parameter_stays_when_a_run_is_gone_on_with(tmp_path):
    state = TrainState(GPT(CONFIG, seed=1), SETTINGS)
    state.model.wpe.weight.requires_grad = False
    steps = train(state, IDS)
    next(steps)
    save_training(tmp_path / "a.npz", state)
    resumed, _ = load_training(tmp_path / "a.npz")
    next(steps), next(train(resumed, IDS))
    assert not resumed.model.wpe.weight.requires_grad and resumed.model.wte.weight.requires_grad
    for name, array in state.model.state_dict().items():
        np.testing.assert_array_equal(resumed.model.state_dict()[name], array, err_msg=name)


def test_a_single_number_is_trained_and_does_not_decay():
    class Scaled(GPT):
        def __init__(self):
            super().__init__(CONFIG, seed=1)
            self.scale = Tensor(1.0, requires_grad=True)

        def forward(self, idx, targets=None):
            logits, _ = super().forward(idx)
            return logits, cross_entropy(logits * self.scale, targets)

    state = TrainState(Scaled(), SETTINGS)
    next(train(state, IDS))
    index = next(i for i, p in enumerate(state.optimizer.params) if p is state.model.scale)
    assert state.model.scale.item() != 1 and state.optimizer.decays[index] == 0


def test_numbers_of_numpy_can_be_saved(tmp_path):
    model = GPT(dataclasses.replace(CONFIG, vocab_size=np.int64(CONFIG.vocab_size)))
    state = TrainState(model, dataclasses.replace(SETTINGS, learning_rate=np.float32(1e-3)))
    save_training(tmp_path / "a.npz", state)
    loaded, _ = load_training(tmp_path / "a.npz")
    assert loaded.model.config == CONFIG and loaded.settings.learning_rate == float(np.float32(1e-3))


def test_two_threads_that_use_one_core_leave_blas_as_it_was():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    def within_the_other():
        with one_blas_thread():
            entered.set()
            time.sleep(0.05)

    entered = threading.Event()
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with ThreadPoolExecutor(1) as pool:
            with one_blas_thread():
                other = pool.submit(within_the_other)
                assert not entered.wait(0.05)  # it waits, and doesn't take the limit for what was before
            other.result()
        assert threads() == before


def test_ctrl_c_ends_a_run_also_where_it_has_the_systems_own_handler():
    code = (
        "import signal\n"
        "from tinygpt_lib.training import ctrl_c_waits\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "with ctrl_c_waits():\n    signal.raise_signal(signal.SIGINT)\n    print('the step is whole', flush=True)\n"
        "print('and goes on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode and done.stdout == "the step is whole\n"


def test_evaluating_in_one_thread_leaves_dropout_on_in_another():
    with evaluating(), ThreadPoolExecutor(1) as pool:
        assert not fresh().model.drop.dropping() and pool.submit(fresh().model.drop.dropping).result()


@pytest.mark.parametrize("call", [lambda m: train(m, IDS), lambda m: save_training("a.npz", m)])
def test_a_model_is_no_training_state(call):
    with pytest.raises(TypeError, match="TrainState"):
        call(fresh().model)
