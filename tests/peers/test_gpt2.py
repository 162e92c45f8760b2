"""Our GPT beside transformers' GPT2LMHeadModel on the same weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='compares with PyTorch: pip install -e ".[peers]"')
transformers = pytest.importorskip("transformers", reason='compares with transformers: pip install -e ".[peers]"')

from safetensors.torch import load_file, save_file  # noqa: E402

from tinygpt_lib import GPT, GPTConfig, SamplingSettings, generate, load_gpt2, load_pretrained, save_gpt2, stream  # noqa: E402
from tinygpt_lib.archive import SHIPPED  # noqa: E402

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
SIZES = [  # n_layer, n_head, n_embd, vocab_size, n_positions
    pytest.param((1, 1, 8, 11, 5), id="1-layer"),
    pytest.param((3, 4, 64, 301, 33), id="3-layers"),
    pytest.param((12, 12, 24, 97, 16), id="12-layers"),
]
NAMES = ("n_layer", "n_head", "n_embd", "vocab_size", "n_positions")
close = dict(rtol=0, atol=1e-4)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    """PyTorch's threads and NumPy's wait for each other's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def their_model(size=(2, 2, 16, 31, 9), kind="GPT2LMHeadModel", **settings):
    """A transformers model whose every parameter, biases and norms too, is random and large enough to matter."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(**dict(zip(NAMES, size)), bos_token_id=0, eos_token_id=0, **settings)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def our_model(size=(2, 2, 16, 31, 9)):
    """The same for ours."""
    layers, heads, width, vocab, context = size
    model, rng = GPT(GPTConfig(vocab, context, layers, heads, width, dropout=0.25)), np.random.default_rng(0)
    model.load_state_dict({name: w + rng.normal(0, 0.1, w.shape) for name, w in model.state_dict().items()})
    return model.eval()


def our_form(name, array):
    """Their Conv1D keeps its matrices transposed."""
    return array.T if name.endswith(TRANSPOSED) else array


def assert_same_function(ours, theirs):
    rng, config = np.random.default_rng(1), ours.config
    ids = rng.integers(config.vocab_size, size=(3, config.block_size))
    out = theirs(torch.tensor(ids), labels=torch.tensor(ids))  # they shift the labels themselves
    out.loss.backward()
    np.testing.assert_allclose(ours(ids)[0].data, out.logits.detach().numpy(), **close)
    _, loss = ours(ids[:, :-1], ids[:, 1:])
    assert abs(loss.item() - out.loss.item()) < 1e-4
    loss.backward()
    grads = {name.removeprefix("transformer."): p.grad.numpy() for name, p in theirs.named_parameters()}
    assert grads.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(parameter.grad, our_form(name, grads[name]), **close, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_their_model_opened_here_has_the_same_logits_loss_and_gradients(size, tmp_path):
    theirs = their_model(size)
    theirs.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path)
    assert not ours.training
    assert_same_function(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_our_model_opened_there_has_the_same_logits_loss_and_gradients(size, tmp_path):
    ours = our_model(size)
    save_gpt2(ours, tmp_path)
    theirs, info = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info  # nothing missing, unexpected or misshapen
    assert_same_function(ours, theirs.eval())


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("prompt", ["To be or not to be", "\n", "What, my lord"])
def test_a_shipped_model_writes_the_same_text_there(name, prompt, tmp_path):
    ours, encoding = load_pretrained(name)
    save_gpt2(ours, tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    ids, count = encoding.encode(prompt), 80
    out = theirs.generate(torch.tensor([ids]), attention_mask=torch.ones((1, len(ids)), dtype=torch.long), do_sample=False,
                          max_new_tokens=count, min_new_tokens=count, use_cache=True, pad_token_id=0)  # fmt: skip
    compared = 0
    for step, token in zip(
        stream(ours, ids, SamplingSettings(temperature=0), max_new_tokens=count), out[0, len(ids) :], strict=True
    ):
        second, first = np.partition(step.logits, -2)[-2:]
        if first - second <= 1e-3:
            break  # nearly equal: from here on the texts may part
        assert step.token == token
        compared += 1
    assert compared >= 40


def test_there_and_back_changes_no_bit(tmp_path):
    ours = our_model()
    save_gpt2(ours, tmp_path / "ours")
    transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    back = load_gpt2(tmp_path / "theirs")
    assert back.config == ours.config
    for name, array in ours.state_dict().items():
        assert np.array_equal(array, back.state_dict()[name]), name


def test_our_model_tells_transformers_where_text_ends_and_how_much_to_drop(tmp_path):
    save_gpt2(our_model(), tmp_path)
    config = transformers.GPT2Config.from_pretrained(tmp_path)
    assert config.eos_token_id == 30  # the last of 31 tokens
    assert [config.embd_pdrop, config.attn_pdrop, config.resid_pdrop] == [0.25] * 3


def test_greedy_continuation_is_the_same_there(tmp_path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path)
    ours, ids = load_gpt2(tmp_path), np.array([[3, 1, 4]])
    want = theirs.generate(
        torch.tensor(ids), attention_mask=torch.ones(1, 3), max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    assert generate(ours, ids, 6).data.tolist() == want.tolist()


def test_names_without_the_prefix_are_read(tmp_path):
    theirs = their_model(kind="GPT2Model")  # without a head, its names have no "transformer."
    theirs.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    ours = load_gpt2(tmp_path)
    for name, array in theirs.state_dict().items():
        assert np.array_equal(ours.state_dict()[name], our_form(name, array.numpy())), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool], ids=str)
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_mask_buffers_and_a_copy_of_the_head_are_passed_over(prefix, dtype, tmp_path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path)
    path, mask = tmp_path / "model.safetensors", torch.tril(torch.ones(9, 9)).view(1, 1, 9, 9).to(dtype)
    stored = {prefix + name.removeprefix("transformer."): w for name, w in load_file(path).items()}
    for i in range(2):
        stored |= {f"{prefix}h.{i}.attn.bias": mask.clone(), f"{prefix}h.{i}.attn.masked_bias": torch.tensor(-1e4)}
    save_file(stored | {"lm_head.weight": stored[f"{prefix}wte.weight"].clone()}, path)
    assert_same_function(load_gpt2(tmp_path), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_files_of_half_precision_are_read_exactly(dtype, tmp_path):
    theirs = their_model().to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path).state_dict()
    for name, array in theirs.float().transformer.state_dict().items():
        assert ours[name].dtype == np.float32
        assert np.array_equal(ours[name], our_form(name, array.numpy())), name


@pytest.mark.parametrize(
    "name, value",
    [
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 24),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("tie_word_embeddings", False),
        ("add_cross_attention", True),
    ],
)
def test_their_model_with_another_architecture_is_refused_by_name(name, value, tmp_path):
    their_model(**{name: value}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        load_gpt2(tmp_path)


def test_their_model_with_the_usual_width_spelled_out_is_read(tmp_path):
    theirs = their_model(n_inner=64)
    theirs.save_pretrained(tmp_path)
    assert_same_function(load_gpt2(tmp_path), theirs)
