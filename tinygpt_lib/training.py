"""Training: a generator that takes one step at a time, can stop at any of them and go on from there."""

import ctypes
import math
import os
import platform
import signal
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, reduce

import numpy as np
from threadpoolctl import ThreadpoolController

from . import archive, validate
from .checkpoint import read_checkpoint, save_checkpoint
from .data import batches
from .gpt import GPT
from .nn import evaluating
from .optim import AdamW, clip_grad_norm, warmup_cosine
from .tensor import Tensor, add_gradients


@dataclass(frozen=True)
class TrainSettings:
    """How to train; steps are updates of the weights, learning rates are per step."""

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup_steps: int = 100
    weight_decay: float = 0.1  # of matrices only
    betas: tuple = (0.9, 0.99)
    max_grad_norm: float = 1.0
    average: float = 0.0  # decay of a running mean of the weights, which is then what is evaluated and kept
    eval_every: int = 100
    seed: int = 0

    def __post_init__(self):
        for name, least in dict(steps=1, batch_size=1, eval_every=1, warmup_steps=0, seed=0).items():
            validate.whole_number(name, getattr(self, name), least)
        for name in ("learning_rate", "max_grad_norm"):
            validate.number(name, getattr(self, name), lambda x: 0 < x < math.inf, "a positive number")
        for name in ("min_learning_rate", "weight_decay"):
            validate.number(name, getattr(self, name), lambda x: 0 <= x < math.inf, "a number of at least 0")
        validate.below_one("average", self.average)
        for beta in self.betas:
            validate.below_one("each of betas", beta)
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate can't exceed learning_rate, got {self.min_learning_rate} > {self.learning_rate}")


@dataclass(frozen=True)
class Metrics:
    """One step: losses in nats per token, the global norm of the gradients, tokens trained on per second."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    val_loss: float | None = None


@dataclass
class TrainState:
    """All that a step changes, so all that is needed to go on: save it, load it, and nothing is lost."""

    model: GPT
    settings: TrainSettings = TrainSettings()
    step: int = 0
    seconds: float = 0.0
    history: list = field(default_factory=list)
    recent: list = field(default_factory=list)  # losses since the last evaluation

    def __post_init__(self):
        self.rng = np.random.default_rng(self.settings.seed)  # which windows of the corpus are read
        parameters = self.model.parameters()
        matrices, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": self.settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = AdamW(groups, betas=self.settings.betas)
        self.mean = [p.data.copy() for p in self.model.parameters()] if self.settings.average else []

    def update_mean(self):
        """Move the running mean towards the weights (Polyak and Juditsky, 1992), faster in the first steps."""
        decay = min(self.settings.average, self.step / (self.step + 10))
        for mean, parameter in zip(self.mean, self.model.parameters()):
            mean += (1 - decay) * (parameter.data - mean)

    def result(self):
        """The model to evaluate and to keep: of the mean weights, where settings.average asks for them."""
        if not self.mean:
            return self.model
        model = self.model.replica(self.model.rng)
        means = {p: Tensor(mean, p.requires_grad, mean.dtype) for p, mean in zip(model.parameters(), self.mean, strict=True)}
        for module in model.modules():
            vars(module).update((name, means[p]) for name, p in vars(module).items() if isinstance(p, Tensor))
        return model


def train(state, ids, val_ids=None):
    """An iterator that takes a step on ids (N,) and yields its Metrics, until settings.steps; val_loss every eval_every steps.

    Stop by leaving the loop; calling train again with the same state goes on as if it had not stopped.
    """
    _check_state(state)
    config = state.model.config
    ids = validate.token_ids("ids", ids, config.vocab_size)
    val_ids = None if val_ids is None else _loss_ids(state.model, val_ids)
    return _steps(state, batches(ids, state.settings.batch_size, config.block_size, state.rng), val_ids)


def _steps(state, windows, val_ids):
    settings, model = state.settings, state.model
    peak, least = settings.learning_rate, settings.min_learning_rate
    with keep_freed_memory():
        while state.step < settings.steps:
            start, val_loss = time.perf_counter(), None
            state.optimizer.lr = warmup_cosine(state.step, peak, settings.warmup_steps, settings.steps, least)
            with ctrl_c_waits():  # between two steps the state is whole, within one it isn't
                loss, norm = train_step(model, state.optimizer, *next(windows), settings.max_grad_norm)
                state.step += 1
                state.update_mean()
                state.recent.append(loss)
                speed = settings.batch_size * model.config.block_size / (time.perf_counter() - start)
                if state.step % settings.eval_every == 0 or state.step == settings.steps:
                    if val_ids is not None:
                        val_loss = estimate_loss(state.result(), val_ids)
                    state.history.append({"step": state.step, "train_loss": float(np.mean(state.recent)), "val_loss": val_loss})
                    state.recent = []
                state.seconds += time.perf_counter() - start
            yield Metrics(state.step, loss, state.optimizer.lr, norm, speed, val_loss)


def train_step(model, optimizer, inputs, targets, max_grad_norm=1.0):
    """One update from a batch (B, T); returns (loss, gradient norm before clipping)."""
    if not model.training:  # to tell every module each time took 0.1 ms
        model.train()
    with one_blas_thread():
        loss = backward_on_all_cores(model, inputs, targets)
    norm = clip_grad_norm(optimizer.params, max_grad_norm)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradients' norm became {norm}: is the learning rate ({optimizer.lr:.1e}) too high?")
    waiting = deque(range(len(optimizer.params)))
    _on_all_cores(optimizer.step, [_taken_from(waiting) for _ in range(_cores())])
    return loss, norm


def backward_on_all_cores(model, inputs, targets):
    """Set the model's gradients to those of the mean loss, which is returned; each core takes a share of the rows.

    As in data-parallel training on several machines, whose gradients are averaged. NumPy's products alone would use
    all cores, but the rest only one. A product that only a weight's gradient waits for is put aside, and a core
    that has walked back through its share takes of all that lie there, the others' too: of two cores one is
    always slower. It took some 5 % off a step.
    On another number of cores the sums are rounded in another order, and dropout draws otherwise.
    """
    shares, walking, waiting, products = min(_cores(), len(inputs)), [], deque(), {}
    seeds = [None, *model.rng.integers(2**63, size=shares - 1)]  # for the dropout of each further share
    model.zero_grad()

    def work(share, seed, x, y):
        walking.append(share)
        try:
            replica = model if seed is None else model.replica(np.random.default_rng(seed))
            _, loss = replica(x, y)
            gradients = loss.gradients(len(x) / len(inputs), later=lambda *product: waiting.append((share, *product)))
        finally:
            walking.pop()
        for whose, parameter, product in _taken_from(waiting, walking):
            parts = products.setdefault(parameter, {})
            parts[whose] = product()
            if len(parts) == shares:  # added while they are in the cache; two threads that both come last do the same
                products[parameter] = {0: _sum(parts)}
        return loss.item() * len(x) / len(inputs), gradients

    losses, gradients = zip(*_on_all_cores(work, range(shares), seeds, *(np.array_split(a, shares) for a in (inputs, targets))))
    for found in (*gradients, {parameter: _sum(parts) for parameter, parts in products.items()}):
        add_gradients(found)
    return sum(losses)


def _sum(parts):
    """Of the arrays in a dict by number, always in the same order."""
    return reduce(np.add, [parts[i] for i in sorted(parts)])


def _on_all_cores(work, *arguments):
    """[work(*a) for a in zip(*arguments)], the first of them in this thread while the others are in threads of their own."""
    first, *others = zip(*arguments, strict=True)
    results = _threads(os.getpid()).map(lambda a: work(*a), others)  # they start now, and are waited for below
    return [work(*first), *results]


def _taken_from(queue, busy=()):
    """Entries of a deque, from its end, each for one of the threads that take from it, until it and the list `busy` are empty."""
    while queue or busy:
        try:
            yield queue.pop()
        except IndexError:
            time.sleep(1e-4)  # who is busy will add to it


def estimate_loss(model, ids, batch_size=32):
    """Mean loss in nats per token over all of ids (N,), in windows of block_size that don't overlap."""
    validate.whole_number("batch_size", batch_size, least=1)
    ids, T, total = _loss_ids(model, ids), model.config.block_size, 0.0
    count = len(ids) - 1
    cuts = sorted({*range(0, count // T * T, batch_size * T), count // T * T, count})  # the last window may be shorter
    with evaluating():
        for start, stop in zip(cuts, cuts[1:]):
            inputs, targets = (ids[start + k : stop + k].reshape(-1, min(T, stop - start)) for k in (0, 1))
            total += model(inputs, targets)[1].item() * (stop - start)
    return total / count


def _loss_ids(model, ids):
    ids = validate.token_ids("ids to evaluate on", ids, model.config.vocab_size)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"a loss needs one array of at least 2 ids, got shape {ids.shape}")
    return ids


def _check_state(state):
    if not isinstance(state, TrainState):
        raise TypeError(f"training needs a TrainState(model, settings), got {type(state).__name__}")
    if bool(state.mean) != bool(state.settings.average):
        raise ValueError("settings.average can't be switched on or off within a run: make a new TrainState(model, settings)")


# ---- stopping and going on


def save_training(path, state, *, encoding=None, info=None):
    """Write `state.result()` as a checkpoint in float32, with all that `load_training` goes on from."""
    _check_state(state)
    training = {
        "settings": asdict(state.settings),
        "step": state.step,
        "seconds": state.seconds,
        "recent": state.recent,
        "updates": state.optimizer.t,
        "frozen": [name for name, parameter in state.model.named_parameters() if not parameter.requires_grad],
        "generators": [state.rng.bit_generator.state, state.model.rng.bit_generator.state],
    }
    extra = {"meta/training": archive.pack(training)} | _further_arrays(state)
    save_checkpoint(path, state.result(), encoding=encoding, history=state.history, info=info, dtype=np.float32, extra=extra)


def load_training(path):
    """(TrainState, info) of `save_training`, its model's encoding set: the next step is the one that would have come."""
    checkpoint = read_checkpoint(path)
    if "meta/training" not in checkpoint.extra:
        raise ValueError(f"{path} is a finished model, not a training run: there is nothing to go on with")
    saved = archive.unpack(checkpoint.extra["meta/training"])
    model = checkpoint.model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in saved.get("frozen", ())
    settings = TrainSettings(**saved["settings"] | {"betas": tuple(saved["settings"]["betas"])})
    state = TrainState(model, settings, saved["step"], saved["seconds"], checkpoint.history, saved["recent"])
    state.optimizer.t = saved["updates"]
    for name, array in _further_arrays(state).items():
        array[...] = checkpoint.extra[name]
    state.rng.bit_generator.state, model.rng.bit_generator.state = saved["generators"]
    return state, checkpoint.info


def _further_arrays(state):
    """What a checkpoint holds of a state beside its result, array by name: the weights too, where that is their mean."""
    weights = [parameter.data for parameter in state.model.parameters()] if state.mean else []
    arrays = {"gradients": state.optimizer.m, "squares": state.optimizer.v, "weights": weights}
    return {f"meta/{name}/{i}": array for name, group in arrays.items() for i, array in enumerate(group)}


@contextmanager
def keep_freed_memory():
    """Within it, on Linux with glibc, freed memory is reused instead of going back to the system.

    A step frees and asks for the same large arrays again and again; having them taken away and
    cleared by the system each time was half of its time. Elsewhere this does nothing. After it the
    limits stand where glibc's own rule, which grows them with use, would have ended.
    """
    _limit_malloc(_KEEP)
    try:
        yield
    finally:
        _limit_malloc(_GROWN)


@contextmanager
def ctrl_c_waits():
    """Within it, in the main thread, Ctrl-C is noted, and takes effect at the end."""
    pressed, in_main = [], threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True)) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)


# Two threads would undo each other's limits. By process, as one that is forked meanwhile would wait for ever for its parent's.
_one_at_a_time = {}


@contextmanager
def one_blas_thread():
    """Within it, matrix products run on one core each, so that our own threads don't wait for each other's."""
    with _one_at_a_time.setdefault(os.getpid(), threading.RLock()), _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _threads(process):
    """Threads that live as long as the process (one that it forks needs its own): to start them took 1 ms of every step."""
    return ThreadPoolExecutor(_cores())


_blas = cache(ThreadpoolController)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h
_KEEP = ((_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 26))
_GROWN = ((_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, 1 << 26), (_M_TOP_PAD, 1 << 17))


def _limit_malloc(limits):
    if platform.libc_ver()[0] == "glibc":
        for parameter, value in limits:
            ctypes.CDLL(None).mallopt(parameter, value)
