"""The book's closing chapter, typed by a reader: its functions and its loading example run on this library."""

import shutil

import numpy as np
import pytest
import tiktoken

import tinygpt_lib
from tinygpt_lib import GPT, GPTConfig, Tensor, archive, read_checkpoint, save_checkpoint, softmax, train_bpe

VOCAB, BLOCK = 60, 8


@pytest.fixture
def global_seed():
    """The chapter draws from NumPy's global generator: seed it, and put it back afterwards."""
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def random_model(vocab_size=VOCAB, n_embd=16, spread=0.3):
    model = GPT(GPTConfig(vocab_size=vocab_size, block_size=BLOCK, n_layer=2, n_head=2, n_embd=n_embd, dropout=0.3))
    rng = np.random.default_rng(0)
    model.load_state_dict({name: rng.normal(0, spread, array.shape) for name, array in model.state_dict().items()})
    return model


@pytest.fixture
def model():
    return random_model()


# ---- what the reader types


def scaled_logits(model, idx, temperature):
    """Cropping, the model's call and the last position, which all of the chapter's functions share."""
    idx_cond = idx if idx.shape[1] <= model.config.block_size else idx[:, -model.config.block_size :]
    logits, _ = model(idx_cond)
    return logits[:, -1, :] / temperature


def cut_to_top_k(logits, top_k):
    top_k_vals = np.sort(logits.data[0])[-top_k]
    logits.data[logits.data < top_k_vals] = -np.inf


def cut_to_top_p(probs, top_p):
    sorted_indices = np.argsort(probs)[::-1]
    cumsum = np.cumsum(probs[sorted_indices])
    cutoff = np.searchsorted(cumsum, top_p) + 1
    mask = np.zeros_like(probs)
    mask[sorted_indices[:cutoff]] = 1
    probs = probs * mask
    return probs / probs.sum()


def append_draw(idx, probs):
    idx_next = np.array([[np.random.choice(len(probs), p=probs)]])
    return Tensor(np.concatenate([idx.data, idx_next], axis=1))


def generate(model, idx, max_new_tokens):
    model.eval()
    for _ in range(max_new_tokens):
        idx_cond = idx if idx.shape[1] <= model.config.block_size else idx[:, -model.config.block_size :]
        logits, _ = model(idx_cond)
        logits = logits[:, -1, :]
        idx_next = logits.data.argmax(axis=-1, keepdims=True)
        idx = Tensor(np.concatenate([idx.data, idx_next], axis=1))
    return idx


def generate_with_temperature(model, idx, max_new_tokens, temperature=1.0):
    model.eval()
    for _ in range(max_new_tokens):
        logits = scaled_logits(model, idx, temperature)
        probs = softmax(logits, axis=-1).data
        idx = append_draw(idx, probs[0])
    return idx


def generate_top_k(model, idx, max_new_tokens, temperature=1.0, top_k=50):
    model.eval()
    for _ in range(max_new_tokens):
        logits = scaled_logits(model, idx, temperature)
        if top_k is not None:
            cut_to_top_k(logits, top_k)
        probs = softmax(logits, axis=-1).data
        idx = append_draw(idx, probs[0])
    return idx


def generate_top_p(model, idx, max_new_tokens, temperature=1.0, top_p=0.9):
    model.eval()
    for _ in range(max_new_tokens):
        logits = scaled_logits(model, idx, temperature)
        probs = cut_to_top_p(softmax(logits, axis=-1).data[0], top_p)
        idx = append_draw(idx, probs)
    return idx


def generate_text(model, prompt, max_tokens=100, temperature=0.8, top_k=50, top_p=0.9):
    enc = tiktoken.get_encoding("gpt2")
    idx = Tensor([enc.encode(prompt)])
    model.eval()
    for _ in range(max_tokens):
        logits = scaled_logits(model, idx, temperature)
        if top_k:
            cut_to_top_k(logits, top_k)
        probs = softmax(logits, axis=-1).data[0]
        if top_p < 1.0:
            probs = cut_to_top_p(probs, top_p)
        next_token = np.random.choice(len(probs), p=probs)
        idx = Tensor(np.concatenate([idx.data, [[next_token]]], axis=1))
        if next_token == enc.eot_token:
            break
    return enc.decode(idx.data[0].astype(int).tolist())


# ---- and what must come of it


def ranks(model, out, start):
    """For each new token its rank in the model's distribution, and the mass of the tokens before it."""
    for t in range(start, out.shape[1]):
        logits = model(out[:, max(0, t - BLOCK) : t])[0].data[0, -1].astype(np.float64)
        order = np.argsort(-logits, kind="stable")
        probs = np.exp(logits - logits.max())[order]
        rank = int(np.flatnonzero(order == out.data[0, t])[0])
        yield rank, probs[:rank].sum() / probs.sum()


PROMPT = [[3, 1, 4]]
LENGTH = 40


def assert_continues(out):
    assert isinstance(out, Tensor) and out.shape == (1, 3 + LENGTH) and out.dtype == np.int64
    np.testing.assert_array_equal(out.data[:, :3], PROMPT)
    assert 0 <= out.data.min() and out.data.max() < VOCAB


def test_greedy_picks_what_our_own_does(model):
    for prompt in (PROMPT, [[3, 1, 4], [1, 5, 9]]):
        out = generate(model, Tensor(prompt), LENGTH)
        np.testing.assert_array_equal(out.data, tinygpt_lib.generate(model, prompt, LENGTH).data)
    assert_continues(generate(model, Tensor(PROMPT), LENGTH))
    assert not any(module.training for module in model.modules())


def test_temperature_varies_and_near_zero_is_greedy(model, global_seed):
    warm = generate_with_temperature(model, Tensor(PROMPT), LENGTH, temperature=1.5)
    assert_continues(warm)
    assert max(rank for rank, _ in ranks(model, warm, 3)) > 3
    cold = generate_with_temperature(model, Tensor(PROMPT), LENGTH, temperature=1e-6)
    np.testing.assert_array_equal(cold.data, generate(model, Tensor(PROMPT), LENGTH).data)


@pytest.mark.parametrize("k", [1, 5, VOCAB])
def test_top_k_draws_from_the_first_k(model, global_seed, k):
    out = generate_top_k(model, Tensor(PROMPT), LENGTH, top_k=k)
    assert_continues(out)
    assert all(rank < k for rank, _ in ranks(model, out, 3))


def test_top_k_of_none_cuts_nothing(model, global_seed):
    assert_continues(generate_top_k(model, Tensor(PROMPT), LENGTH, temperature=1.2, top_k=None))


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
def test_top_p_draws_from_the_nucleus(model, global_seed, p):
    out = generate_top_p(model, Tensor(PROMPT), LENGTH, top_p=p)
    assert_continues(out)
    assert all(mass < p + 1e-6 for _, mass in ranks(model, out, 3))


def test_writing_into_logits_leaves_the_model_alone(model, global_seed):
    before = model.state_dict()
    generate_top_k(model, Tensor(PROMPT), 5, top_k=2)
    assert all((model.state_dict()[name] == array).all() for name, array in before.items())


def test_probabilities_stay_float32_for_numpys_choice(model, global_seed):
    probs = softmax(scaled_logits(model.eval(), Tensor(PROMPT), 0.7), axis=-1).data
    assert probs.dtype == np.float32 and abs(probs.sum() - 1) < 1e-6
    for _ in range(300):
        row = softmax(Tensor(np.random.normal(0, 4, (1, 50257))), axis=-1).data[0]
        assert 0 <= np.random.choice(len(row), p=row) < 50257


def test_text_runs_on_a_model_of_gpt2s_vocabulary(gpt2_encoding, global_seed):
    model = random_model(vocab_size=50257, n_embd=8)
    prompt = "To be or not to be"
    text = generate_text(model, prompt, max_tokens=12, temperature=0.8, top_k=50)
    assert text.startswith(prompt) and len(text) > len(prompt)
    everything = generate_text(model, prompt, max_tokens=12, top_k=None, top_p=1.0)
    assert everything.startswith(prompt)


def test_text_of_one_choice_is_what_our_own_gives(gpt2_encoding, global_seed):
    model = random_model(vocab_size=50257, n_embd=8)
    text = generate_text(model, "To be or not to be", max_tokens=12, top_k=1)
    assert text == tinygpt_lib.generate_text(model, "To be or not to be", max_tokens=12, top_k=1)


# ---- the loading example, with the file in the working directory


def test_loading_example_runs_as_it_stands(tmp_path, monkeypatch, play):
    encoding = train_bpe(play, GPTConfig().vocab_size)
    trained = GPT(GPTConfig(), seed=1)
    save_checkpoint(tmp_path / "gpt_shakespeare.npz", trained, encoding=encoding, dtype=np.float32)
    monkeypatch.chdir(tmp_path)

    model = GPT(GPTConfig())
    model.load_state_dict(np.load("gpt_shakespeare.npz"))
    prompt = "To be or not to be"
    generated = tinygpt_lib.generate_text(model, prompt, max_tokens=100, temperature=0.8, top_k=50)

    assert generated.startswith(prompt)
    assert all((model.state_dict()[name] == array).all() for name, array in trained.state_dict().items())
    again = tinygpt_lib.generate_text(trained, prompt, 20, seed=0, encoding=encoding)
    assert tinygpt_lib.generate_text(model, prompt, 20, seed=0) == again


@pytest.mark.parametrize("name", archive.SHIPPED)
def test_loading_example_runs_with_the_shipped_models(tmp_path, monkeypatch, name):
    shutil.copy(archive.asset(name), tmp_path / f"gpt_{name}.npz")
    monkeypatch.chdir(tmp_path)
    config = GPTConfig() if name == "shakespeare" else read_checkpoint(name).config
    model = GPT(config)
    model.load_state_dict(np.load(f"gpt_{name}.npz"))
    generated = tinygpt_lib.generate_text(model, "To be or not to be", max_tokens=100, temperature=0.8, top_k=50, seed=0)
    assert generated.startswith("To be or not to be") and len(generated) > len("To be or not to be")
