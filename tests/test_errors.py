"""One table of a learner's mistakes: each is refused with one sentence that says what was expected and what came."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import tinygpt_lib as tg
from tinygpt_lib import GPT, AdamW, GPTConfig, SamplingSettings, Tensor, TrainSettings, TrainState
from tinygpt_lib import sampling as S

V, T = 300, 8  # the vocabulary and the context of the model below
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def world(tmp_path_factory, play):
    """Everything that the calls below use."""
    folder = tmp_path_factory.mktemp("errors")
    encoding = tg.train_bpe(play[:5000], V, name="small")
    model = GPT(GPTConfig(vocab_size=V, block_size=T, n_layer=1, n_head=2, n_embd=4, dropout=0.0))
    model.encoding = encoding
    tg.save_checkpoint(folder / "good.npz", model)
    whole = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.npz").write_text("not a checkpoint", encoding="utf-8")
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))
    (folder / "empty.txt").write_text("", encoding="utf-8")
    np.savez(folder / "bare.npz", **model.state_dict())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    return SimpleNamespace(
        model=model, bare=GPT(model.config), encoding=encoding, other=tg.train_bpe(play[:5000], 290), folder=folder, x=x,
        t=Tensor(x, requires_grad=True), ids=np.arange(40), logits=np.array([3.0, 2.0, 1.0]), state=model.state_dict(),
    )  # fmt: skip


def without(state, name, **others):
    return {key: array for key, array in state.items() if key != name} | others


def read_by_two(first, second):
    cache = tg.KVCache(first.config)
    first([[1]], cache=cache)
    second([[2]], cache=cache)


# name: (call, the error's type, words that its sentence holds)
MISTAKES = {
    # Tensor
    "tensor of text": (lambda w: Tensor("text"), TypeError, ["numbers", "str"]),
    "tensor of None": (lambda w: Tensor(None), TypeError, ["numbers", "NoneType"]),
    "tensor of ragged rows": (lambda w: Tensor([[1, 2], [3]]), ValueError, ["rows", "equal lengths"]),
    "integers with gradients": (lambda w: Tensor([1, 2], requires_grad=True), TypeError, ["floats", "int64", "dtype"]),
    "shapes that can't be added": (lambda w: w.t + np.ones(2), ValueError, ["(2, 3)", "(2,)"]),
    "text added": (lambda w: w.t + "a", TypeError, ["numbers", "str"]),
    "matrices that don't fit": (lambda w: w.t @ w.t, ValueError, ["@", "(2, 3)"]),
    "matrix times vector": (lambda w: w.t @ np.ones(3), ValueError, ["(..., k, m)", "(3,)"]),
    "power of a Tensor": (lambda w: w.t**w.t, TypeError, ["exponent", "number", "Tensor"]),
    "item of many": (lambda w: w.t.item(), ValueError, ["one element", "(2, 3)"]),
    "backward of many": (lambda w: (w.t * 2).backward(), ValueError, ["scalar", "(2, 3)"]),
    "backward of a gradient's shape": (lambda w: (w.t * 2).backward(np.ones(3)), ValueError, ["(2, 3)", "(3,)"]),
    "backward of nothing": (lambda w: Tensor(1.0).backward(), ValueError, ["requires_grad=True"]),
    "reshape to another size": (lambda w: w.t.reshape(4, 2), ValueError, ["(4, 2)"]),
    # functional
    "linear of another width": (lambda w: tg.linear(w.x, np.ones((5, 4))), ValueError, ["(5, 4)", "(2, 3)"]),
    "linear with a vector": (lambda w: tg.linear(w.x, np.ones(3)), ValueError, ["weight", "(3,)"]),
    "linear with another bias": (lambda w: tg.linear(w.x, np.ones((5, 3)), np.ones(4)), ValueError, ["bias", "(5,)", "(4,)"]),
    "linear with a bias of one": (lambda w: tg.linear(w.x, np.ones((5, 3)), np.ones(1)), ValueError, ["bias", "(5,)", "(1,)"]),
    "layer_norm with a weight of one": (lambda w: tg.layer_norm(w.x, np.ones(1), np.ones(3)),
        ValueError, ["weight", "(3,)", "(1,)"]),
    "layer_norm of another width": (lambda w: tg.layer_norm(w.x, np.ones(4), np.ones(4)), ValueError, ["(3,)", "(4,)"]),
    "id outside an embedding": (lambda w: tg.embedding(w.x, [0, 2]), ValueError, ["0 to 1", "2"]),
    "negative id": (lambda w: tg.embedding(w.x, [-1]), ValueError, ["0 to 1", "-1"]),
    "ids that are floats": (lambda w: tg.embedding(w.x, [0.5]), TypeError, ["integers", "float"]),
    "targets of another shape": (lambda w: tg.cross_entropy(w.x, [0, 1, 2]), ValueError, ["(2,)", "(3,)"]),
    "target outside the vocabulary": (lambda w: tg.cross_entropy(w.x, [0, 3]), ValueError, ["0 to 2", "3"]),
    "targets that are floats": (lambda w: tg.cross_entropy(w.x, [0.0, 1.0]), TypeError, ["targets", "integers", "float"]),
    "dropout of 1": (lambda w: tg.dropout(w.x, 1.0, RNG), ValueError, ["below 1", "1.0"]),
    "dropout of less than 0": (lambda w: tg.dropout(w.x, -0.1, RNG), ValueError, ["at least 0", "-0.1"]),
    "attention of other widths": (lambda w: tg.causal_attention(w.x, w.x[:, :2], w.x[:, :2]), ValueError, ["(2, 3)", "(2, 2)"]),
    "more queries than keys": (lambda w: tg.causal_attention(w.x, w.x[:1], w.x[:1]), ValueError, ["Tq <= Tk", "(1, 3)"]),
    # GPT
    "heads that don't divide": (lambda w: GPTConfig(n_embd=10, n_head=4), ValueError, ["n_embd", "n_head", "10", "4"]),
    "no layers": (lambda w: GPTConfig(n_layer=0), ValueError, ["n_layer", "at least 1", "0"]),
    "a vocabulary in words": (lambda w: GPTConfig(vocab_size="1024"), ValueError, ["vocab_size", "whole number", "'1024'"]),
    "a fractional size": (lambda w: GPTConfig(n_embd=192.0), ValueError, ["n_embd", "whole number", "192.0"]),
    "a rate of 1": (lambda w: GPTConfig(dropout=1.0), ValueError, ["dropout", "below 1", "1.0"]),
    "a rate in words": (lambda w: GPTConfig(dropout="0.1"), ValueError, ["dropout", "'0.1'"]),
    "a model of a dict": (lambda w: GPT({"n_layer": 1}), TypeError, ["GPTConfig", "dict"]),
    "ids without a batch": (lambda w: w.model([1, 2]), ValueError, ["(batch, time)", "(2,)"]),
    "no ids": (lambda w: w.model(np.zeros((1, 0), int)), ValueError, ["(batch, time)", "(1, 0)"]),
    "too long a context": (lambda w: w.model([list(range(9))]), ValueError, ["block_size 8", "9"]),
    "an id outside the vocabulary": (lambda w: w.model([[V]]), ValueError, ["0 to 299", "300"]),
    "ids in words": (lambda w: w.model([["a"]]), TypeError, ["numbers"]),
    "ids as floats": (lambda w: w.model([[1.0]]), TypeError, ["integers", "float"]),
    "targets too short": (lambda w: w.model([[1, 2]], [[1]]), ValueError, ["(1, 2)", "(1, 1)"]),
    "targets with a cache": (lambda w: w.model([[1]], [[1]], tg.KVCache(w.model.config)),
        ValueError, ["targets", "cache", "both"]),
    "a cache for no text": (lambda w: tg.KVCache(w.model.config, batch=0), ValueError, ["batch", "at least 1", "0"]),
    "a cache of another batch": (lambda w: w.model([[1]], cache=tg.KVCache(w.model.config, batch=2)),
        ValueError, ["batch of 2", "1"]),
    "an id outside the vocabulary with a cache": (lambda w: w.model([[V]], cache=tg.KVCache(w.model.config)),
        ValueError, ["0 to 299", "300"]),
    "a negative id with a cache": (lambda w: w.model([[-1]], cache=tg.KVCache(w.model.config)), ValueError, ["0 to 299", "-1"]),
    "a cache for more layers": (lambda w: w.model([[1]], cache=tg.KVCache(replace(w.model.config, n_layer=2))),
        ValueError, ["another model's"]),
    "a cache that another model has filled": (lambda w: read_by_two(w.model, w.bare), ValueError, ["another model"]),
    "a weight missing": (lambda w: w.model.load_state_dict(without(w.state, "ln_f.bias")), ValueError, ["ln_f.bias", "missing"]),
    "a weight too many": (lambda w: w.model.load_state_dict(without(w.state, "", extra=w.x)),
        ValueError, ["extra", "unexpected"]),
    "a weight missing, one too many, one of another shape": (
        lambda w: w.model.load_state_dict(without(w.state, "ln_f.bias", **{"extra": w.x, "wte.weight": w.x})),
        ValueError, ["ln_f.bias is missing", "extra is unexpected", "wte.weight", "(2, 3)", "(300, 4)"],
    ),
    "weights with NaN": (lambda w: w.model.load_state_dict(w.state | {"ln_f.bias": np.full(4, np.nan)}), ValueError, ["finite"]),
    "weights that float32 can't hold": (lambda w: w.model.load_state_dict(w.state | {"ln_f.bias": np.full(4, 1e300)}),
        ValueError, ["finite"]),
    "weights from a list": (lambda w: w.model.load_state_dict([1, 2]), TypeError, ["dict", "list"]),
    # tokenizer
    "training on bytes": (lambda w: tg.train_bpe(b"text", 300), TypeError, ["string", "bytes"]),
    "merges of bytes": (lambda w: list(tg.learn_merges(b"text")), TypeError, ["string", "bytes"]),
    "a vocabulary of 256": (lambda w: tg.train_bpe("text", 256), ValueError, ["257", "256"]),
    "too large a vocabulary": (lambda w: tg.train_bpe("text", 5000), ValueError, ["5000", "260 at most"]),
    "an unknown encoding": (lambda w: tg.get_encoding("gpt-2"), ValueError, ["'gpt-2'", "gpt2", "play"]),
    "a token outside the vocabulary": (lambda w: tg.show_token(w.encoding, V), ValueError, ["0 to 299", "300"]),
    "a negative token": (lambda w: tg.show_token(w.encoding, -1), ValueError, ["0 to 299", "-1"]),
    # data
    "a missing corpus": (lambda w: tg.load_corpus("plays"), FileNotFoundError, ["'plays'", "'play'", "'shakespeare'"]),
    "a folder as corpus": (lambda w: tg.load_corpus(w.folder), FileNotFoundError, ["file"]),
    "a corpus in Latin-1": (lambda w: tg.load_corpus(w.folder / "latin.txt"), ValueError, ["latin.txt", "UTF-8"]),
    "an empty corpus": (lambda w: tg.load_corpus(w.folder / "empty.txt"), ValueError, ["empty.txt", "empty"]),
    "no corpus": (lambda w: tg.load_corpus(None), TypeError, ["NoneType"]),
    "a text as corpus": (lambda w: tg.load_corpus("To be or not to be. " * 500), FileNotFoundError, ["'To be", "path"]),
    "a fraction in percent": (lambda w: tg.split(w.ids, 90), ValueError, ["between 0 and 1", "90"]),
    "ids of bytes to encode": (lambda w: tg.encode(w.encoding, b"text"), TypeError, ["string", "bytes"]),
    "too few ids": (lambda w: next(tg.batches(w.ids[:8], 2, 8, RNG)), ValueError, ["at least 9", "8"]),
    "batches of text": (lambda w: next(tg.batches("text", 2, 2, RNG)), TypeError, ["integer ids"]),
    "batches of none": (lambda w: next(tg.batches(w.ids, 0, 8, RNG)), ValueError, ["batch_size", "at least 1", "0"]),
    "windows of none": (lambda w: next(tg.batches(w.ids, 2, 0, RNG)), ValueError, ["block_size", "at least 1", "0"]),
    # sampling
    "a negative temperature": (lambda w: SamplingSettings(temperature=-1), ValueError, ["temperature", "at least 0", "-1"]),
    "a temperature in words": (lambda w: SamplingSettings(temperature="hot"), ValueError, ["temperature", "number", "'hot'"]),
    "a temperature of NaN": (lambda w: S.temperature(w.logits, float("nan")), ValueError, ["temperature", "nan"]),
    "an infinite temperature": (lambda w: S.temperature(w.logits, float("inf")), ValueError, ["temperature", "inf"]),
    "a fractional k": (lambda w: SamplingSettings(top_k=2.5), ValueError, ["top_k", "whole number", "2.5"]),
    "a negative k": (lambda w: S.top_k(w.logits, -1), ValueError, ["top_k", "at least 0", "-1"]),
    "p in percent": (lambda w: SamplingSettings(top_p=90), ValueError, ["top_p", "between 0 and 1", "90"]),
    "p of None": (lambda w: S.top_p(w.logits, None), ValueError, ["top_p", "None"]),
    "a negative min_p": (lambda w: S.min_p(w.logits, -0.1), ValueError, ["min_p", "between 0 and 1", "-0.1"]),
    "a typical_p of 0": (lambda w: S.typical_p(w.logits, 0), ValueError, ["typical_p", "above 0", "0"]),
    "a penalty of 0": (lambda w: S.repetition_penalty(w.logits, [0], 0), ValueError, ["repetition_penalty", "positive", "0"]),
    "a seen id outside": (lambda w: S.repetition_penalty(w.logits, [3], 1.2), ValueError, ["0 to 2", "3"]),
    "logits with NaN": (lambda w: S.top_k([1.0, float("nan")], 1), ValueError, ["NaN"]),
    "logits of -inf alone": (lambda w: S.temperature([-np.inf, -np.inf], 1), ValueError, ["-inf"]),
    "logits with three axes": (lambda w: S.top_p(np.zeros((1, 2, 3)), 0.9), ValueError, ["(batch, vocab)", "(1, 2, 3)"]),
    "a trace of a dict": (lambda w: tg.trace(w.logits, {"top_k": 2}), TypeError, ["SamplingSettings", "dict"]),
    "negative probabilities": (lambda w: tg.draw([-0.5, 1.5], RNG), ValueError, ["probabilities", "negative"]),
    "probabilities of 0": (lambda w: tg.draw([0.0, 0.0], RNG), ValueError, ["probabilities", "0"]),
    "draw without a generator": (lambda w: tg.draw([0.5, 0.5], 0), TypeError, ["Generator", "int"]),
    # generation
    "a prompt of ids": (lambda w: tg.generate_text(w.model, [1, 2]), TypeError, ["prompt", "string", "list"]),
    "an empty prompt": (lambda w: tg.generate_text(w.model, ""), ValueError, ["prompt", "empty"]),
    "a prompt without an encoding": (lambda w: tg.generate_text(w.bare, "To be"), ValueError, ["encoding=", "300"]),
    "another model's encoding": (lambda w: tg.generate_text(w.model, "To be", encoding=w.other), ValueError, ["290", "300"]),
    "an encoding's name": (lambda w: tg.generate_text(w.model, "To be", encoding="gpt2"), TypeError, ["encoding", "'gpt2'"]),
    "a negative number of tokens": (lambda w: tg.generate_text(w.model, "To be", max_tokens=-1),
        ValueError, ["at least 0", "-1"]),
    "no number of tokens": (lambda w: tg.generate_text(w.model, "To be", max_tokens=None), ValueError, ["max_tokens", "None"]),
    "half a token": (lambda w: tg.generate(w.model, [[1]], 1.5), ValueError, ["max_new_tokens", "whole number", "1.5"]),
    "generate without a batch": (lambda w: tg.generate(w.model, [1, 2], 3), ValueError, ["(batch, time)", "(2,)"]),
    "generate from nothing": (lambda w: tg.generate(w.model, [[]], 3), ValueError, ["empty", "(1, 0)"]),
    "generate from floats": (lambda w: tg.generate(w.model, [[1.5]], 3), TypeError, ["integers", "float"]),
    "generate from another vocabulary": (lambda w: tg.generate(w.model, [[5, V]], 3), ValueError, ["0 to 299", "300"]),
    "generate from a negative id": (lambda w: tg.generate(w.model, [[-1]], 3), ValueError, ["0 to 299", "-1"]),
    "generate from text": (lambda w: tg.generate(w.model, "To be", 3), TypeError, ["ids", "text"]),
    "a misspelt option": (lambda w: tg.generate(w.model, [[1]], 3, tempature=1), TypeError, ["tempature"]),
    "max_new_tokens of a text": (lambda w: tg.generate_text(w.model, "To be", max_new_tokens=3),
        TypeError, ["max_new_tokens", "temperature"]),
    "seed and rng": (lambda w: tg.generate(w.model, [[1]], 3, seed=1, rng=RNG), ValueError, ["seed or rng", "both"]),
    "a seed as rng": (lambda w: tg.generate(w.model, [[1]], 3, rng=1), TypeError, ["Generator", "int"]),
    "a negative seed": (lambda w: tg.generate(w.model, [[1]], 3, seed=-1), ValueError, ["seed", "-1"]),
    "a stop without an encoding": (lambda w: tg.generate(w.bare, [[1]], 3, stop_at_eot=True),
        ValueError, ["end-of-text", "encoding="]),
    "a stream of a dict": (lambda w: tg.stream(w.model, [1], {"top_k": 5}), TypeError, ["SamplingSettings", "dict"]),
    # checkpoints
    "a missing checkpoint": (lambda w: tg.load_pretrained("shakespear"), FileNotFoundError, ["'shakespear'", "'play'"]),
    "half a checkpoint": (lambda w: tg.load_pretrained(w.folder / "cut.npz"), ValueError, ["cut.npz", "whole checkpoint"]),
    "text as a checkpoint": (lambda w: tg.load_pretrained(w.folder / "text.npz"), ValueError, ["text.npz", "checkpoint"]),
    "weights without a configuration": (lambda w: tg.load_pretrained(w.folder / "bare.npz"),
        ValueError, ["bare.npz", "configuration"]),
    "a text as checkpoint": (lambda w: tg.load_pretrained("To be or not to be. " * 500), FileNotFoundError, ["'To be", "path"]),
    "no checkpoint": (lambda w: tg.load_pretrained(None), TypeError, ["NoneType"]),
    "a folder to save in": (lambda w: tg.save_checkpoint(w.folder / "no" / "a.npz", w.model),
        FileNotFoundError, ["no", "a.npz", "folder"]),
    "an empty GPT-2 folder": (lambda w: tg.load_gpt2(w.folder), FileNotFoundError, ["config.json"]),
    "going on with a finished model": (lambda w: tg.load_training(w.folder / "good.npz"), ValueError, ["good.npz", "finished"]),
    # training
    "no steps": (lambda w: TrainSettings(steps=0), ValueError, ["steps", "at least 1", "0"]),
    "a learning rate of 0": (lambda w: TrainSettings(learning_rate=0), ValueError, ["learning_rate", "positive", "0"]),
    "rates the wrong way round": (lambda w: TrainSettings(learning_rate=1, min_learning_rate=2),
        ValueError, ["min_learning_rate", "2"]),
    "a negative warm-up": (lambda w: TrainSettings(warmup_steps=-1), ValueError, ["warmup_steps", "-1"]),
    "a negative decay": (lambda w: TrainSettings(weight_decay=-1.0), ValueError, ["weight_decay", "-1"]),
    "training on too little": (lambda w: next(tg.train(TrainState(w.bare), w.ids[:5])), ValueError, ["at least 9", "5"]),
    "training on other ids": (lambda w: next(tg.train(TrainState(w.bare), w.ids + 280)), ValueError, ["0 to 299", "319"]),
    "training on text": (lambda w: next(tg.train(TrainState(w.bare), "some text")), TypeError, ["integers"]),
    "validating on one id": (lambda w: tg.estimate_loss(w.model, [1]), ValueError, ["at least 2", "1"]),
    "AdamW of nothing": (lambda w: AdamW([]), ValueError, ["no parameters", "model.parameters()"]),
    "AdamW with a negative rate": (lambda w: AdamW([w.t], lr=-1), ValueError, ["lr", "at least 0", "-1"]),
    "AdamW with a beta of 1": (lambda w: AdamW([w.t], betas=(0.9, 1.0)), ValueError, ["betas", "[0, 1)", "1.0"]),
    "clipping to 0": (lambda w: tg.clip_grad_norm([w.t], 0), ValueError, ["max_norm", "positive", "0"]),
}  # fmt: skip


def fingerprint(world):
    """A hash of every array and file that a mistake might have changed."""
    arrays = [world.x, world.t.data, world.ids, world.logits, *world.state.values()]
    arrays += [p.data for p in (*world.model.parameters(), *world.bare.parameters())]
    files = [(path.name, path.read_bytes()) for path in sorted(world.folder.iterdir())]
    modes = [module.training for module in world.model.modules()]
    return hashlib.sha256(repr((modes, files, [(a.dtype, a.shape, a.tobytes()) for a in arrays])).encode()).hexdigest()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_in_one_sentence_and_changes_nothing(world, name):
    call, kind, words = MISTAKES[name]
    before = fingerprint(world)
    with pytest.raises(kind) as caught:
        call(world)
    said = str(caught.value)
    missing = [word for word in words if word.replace(" ", "") not in said.replace(" ", "")]
    assert "\n" not in said and not missing, f"{said!r} lacks {missing}"
    assert fingerprint(world) == before and world.t.grad is None


def test_the_table_is_long():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("name", ["half a checkpoint", "a weight missing", "an id outside the vocabulary"])
def test_a_model_still_works_after_a_mistake(world, name):
    call, kind, _ = MISTAKES[name]
    before = world.model([[1, 2, 3]])[0].data.copy()
    with pytest.raises(kind):
        call(world)
    assert (world.model([[1, 2, 3]])[0].data == before).all()
