"""Modules: how they begin, what they find by name, how they take weights."""

import math

import numpy as np
import pytest

from tinygpt_lib import GPT, GPTConfig, Tensor
from tinygpt_lib.nn import Block, CausalSelfAttention, Dropout, Embedding, LayerNorm, Linear, MLP, Module

CONFIG = GPTConfig(vocab_size=20, block_size=8, n_layer=8, n_head=4, n_embd=64, dropout=0.5)


def block():
    return Block(CONFIG, np.random.default_rng(0))


def assert_normal(array, std):
    """Mean 0 and the standard deviation, each within five standard errors of its estimate."""
    n = array.size
    assert abs(array.mean()) < 5 * std / math.sqrt(n)
    assert abs(array.std() - std) < 5 * std / math.sqrt(2 * n)


@pytest.mark.parametrize("name", ["attn.c_attn.weight", "mlp.c_fc.weight"])
def test_matrices_begin_with_standard_deviation_002(name):
    assert_normal(block().state_dict()[name], 0.02)


@pytest.mark.parametrize("name", ["attn.c_proj.weight", "mlp.c_proj.weight"])
def test_projections_into_the_stream_begin_smaller_by_the_root_of_their_number(name):
    assert_normal(block().state_dict()[name], 0.02 / math.sqrt(2 * 8))


def test_embeddings_begin_with_standard_deviation_002():
    assert_normal(Embedding(100, 50, np.random.default_rng(0)).weight.data, 0.02)


def test_biases_begin_at_zero_and_norms_at_one():
    for name, array in block().state_dict().items():
        if name.endswith("bias"):
            assert (array == 0).all(), name
        if name.startswith("ln_") and name.endswith("weight"):
            assert (array == 1).all(), name


def test_linear_is_x_times_the_transpose_plus_bias():
    layer = Linear(2, 3, np.random.default_rng(0))
    layer.load_state_dict({"weight": np.array([[1.0, 0], [0, 2], [3, 4]]), "bias": np.array([0.5, 0, -1])})
    assert layer(Tensor([[1.0, 10.0]])).data.tolist() == [[1.5, 20.0, 42.0]]


def test_layer_norm_by_hand():
    layer = LayerNorm(2)  # (1, 3): mean 2, variance 1, so -1 and 1 but for eps
    np.testing.assert_allclose(layer(Tensor([1.0, 3.0])).data, np.array([-1, 1]) / math.sqrt(1 + 1e-5), rtol=1e-6)


def test_dropout_works_while_training_alone():
    layer, x = Dropout(0.25, np.random.default_rng(0)), Tensor(np.ones(40_000))
    y = layer(x).data
    assert abs((y == 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / y.size)
    np.testing.assert_allclose(y[y != 0], 4 / 3, rtol=1e-6)
    assert layer.eval()(x) is x


def test_block_adds_both_branches_to_the_stream():
    model, x = block().eval(), Tensor(np.random.default_rng(1).normal(size=(2, 5, 64)))
    half = x.data + model.attn(model.ln_1(x)).data
    whole = half + model.mlp(model.ln_2(Tensor(half))).data
    np.testing.assert_allclose(model(x).data, whole, rtol=0, atol=1e-6)


def test_names_are_gpt2s():
    layers = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    assert [name for name, _ in block().named_parameters()] == [
        f"{layer}.{part}" for layer in layers for part in ("weight", "bias")
    ]


@pytest.mark.parametrize(
    "make, count", [(CausalSelfAttention, 4 * 64**2 + 4 * 64), (MLP, 8 * 64**2 + 5 * 64), (Block, 12 * 64**2 + 13 * 64)]
)
def test_number_of_parameters_by_formula(make, count):
    assert make(CONFIG, np.random.default_rng(0)).num_parameters() == count


def test_lists_of_modules_are_found_by_number():
    model = Module()
    model.h = [LayerNorm(1), LayerNorm(1)]
    assert [name for name, _ in model.named_parameters()] == ["h.0.weight", "h.0.bias", "h.1.weight", "h.1.bias"]


def test_train_and_eval_reach_every_module():
    model = block()
    assert model.eval() is model and not any(module.training for module in model.modules())
    assert model.train() is model and all(module.training for module in model.modules())


def test_zero_grad_forgets_every_gradient():
    model = block()
    model(Tensor(np.ones((1, 2, 64)))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_to_changes_the_type_of_parameters_and_of_what_they_compute():
    model = block().to(np.float64)
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    assert model(Tensor(np.ones((1, 2, 64)), dtype=np.float64)).dtype == np.float64


def test_a_replica_has_the_same_parameters():
    for model in (block(), tied()):
        twin = model.replica(np.random.default_rng(1))
        assert all(p is q for (_, p), (_, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True))
        assert not set(map(id, model.modules())) & set(map(id, twin.modules()))


def test_a_replicas_dropout_draws_from_its_own_generator():
    model, x = block(), Tensor(np.ones((1, 8, 64)))
    before = model.attn.rng.bit_generator.state
    first, second = (model.replica(np.random.default_rng(5))(x).data for _ in range(2))
    assert np.array_equal(first, second)
    assert model.attn.rng.bit_generator.state == before


# ---- state_dict and load_state_dict


def test_state_dict_is_a_copy():
    layer = LayerNorm(3)
    layer.state_dict()["weight"][:] = 7
    assert (layer.weight.data == 1).all()


def test_loading_copies():
    layer, state = LayerNorm(3), {"weight": np.full(3, 2.0), "bias": np.zeros(3)}
    layer.load_state_dict(state)
    state["weight"][:] = 7
    assert (layer.weight.data == 2).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_of_any_float_type_become_float32(dtype):
    layer = LayerNorm(3)
    layer.load_state_dict({"weight": np.array([0.5, 1.25, -3], dtype=dtype), "bias": np.zeros(3, dtype=dtype)})
    assert layer.weight.dtype == np.float32 and layer.weight.data.tolist() == [0.5, 1.25, -3]


def test_missing_unexpected_and_misshapen_are_listed_together():
    state = block().state_dict()
    del state["ln_1.bias"]
    state |= {"ln_3.bias": np.zeros(1), "ln_2.bias": np.zeros(65), "mlp.c_fc.weight": np.zeros((64, 256))}
    with pytest.raises(ValueError) as error:
        block().load_state_dict(state)
    told = str(error.value)
    assert "ln_1.bias is missing" in told and "ln_3.bias is unexpected" in told
    assert "ln_2.bias has shape (65,) and must have (64,)" in told and "mlp.c_fc.weight has shape (64, 256)" in told


@pytest.mark.parametrize(
    "bad",
    [{"bias": np.zeros(4)}, {"more": np.zeros(1)}, {"bias": np.array([0, np.nan, 0])}, {"bias": np.array([0, 1, 2])}],
    ids=str,
)
def test_loading_takes_all_or_nothing(bad):
    layer = LayerNorm(3)
    with pytest.raises(ValueError, match="don't fit"):
        layer.load_state_dict({"weight": np.full(3, 2.0), "bias": np.full(3, 2.0)} | bad)
    assert layer.weight.data.tolist() == [1, 1, 1] and layer.bias.data.tolist() == [0, 0, 0]


def test_a_replica_copies_what_is_no_module_as_it_is():
    model = GPT(GPTConfig(10, 4, 1, 1, 4))
    model.notes = ["a"]
    assert model.replica(model.rng).notes == ["a"]


def tied():
    class Tied(Module):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.wte, self.head = Embedding(5, 3, rng), Linear(3, 5, rng)
            self.head.weight = self.wte.weight

        def forward(self, ids):
            return self.head(self.wte(ids))

    return Tied()


def test_a_tensor_that_two_modules_share_is_one_parameter():
    model = tied()
    assert model.num_parameters() == 5 * 3 + 5 and len(model.parameters()) == 2
    assert {"wte.weight", "head.weight"} <= model.state_dict().keys()
