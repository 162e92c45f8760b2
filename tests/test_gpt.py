"""The model: what it computes, what it may not see, what it takes and refuses."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from tinygpt_lib import GPT, GPTConfig, KVCache, Tensor, gpt, save_checkpoint, train_bpe

CONFIG = GPTConfig(vocab_size=23, block_size=9, n_layer=3, n_head=2, n_embd=16, dropout=0.0)
IDS = np.random.default_rng(2).integers(23, size=(4, 9))
close = dict(rtol=0, atol=1e-4)


def lively(config=CONFIG):
    """A model whose every parameter is random and large enough to matter."""
    model, rng = GPT(config), np.random.default_rng(1)
    model.load_state_dict({name: w + rng.normal(0, 0.2, w.shape) for name, w in model.state_dict().items()})
    return model.eval()


def count(V, T, L, C):
    return V * C + T * C + L * (12 * C**2 + 13 * C) + 2 * C


# ---- what it computes


@pytest.mark.parametrize("ids", [IDS, IDS.tolist(), Tensor(IDS), IDS.astype(np.int32)], ids=["array", "list", "Tensor", "int32"])
def test_logits_have_a_row_for_every_token_and_the_loss_is_a_scalar(ids):
    logits, loss = lively()(ids)
    assert logits.shape == (4, 9, 23) and logits.dtype == np.float32 and loss is None
    assert lively()(ids, ids)[1].shape == ()


def test_loss_is_the_mean_surprise_at_the_targets():
    model, targets = lively(), np.roll(IDS, -1, axis=1)
    logits, loss = model(IDS, targets)
    z = logits.data.astype(np.float64)
    surprise = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, targets[..., None], -1)[..., 0]
    assert loss.item() == pytest.approx(surprise.mean(), abs=1e-5)


@pytest.mark.parametrize("vocab_size", [65, 1024])
def test_an_untrained_model_is_as_surprised_as_a_fair_die(vocab_size):
    model, rng = GPT(GPTConfig(vocab_size, 32, 2, 2, 32)).eval(), np.random.default_rng(0)
    ids = rng.integers(vocab_size, size=(8, 33))
    assert model(ids[:, :-1], ids[:, 1:])[1].item() == pytest.approx(math.log(vocab_size), rel=0.02)


def test_the_formula_for_parameters_gives_gpt2s_published_number():
    assert count(50257, 1024, 12, 768) == 124_439_808


@pytest.mark.parametrize("config", [CONFIG, GPTConfig(300, 33, 1, 3, 24), GPTConfig()], ids=["small", "one layer", "default"])
def test_number_of_parameters_by_formula(config):
    assert GPT(config).num_parameters() == count(config.vocab_size, config.block_size, config.n_layer, config.n_embd)


def test_the_head_is_the_token_embedding():
    model, ids = lively(), np.array([[1, 2, 3]])
    before = model(ids)[0].data
    assert not any("head" in name for name in model.state_dict())
    model.wte.weight.data[7] = 0  # a token that isn't read
    after = model(ids)[0].data
    assert (after[..., 7] == 0).all() and np.array_equal(np.delete(after, 7, -1), np.delete(before, 7, -1))


def test_embeddings_begin_as_gpt2s_and_residual_projections_smaller():
    weights = GPT(GPTConfig(500, 64, 8, 4, 64)).state_dict()
    expected = {"wte.weight": 0.02, "wpe.weight": 0.02, "h.7.attn.c_proj.weight": 0.005, "h.0.mlp.c_proj.weight": 0.005}
    for name, std in expected.items():
        assert abs(weights[name].std() - std) < 5 * std / math.sqrt(2 * weights[name].size), name


def test_one_seed_gives_one_model_and_another_seed_another():
    a, b, c = (GPT(CONFIG, seed=seed).state_dict()["wte.weight"] for seed in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_dropout_works_while_training_alone():
    model = lively(dataclasses.replace(CONFIG, dropout=0.5))
    assert np.array_equal(model(IDS)[0].data, model(IDS)[0].data)
    model.train()
    assert not np.array_equal(model(IDS)[0].data, model(IDS)[0].data)


def test_nothing_becomes_float64_on_the_way():
    model = GPT(dataclasses.replace(CONFIG, dropout=0.1))
    logits, loss = model(IDS, IDS)
    loss.backward()
    assert {logits.dtype, loss.dtype, *(p.grad.dtype for p in model.parameters())} == {np.dtype(np.float32)}


# ---- what it may not see


@pytest.mark.parametrize("position", range(1, 9))
def test_a_later_token_changes_no_bit_of_earlier_logits(position):
    model, changed = lively(), IDS.copy()
    changed[:, position] = (changed[:, position] + 5) % 23
    before, after = model(IDS)[0].data, model(changed)[0].data
    assert np.array_equal(before[:, :position], after[:, :position])
    assert (before[:, position:] != after[:, position:]).any(axis=(0, 2)).all()


def test_no_row_of_a_batch_sees_another():
    model = lively()
    together = model(IDS)[0].data
    for i in range(len(IDS)):
        np.testing.assert_allclose(model(IDS[i : i + 1])[0].data[0], together[i], **close)


# ---- the cache


@pytest.mark.parametrize("rows", [1, 2])  # a single token is multiplied otherwise
@pytest.mark.parametrize("cuts", [cuts for n in range(7) for cuts in itertools.combinations(range(1, 7), n)], ids=str)
def test_cached_logits_are_the_uncached_for_every_split_of_a_text(cuts, rows):
    model, ids = lively(), IDS[:rows, :7]
    cache = KVCache(model.config, batch=rows)
    parts = [model(chunk, cache=cache)[0].data for chunk in np.split(ids, cuts, axis=1)]
    assert cache.length == 7
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(ids)[0].data, **close)


def test_the_cache_can_be_filled_to_the_last_place():
    model, cache = lively(), KVCache(CONFIG)
    parts = [model(IDS[:1, i : i + 1], cache=cache)[0].data for i in range(9)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(IDS[:1])[0].data, **close)
    with pytest.raises(ValueError, match="room for 0 tokens"):
        model(IDS[:1, :1], cache=cache)


@pytest.mark.parametrize("kept", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_cache_of_another_type_gives_the_models_logits_in_the_models_type(dtype, kept, rows):
    model, ids = lively().to(dtype), IDS[:rows, :7]
    cache = KVCache(model.config, rows, kept)
    parts = [model(chunk, cache=cache)[0].data for chunk in np.split(ids, [4, 5, 6], axis=1)]
    assert {part.dtype for part in parts} == {np.dtype(dtype)}
    tolerance = 0.05 if kept == np.float16 else 1e-4
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(ids)[0].data, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("n_embd", "n_head"), [(15, 1), (15, 3), (15, 5), (16, 1), (18, 3)])
def test_a_cache_takes_odd_and_even_widths(n_embd, n_head):
    model = lively(dataclasses.replace(CONFIG, n_embd=n_embd, n_head=n_head))
    cache, ids = KVCache(model.config), IDS[:1, :7]
    parts = [model(chunk, cache=cache)[0].data for chunk in np.split(ids, [3, 4, 5], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(ids)[0].data, **close)


def test_after_a_token_that_had_to_wait_a_cache_keeps_to_one_core(monkeypatch):
    model, cache, by_pairs, times = lively(), KVCache(CONFIG), [], gpt._multiply_pairs
    monkeypatch.setattr(gpt, "_multiply_pairs", lambda matrix, x: by_pairs.append(cache.length) or times(matrix, x))
    # The matrices take 1 second to make, the first token 0.2, the third 1.1.
    clock = iter([0, 1, 1, 1.2, 10, 10.9, 20, 21.1, 30, 30.1, 40, 40.1])
    monkeypatch.setattr(gpt.time, "perf_counter", lambda: next(clock))
    parts = [model(IDS[:1, i : i + 1], cache=cache)[0].data for i in range(5)]
    assert sorted(set(by_pairs)) == [0, 1, 2]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(IDS[:1, :5])[0].data, **close)


def test_a_cache_keeps_to_the_weights_of_its_first_reading():
    model, cache = lively(), KVCache(CONFIG)
    expected = lively()(IDS[:1])[0].data
    first = model(IDS[:1, :4], cache=cache)[0].data
    for parameter in model.parameters():
        parameter.data += 0.3
    rest = model(IDS[:1, 4:], cache=cache)[0].data
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), expected, **close)


def test_cached_logits_remember_nothing():
    logits, _ = lively()(IDS, cache=KVCache(CONFIG, batch=4))
    assert not logits.requires_grad


# ---- what it takes and refuses


@pytest.mark.parametrize("ids, error", [
    ([1, 2, 3], "shape"),
    ([[]], "shape"),
    (np.zeros((0, 3), dtype=int), "shape"),
    ([[0] * 10], "block_size 9"),
    ([[23]], "0 to 22"),
    ([[-1]], "0 to 22"),
])  # fmt: skip
def test_ids_that_cannot_be_read_are_refused(ids, error):
    with pytest.raises((ValueError, TypeError), match=error):
        lively()(ids)


def test_fractions_are_no_ids():
    with pytest.raises(TypeError, match="integers"):
        lively()([[0.5]])


@pytest.mark.parametrize("targets", [IDS[:, :-1], IDS[:1], IDS + 23])
def test_targets_that_do_not_fit_are_refused(targets):
    with pytest.raises(ValueError, match="targets"):
        lively()(IDS, targets)


def test_a_cache_of_another_batch_and_a_loss_with_a_cache_are_refused():
    with pytest.raises(ValueError, match="batch of 1, got 4"):
        lively()(IDS, cache=KVCache(CONFIG))
    with pytest.raises(ValueError, match="targets or a cache"):
        lively()(IDS, IDS, cache=KVCache(CONFIG, batch=4))


@pytest.mark.parametrize(
    "wrong", [dict(n_head=5), dict(n_layer=0), dict(vocab_size=2.5), dict(n_embd=True), dict(dropout=1.0), dict(dropout=-0.1)]
)
def test_impossible_sizes_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(CONFIG, **wrong)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.n_layer = 4


# ---- its weights


def test_weights_come_from_a_dict_or_an_open_file(tmp_path):
    model, state = lively(), lively().state_dict()
    np.savez(tmp_path / "weights.npz", **state)
    fresh, other = GPT(CONFIG, seed=5).eval(), GPT(CONFIG, seed=6).eval()
    fresh.load_state_dict(state)
    with np.load(tmp_path / "weights.npz") as file:
        other.load_state_dict(file)
    assert np.array_equal(fresh(IDS)[0].data, model(IDS)[0].data) and np.array_equal(other(IDS)[0].data, model(IDS)[0].data)
    assert fresh.encoding is None


def test_a_checkpoints_encoding_comes_with_its_weights(tmp_path):
    config = dataclasses.replace(CONFIG, vocab_size=258)
    encoding = train_bpe("to be to be to be", 258)
    save_checkpoint(tmp_path / "model.npz", lively(config), encoding=encoding)
    model = GPT(config)
    model.load_state_dict(np.load(tmp_path / "model.npz"))
    assert model.encoding.n_vocab == 258 and model.encoding.encode("to be") == encoding.encode("to be")


def test_weights_that_do_not_fit_leave_weights_and_encoding_as_they_were(tmp_path):
    config = dataclasses.replace(CONFIG, vocab_size=258)
    save_checkpoint(tmp_path / "model.npz", lively(config), encoding=train_bpe("to be to be to be", 258))
    model, before = lively(), lively().state_dict()
    with pytest.raises(ValueError, match=r"wte.weight has shape \(258, 16\) and must have \(23, 16\)"):
        model.load_state_dict(np.load(tmp_path / "model.npz"))
    assert model.encoding is None
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


@pytest.mark.parametrize("wrong", [None, 3, [1, 2], "missing.npz"])
def test_what_is_no_weights_is_refused(wrong):
    with pytest.raises((TypeError, FileNotFoundError)):
        lively().load_state_dict(wrong)
