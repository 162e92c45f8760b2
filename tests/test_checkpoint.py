"""Models on disk: everything comes back, and what can't be represented is refused by name."""

import dataclasses
import json

import numpy as np
import pytest
import tiktoken
from safetensors.numpy import load_file, save_file

from tinygpt_lib import GPT, GPTConfig, load_gpt2, load_pretrained, read_checkpoint, save_checkpoint, save_gpt2, train_bpe
from tinygpt_lib import archive

CONFIG = GPTConfig(vocab_size=258, block_size=7, n_layer=2, n_head=2, n_embd=8, dropout=0.3)
IDS = np.random.default_rng(2).integers(258, size=(2, 7))
TEXT = "to be, or not to be: that is the question"


@pytest.fixture(scope="module")
def encoding():
    return train_bpe("to be to be to be", 258)


def lively(config=CONFIG):
    model, rng = GPT(config), np.random.default_rng(1)
    model.load_state_dict({name: w + rng.normal(0, 0.2, w.shape) for name, w in model.state_dict().items()})
    return model


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name


# ---- our own form


def test_a_checkpoint_holds_all_that_was_saved(tmp_path, encoding):
    model, history = lively(), [{"step": 5, "train_loss": 0.1, "val_loss": None}]
    save_checkpoint(tmp_path / "a.npz", model, encoding=encoding, history=history, info={"corpus": "là"}, dtype=np.float32)
    back = read_checkpoint(tmp_path / "a.npz")
    assert_same_weights(back.weights, model.state_dict())
    assert back.config == CONFIG and back.history == history and back.info["corpus"] == "là" and back.extra == {}
    assert back.encoding.encode(TEXT) == encoding.encode(TEXT) and back.encoding.eot_token == 257


def test_weights_are_stored_as_float16_and_come_back_as_float32(tmp_path):
    model = lively()
    save_checkpoint(tmp_path / "a.npz", model)
    assert {w.dtype for w in read_checkpoint(tmp_path / "a.npz").weights.values()} == {np.dtype(np.float16)}
    back = load_pretrained(tmp_path / "a.npz")[0].state_dict()
    assert {w.dtype for w in back.values()} == {np.dtype(np.float32)}
    assert_same_weights(back, {name: w.astype(np.float16) for name, w in model.state_dict().items()})


def test_float16_halves_the_file(tmp_path):
    model = GPT(GPTConfig(vocab_size=500, n_layer=2, n_embd=96))
    sizes = []
    for dtype in (np.float16, np.float32):
        save_checkpoint(tmp_path / "a.npz", model, dtype=dtype)
        sizes.append((tmp_path / "a.npz").stat().st_size)
    assert 0.49 < sizes[0] / sizes[1] < 0.55


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_load_pretrained_gives_a_model_to_use_and_its_encoding(kind, tmp_path, encoding):
    path = tmp_path / "mon modèle.npz"
    model = lively()
    model.encoding = encoding  # saved without being passed
    save_checkpoint(path, model, dtype=np.float32)
    back, its = load_pretrained(kind(path))
    assert not back.training and its.n_vocab == 258 and back.encoding is its
    assert np.array_equal(back(IDS)[0].data, model.eval()(IDS)[0].data)


def test_a_model_without_encoding_comes_back_without(tmp_path):
    save_checkpoint(tmp_path / "a.npz", lively())
    assert load_pretrained(tmp_path / "a.npz")[1] is None


def test_saving_leaves_the_model_as_it_was(tmp_path, encoding):
    model, before = lively(), lively().state_dict()
    save_checkpoint(tmp_path / "a.npz", model, encoding=encoding)
    assert_same_weights(model.state_dict(), before)
    assert model.training and model.encoding is None


def test_other_entries_under_meta_come_back(tmp_path):
    save_checkpoint(tmp_path / "a.npz", lively(), extra={"meta/more": np.array([1, 2])})
    assert read_checkpoint(tmp_path / "a.npz").extra["meta/more"].tolist() == [1, 2]


def test_weights_alone_are_no_checkpoint(tmp_path):
    np.savez(tmp_path / "a.npz", **lively().state_dict())
    with pytest.raises(ValueError, match="lacks a configuration or a hash"):
        read_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_weights_that_nothing_could_load_are_not_saved(tmp_path, value):
    model = lively()
    model.ln_f.bias.data[0] = value
    with pytest.raises(ValueError, match="ln_f.bias doesn't fit float16.*float32"):
        save_checkpoint(tmp_path / "a.npz", model)
    assert not list(tmp_path.iterdir())


def test_float32_holds_what_float16_cannot(tmp_path):
    model = lively()
    model.ln_f.bias.data[0] = 1e5
    save_checkpoint(tmp_path / "a.npz", model, dtype=np.float32)
    assert load_pretrained(tmp_path / "a.npz")[0].ln_f.bias.data[0] == 1e5


def test_a_missing_model_is_named_with_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.npz.*'play'"):
        load_pretrained(tmp_path / "absent.npz")


# ---- GPT-2's form


@pytest.fixture
def folder(tmp_path):
    save_gpt2(lively(), tmp_path / "mon modèle")
    return tmp_path / "mon modèle"


def edit(folder, **changes):
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in settings.items() if value != "removed"}), encoding="utf-8")


def test_gpt2s_form_comes_back_to_the_bit(folder):
    back = load_gpt2(str(folder))
    assert back.config == CONFIG and not back.training
    assert_same_weights(back.state_dict(), lively().state_dict())
    assert np.array_equal(load_pretrained(folder)[0](IDS)[0].data, back(IDS)[0].data) and load_pretrained(folder)[1] is None


def test_gpt2_keeps_its_matrices_with_inputs_first(folder):
    stored, ours = load_file(folder / "model.safetensors"), lively().state_dict()
    assert stored["transformer.h.0.attn.c_attn.weight"].shape == (8, 24)
    assert np.array_equal(stored["transformer.h.1.mlp.c_fc.weight"], ours["h.1.mlp.c_fc.weight"].T)
    assert np.array_equal(stored["transformer.wte.weight"], ours["wte.weight"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_become_float32(dtype, folder):
    stored = load_file(folder / "model.safetensors")
    save_file({name: w.astype(dtype) for name, w in stored.items()}, folder / "model.safetensors")
    back = load_gpt2(folder).state_dict()
    assert {w.dtype for w in back.values()} == {np.dtype(np.float32)}
    assert_same_weights(back, {name: w.astype(dtype).astype(np.float32) for name, w in lively().state_dict().items()})


@pytest.mark.parametrize(
    "name, value",
    [
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 16),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("tie_word_embeddings", False),
        ("add_cross_attention", True),
        ("model_type", "llama"),
        ("n_positions", "removed"),
    ],
)
def test_a_configuration_of_another_architecture_is_refused_by_name(name, value, folder):
    edit(folder, **{name: value})
    with pytest.raises(ValueError, match=name) as error:
        load_gpt2(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes", [{"n_inner": 32}, {"activation_function": "removed", "layer_norm_epsilon": "removed"}], ids=str
)
def test_gpt2s_own_values_may_be_said_or_left_out(changes, folder):
    edit(folder, **changes)
    assert_same_weights(load_gpt2(folder).state_dict(), lively().state_dict())


def test_missing_and_misshapen_weights_are_listed_together(folder):
    stored = load_file(folder / "model.safetensors")
    del stored["transformer.ln_f.bias"]
    save_file(stored | {"transformer.wpe.weight": np.zeros((5, 8), np.float32)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"ln_f.bias is missing; wpe.weight has shape \(5, 8\)"):
        load_gpt2(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_part_of_the_folder_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_gpt2(folder)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 0.999])
def test_a_truncated_file_of_weights_is_refused(part, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match="isn't a whole safetensors file") as error:
        load_gpt2(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_truncated_configuration_is_refused_by_name(part, folder):
    path = folder / "config.json"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match="config.json"):
        load_gpt2(folder)


def test_a_checkpoint_with_an_older_hash_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a.npz", lively())
    entries = archive.read(tmp_path / "a.npz")
    entries["wte.weight"] = entries["wte.weight"] + np.float16(1)
    np.savez(tmp_path / "a.npz", **entries)
    with pytest.raises(ValueError, match="hash"):
        load_pretrained(tmp_path / "a.npz")
    model, before = GPT(CONFIG), GPT(CONFIG).state_dict()
    with pytest.raises(ValueError, match="hash"):
        model.load_state_dict(np.load(tmp_path / "a.npz"))
    assert_same_weights(model.state_dict(), before)


def test_a_configuration_with_other_sizes_does_not_fit(tmp_path):
    model = lively()
    model.config = dataclasses.replace(CONFIG, n_embd=16)
    save_checkpoint(tmp_path / "a.npz", model)
    with pytest.raises(ValueError, match="don't fit"):
        load_pretrained(tmp_path / "a.npz")


def test_a_frozen_parameter_is_saved_too(tmp_path):
    model = lively()
    model.wpe.weight.requires_grad = False
    save_checkpoint(tmp_path / "a.npz", model, dtype=np.float32)
    loaded, _ = load_pretrained(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded.wpe.weight.data, model.wpe.weight.data)


def test_an_encoding_is_saved_whole_whatever_its_name_and_pattern(tmp_path):
    learned = train_bpe("to be or not to be, that is the question " * 20, 270, name="gpt2")
    letters = tiktoken.Encoding(
        "letters", pat_str=r".", mergeable_ranks=learned._mergeable_ranks, special_tokens=learned._special_tokens
    )
    for encoding in (learned, letters):
        model = GPT(GPTConfig(270, 8, 1, 1, 8))
        save_checkpoint(tmp_path / "a.npz", model, encoding=encoding)
        again = load_pretrained(tmp_path / "a.npz")[1]
        assert again.encode("to be") == encoding.encode("to be") and again.name == encoding.name
