"""Generation: greedy and sampled ids against uncached runs, streaming text, and nothing left changed."""

import inspect
import random

import numpy as np
import pytest

from tinygpt_lib import (
    GPT,
    GPTConfig,
    SamplingSettings,
    Tensor,
    generate,
    generate_text,
    generate_top_k,
    generate_top_p,
    generate_with_temperature,
    no_grad,
    sampling,
    stream,
    train_bpe,
)

TEXT = "the cat sat on the mat – the café, naïve; 你好你好 🙂🙂 the théâtre, la pâte: 你们好 🙃 " * 3
V, BLOCK = 300, 16
SAMPLED = [
    lambda model, idx, n, **o: generate_with_temperature(model, idx, n, 0.9, **o),
    lambda model, idx, n, **o: generate_top_k(model, idx, n, 0.9, 20, **o),
    lambda model, idx, n, **o: generate_top_p(model, idx, n, 0.9, 0.8, **o),
]


@pytest.fixture(scope="module")
def encoding():
    return train_bpe(TEXT, V)


@pytest.fixture
def model():
    """A model with large random weights, so that its distributions are far from even."""
    made = GPT(GPTConfig(vocab_size=V, block_size=BLOCK, n_layer=2, n_head=2, n_embd=32, dropout=0.5))
    rng = np.random.default_rng(0)
    made.load_state_dict({name: rng.normal(0, 0.3, array.shape) for name, array in made.state_dict().items()})
    return made


def prompt_ids(B, T, seed=0):
    return np.random.default_rng(seed).integers(0, V, (B, T))


def last_logits(model, ids):
    """Logits (B, V) of an uncached run on the last block_size tokens, dropout off."""
    modes = [module.training for module in model.modules()]
    logits = model.eval()(ids[:, -model.config.block_size :])[0].data[:, -1]
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return logits


def greedy_by_hand(model, ids, n):
    for _ in range(n):
        ids = np.concatenate([ids, last_logits(model, ids).argmax(axis=-1)[:, None]], axis=1)
    return ids


def sampled_by_hand(model, ids, n, rng):
    """Plain inverse of the cumulative softmax, one uniform a row and step."""
    for _ in range(n):
        z = last_logits(model, ids).astype(np.float64)
        total = np.exp(z - z.max(axis=1, keepdims=True)).cumsum(axis=1)
        token = (total <= rng.random(len(ids))[:, None] * total[:, -1:]).sum(axis=1)
        ids = np.concatenate([ids, token[:, None]], axis=1)
    return ids


def chain_model(followers, encoding, block_size=BLOCK):
    """A model whose likeliest next token is followers[token]: its one MLP holds the table."""
    n = encoding.n_vocab
    made = GPT(GPTConfig(vocab_size=n, block_size=block_size, n_layer=1, n_head=1, n_embd=n, dropout=0.0))
    weights = {name: np.zeros_like(array) for name, array in made.state_dict().items()}
    weights |= {name: np.ones(n) for name in ("h.0.ln_1.weight", "h.0.ln_2.weight", "ln_f.weight")}
    weights["wte.weight"] = np.eye(n)  # token t is the unit vector t, and so is its hidden neuron
    weights["h.0.mlp.c_fc.weight"][:n] = np.eye(n)
    for token, follower in followers.items():
        weights["h.0.mlp.c_proj.weight"][follower, token] = 10
    made.load_state_dict(weights)
    made.encoding = encoding
    return made


def letters(text):
    return list(text.encode())


# ---- the ids


@pytest.mark.parametrize("B, T, n", [(1, 1, 10), (3, 5, 11), (2, BLOCK, 6), (2, 5, 40), (2, 3 * BLOCK, 6)])
def test_greedy_is_the_argmax_of_uncached_logits(model, B, T, n):
    ids = prompt_ids(B, T)
    out = generate(model, ids, n)
    assert isinstance(out, Tensor) and out.dtype == np.int64
    np.testing.assert_array_equal(out.data, greedy_by_hand(model, ids, n))


@pytest.mark.parametrize("B, T, n", [(1, 1, 30), (4, 5, 30), (2, 2 * BLOCK, 6)])
def test_sampling_inverts_the_uncached_distribution(model, B, T, n):
    ids = prompt_ids(B, T)
    out = generate_with_temperature(model, ids, n, seed=5)
    np.testing.assert_array_equal(out.data, sampled_by_hand(model, ids, n, np.random.default_rng(5)))


def test_greedy_batches_are_their_rows_one_by_one(model):
    ids = prompt_ids(5, 4)
    together = generate(model, ids, 20).data
    for row, alone in zip(together, ids, strict=True):
        np.testing.assert_array_equal(row, generate(model, alone[None], 20).data[0])


@pytest.mark.parametrize("form", [Tensor, np.asarray, list, lambda ids: np.asarray(ids, dtype=np.int32)])
def test_ids_come_as_tensor_array_or_list(model, form):
    ids = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(generate(model, form(ids), 4).data, generate(model, np.array(ids), 4).data)


def test_no_new_tokens_give_the_prompt(model, encoding):
    np.testing.assert_array_equal(generate(model, [[1, 2]], 0).data, [[1, 2]])
    assert generate_text(model, "the cat", 0, encoding=encoding) == "the cat"


@pytest.mark.parametrize("function, positional", [
    (generate, {"max_new_tokens": inspect.Parameter.empty}),
    (generate_with_temperature, {"max_new_tokens": inspect.Parameter.empty, "temperature": 1.0}),
    (generate_top_k, {"max_new_tokens": inspect.Parameter.empty, "temperature": 1.0, "top_k": 50}),
    (generate_top_p, {"max_new_tokens": inspect.Parameter.empty, "temperature": 1.0, "top_p": 0.9}),
    (generate_text, {"max_tokens": 100, "temperature": 0.8, "top_k": 50, "top_p": 0.9}),
])  # fmt: skip
def test_signatures_are_the_chapters(function, positional):
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in parameters[:2]] == ["model", "prompt" if function is generate_text else "idx"]
    assert {p.name: p.default for p in parameters[2:]} == positional


def test_arguments_may_be_given_by_position_or_name(model, encoding):
    def same(a, b):
        np.testing.assert_array_equal(a.data, b.data)

    ids = prompt_ids(1, 3)
    same(generate(model, ids, 9), generate(model, idx=ids, max_new_tokens=9))
    same(generate_with_temperature(model, ids, 9, 2.0, seed=1), generate_with_temperature(model, ids, 9, temperature=2.0, seed=1))
    same(generate_top_k(model, ids, 9, 2.0, 7, seed=1), generate_top_k(model, ids, 9, top_k=7, temperature=2.0, seed=1))
    same(generate_top_p(model, ids, 9, 2.0, 0.7, seed=1), generate_top_p(model, ids, 9, top_p=0.7, temperature=2.0, seed=1))
    by_name = generate_text(model, "the", max_tokens=9, temperature=2.0, top_k=7, top_p=0.7, seed=1, encoding=encoding)
    assert generate_text(model, "the", 9, 2.0, 7, 0.7, seed=1, encoding=encoding) == by_name


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 0}, {"min_p": 1}])
def test_every_road_to_one_choice_is_greedy(model, options):
    ids = prompt_ids(3, 4)
    np.testing.assert_array_equal(
        generate_with_temperature(model, ids, 20, seed=0, **options).data, generate(model, ids, 20).data
    )


def test_filters_that_are_off_leave_temperature_sampling(model):
    ids = prompt_ids(2, 4)
    plain = generate_with_temperature(model, ids, 20, 1.3, seed=2).data
    np.testing.assert_array_equal(generate_top_k(model, ids, 20, 1.3, None, seed=2).data, plain)
    np.testing.assert_array_equal(generate_top_p(model, ids, 20, 1.3, 1.0, seed=2).data, plain)


@pytest.mark.parametrize("function", SAMPLED)
def test_a_seed_repeats_and_is_the_generator_made_from_it(model, function):
    ids = prompt_ids(2, 4)
    first = function(model, ids, 20, seed=3).data
    np.testing.assert_array_equal(function(model, ids, 20, seed=3).data, first)
    np.testing.assert_array_equal(function(model, ids, 20, rng=np.random.default_rng(3)).data, first)
    assert (function(model, ids, 20, seed=4).data != first).any()
    assert (function(model, ids, 20).data != function(model, ids, 20).data).any()


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9}])
def test_one_uniform_is_used_for_each_row_and_step(model, options):
    rng, other = np.random.default_rng(7), np.random.default_rng(7)
    generate_with_temperature(model, prompt_ids(3, 4), 11, rng=rng, **options)
    other.random(3 * 11)
    assert rng.bit_generator.state == other.bit_generator.state


def test_repetition_penalty_counts_prompt_and_new_tokens(model):
    out = generate(model, [[5, 6]], 60, repetition_penalty=1e9).data[0]
    assert len(set(out)) == len(out)  # a large penalty leaves no likeliest token that was there before


# ---- end-of-text


def test_rows_that_ended_are_filled_with_end_of_text():
    encoding = train_bpe("", 257)
    a, b, c, d, end = *letters("abcd"), encoding.eot_token
    model = chain_model({a: b, b: end, end: d, d: c, c: c}, encoding)
    out = generate(model, [[d, a], [a, b], [c, d]], 4, stop_at_eot=True).data
    np.testing.assert_array_equal(out, [[d, a, b, end, end, end], [a, b, end, end, end, end], [c, d, c, c, c, c]])


def test_stopping_early_happens_only_if_asked_and_when_all_rows_ended():
    encoding = train_bpe("", 257)
    a, b, d, end = *letters("abd"), encoding.eot_token
    model = chain_model({a: b, b: end, end: d, d: d}, encoding)
    np.testing.assert_array_equal(generate(model, [[a], [b]], 50, stop_at_eot=True).data, [[a, b, end], [b, end, end]])
    np.testing.assert_array_equal(generate(model, [[a], [b]], 4).data, [[a, b, end, d, d], [b, end, d, d, d]])


def test_stopping_needs_an_encoding(model):
    with pytest.raises(ValueError, match="encoding"):
        generate(model, [[1]], 3, stop_at_eot=True)


# ---- the stream


def test_a_stream_of_one_text_gives_ints_and_strings(model, encoding):
    for step in stream(model, [1, 2, 3], max_new_tokens=5, seed=0, encoding=encoding):
        assert isinstance(step.token, int) and isinstance(step.text, str)
        assert step.trace.final.shape == (V,) and step.trace.final[step.token] > 0


def test_a_stream_of_a_batch_gives_arrays_and_lists(model, encoding):
    for step in stream(model, prompt_ids(3, 4), max_new_tokens=5, seed=0, encoding=encoding):
        assert step.token.shape == (3,) and [type(text) for text in step.text] == [str] * 3
        assert step.trace.final.shape == (3, V)


def test_a_steps_trace_shows_the_uncached_distribution(model):
    settings, ids = SamplingSettings(temperature=0.7, top_k=9, repetition_penalty=1.2), prompt_ids(2, 3)
    for step in stream(model, ids, settings, max_new_tokens=25, seed=0):
        logits = last_logits(model, ids)
        np.testing.assert_allclose(step.logits, logits, atol=1e-4)
        np.testing.assert_allclose(step.trace.raw, sampling.softmax(logits), atol=1e-4)
        np.testing.assert_array_equal(step.trace.kept["top_k"].sum(axis=1), 9)
        ids = np.concatenate([ids, step.token[:, None]], axis=1)


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [[1, 2, 3, 4], [4, 3, 2, 1]]])
def test_a_step_holds_no_more_than_its_own_logits(model, ids):
    for step in stream(model, ids, max_new_tokens=8, seed=0):
        whole = step.logits if step.logits.base is None else step.logits.base
        assert whole.size == len(np.atleast_2d(ids)) * model.config.vocab_size


def test_a_stream_goes_on_until_its_reader_stops(model):
    steps = stream(model, [1], seed=0)
    assert len([next(steps) for _ in range(3 * BLOCK)]) == 3 * BLOCK


@pytest.mark.parametrize("seed", range(8))
def test_streamed_texts_join_to_the_decoded_ids(model, encoding, seed):
    ids, pieces = [], []
    for step in stream(model, [1], SamplingSettings(temperature=3), max_new_tokens=150, seed=seed, encoding=encoding):
        step.text.encode("utf-8")  # a lone surrogate, half a character, would raise
        ids.append(step.token)
        pieces.append(step.text)
    expected = encoding.decode([i for i in ids if i != encoding.eot_token])
    assert "".join(pieces) == expected and "\ufffd" in expected


def test_streamed_rows_join_to_their_own_decoded_ids(model, encoding):
    steps = list(stream(model, prompt_ids(4, 2), SamplingSettings(temperature=3), max_new_tokens=60, seed=1, encoding=encoding))
    for i in range(4):
        ids = [int(step.token[i]) for step in steps if step.token[i] != encoding.eot_token]
        assert "".join(step.text[i] for step in steps) == encoding.decode(ids)


def test_a_character_is_printed_when_its_last_byte_is_there():
    encoding = train_bpe("", 257)
    data = "x🙂é".encode()
    model = chain_model(dict(zip(data, data[1:])), encoding)
    texts = [step.text for step in stream(model, [data[0]], SamplingSettings(temperature=0), max_new_tokens=6, encoding=encoding)]
    assert texts == ["", "", "", "🙂", "", "é"]


def test_bytes_that_stay_incomplete_are_printed_as_one_sign_at_the_end():
    encoding = train_bpe("", 257)
    data = "x🙂".encode()
    model = chain_model(dict(zip(data, data[1:])), encoding)
    texts = [step.text for step in stream(model, [data[0]], SamplingSettings(temperature=0), max_new_tokens=3, encoding=encoding)]
    assert texts == ["", "", "\ufffd"]


# ---- nothing is left changed


def snapshot(model):
    return [module.training for module in model.modules()], model.state_dict(), model.rng.bit_generator.state


def assert_unchanged(model, before):
    modes, weights, rng_state = before
    assert [module.training for module in model.modules()] == modes
    assert all((model.state_dict()[name] == array).all() for name, array in weights.items())
    assert model.rng.bit_generator.state == rng_state
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def set_modes(model, modes):
    """All in training, all not, or some of each."""
    model.train(modes != "eval")
    if modes == "mixed":
        model.h[1].eval()
        model.drop.training = False


@pytest.mark.parametrize("modes", ["train", "eval", "mixed"])
@pytest.mark.parametrize("function", [generate, *SAMPLED])
def test_model_and_callers_ids_stay_as_they_were(model, modes, function):
    set_modes(model, modes)
    ids, before = prompt_ids(2, 20), snapshot(model)
    ids.flags.writeable = False
    out = function(model, ids, 5)
    out.data[:] = 0
    assert_unchanged(model, before)
    np.testing.assert_array_equal(ids, prompt_ids(2, 20))


@pytest.mark.parametrize("modes", ["train", "mixed"])
def test_modes_are_as_before_between_steps_and_after_a_stream_is_abandoned(model, modes):
    set_modes(model, modes)
    before, steps = snapshot(model), stream(model, [1, 2], seed=0)
    for _ in range(3):
        next(steps)
        assert_unchanged(model, before)
    steps.close()
    assert_unchanged(model, before)


@pytest.mark.parametrize("modes", ["train", "mixed"])
def test_modes_are_as_before_after_an_error(model, modes):
    def fail(*_, **__):
        raise RuntimeError("on purpose")

    set_modes(model, modes)
    before, steps = snapshot(model), stream(model, [1, 2], seed=0)
    next(steps)
    model.forward = fail
    with pytest.raises(RuntimeError, match="on purpose"):
        next(steps)
    assert_unchanged(model, before)
    assert (Tensor([1.0], requires_grad=True) * 2).requires_grad


def test_dropout_is_off_while_generating(model):
    ids = prompt_ids(1, 4)
    np.testing.assert_array_equal(generate(model.train(), ids, 10).data, generate(model.eval(), ids, 10).data)


def test_gradients_are_recorded_or_not_between_steps_as_the_reader_has_it(model):
    x = Tensor([1.0], requires_grad=True)
    steps = stream(model, [1, 2], seed=0)
    for _ in range(2):
        next(steps)
        assert (x * 2).requires_grad
        with no_grad():
            next(steps)
            assert not (x * 2).requires_grad
        assert (x * 2).requires_grad
    steps.close()
    assert (x * 2).requires_grad


def test_global_random_states_are_untouched(model, encoding):
    before, python = np.random.get_state(), random.getstate()
    generate_top_k(model, [[1, 2]], 5)
    generate_text(model, "the", 5, encoding=encoding, seed=0)
    after = np.random.get_state()
    assert before[0] == after[0] and (before[1] == after[1]).all() and before[2:] == after[2:]
    assert random.getstate() == python


# ---- generate_text


def test_text_is_the_prompt_and_the_decoded_ids(model, encoding):
    prompt = "the café – 你好"
    ids = encoding.encode(prompt)
    out = generate_top_k(model, [ids], 60, 0.8, 50, top_p=0.9, seed=4, encoding=encoding, stop_at_eot=True).data[0, len(ids) :]
    new = [int(i) for i in out if i != encoding.eot_token]
    assert generate_text(model, prompt, 60, seed=4, encoding=encoding) == prompt + encoding.decode(new)


@pytest.mark.parametrize("prompt", ["\n", "  two  spaces ", "end\n\n", "e\u0301 and é", "tab\t", "\u00a0", "🙂", "a\r\nb"])
def test_the_prompt_is_kept_as_it_is(model, encoding, prompt):
    assert generate_text(model, prompt, 5, encoding=encoding, seed=0).startswith(prompt)


def test_text_stops_at_end_of_text_and_leaves_it_out():
    encoding = train_bpe("", 257)
    a, b, c = letters("abc")
    model = chain_model({a: b, b: c, c: encoding.eot_token, encoding.eot_token: a}, encoding)
    assert generate_text(model, "a", temperature=0) == "abc"
    assert generate_text(model, "a", 1, temperature=0) == "ab"


def test_end_of_text_in_a_prompt_is_read_as_the_token_and_kept():
    encoding = train_bpe("", 257)
    a, b, x = letters("abx")
    model = chain_model({encoding.eot_token: x, x: x, a: b, ord(">"): b}, encoding)
    assert generate_text(model, "a<|endoftext|>", 2, temperature=0) == "a<|endoftext|>xx"


def test_the_encoding_given_comes_before_the_models_own():
    own, other = train_bpe("ababab", 258), train_bpe("xyxyxy", 258)  # the one merge is token 256
    model = chain_model({ord("a"): 256}, own)
    assert generate_text(model, "a", 1, temperature=0) == "aab"
    assert generate_text(model, "a", 1, temperature=0, encoding=other) == "axy"
    assert model.encoding is own


def test_without_an_encoding_the_error_says_what_to_pass(model):
    with pytest.raises(ValueError, match="encoding="):
        generate_text(model, "the")


def test_a_model_of_gpt2s_size_reads_gpt2s_tokens(gpt2_encoding):
    model = GPT(GPTConfig(vocab_size=50257, block_size=8, n_layer=1, n_head=1, n_embd=8))
    text = generate_text(model, "To be or not to be", 3, seed=0)
    assert text == generate_text(model, "To be or not to be", 3, seed=0, encoding=gpt2_encoding)
    ids = generate_top_k(model, [gpt2_encoding.encode("To be or not to be")], 3, 0.8, 50, top_p=0.9, seed=0).data[0]
    assert text == gpt2_encoding.decode(ids.tolist())


def test_vocabularies_of_different_sizes_are_an_error(model):
    small = train_bpe("", 257)
    with pytest.raises(ValueError, match="257.*300|300.*257"):
        generate_text(model, "the", encoding=small)
    model.encoding = small
    with pytest.raises(ValueError, match="257.*300|300.*257"):
        generate_text(model, "the")


# ---- what is refused


@pytest.mark.parametrize(
    "prompt, error", [("", ValueError), (None, TypeError), (b"the", TypeError), ([1, 2], TypeError), (3, TypeError)]
)
def test_a_prompt_must_be_a_string_with_something_in_it(model, encoding, prompt, error):
    with pytest.raises(error, match="prompt"):
        generate_text(model, prompt, encoding=encoding)


@pytest.mark.parametrize("ids, error", [
    ([[]], ValueError), ([], ValueError), ([1, 2], ValueError), (np.zeros((1, 2, 3), dtype=int), ValueError),
    ([[V]], ValueError), ([[-1]], ValueError), ([[1.5]], TypeError), ([["a"]], TypeError), ([[1, 2], [3]], ValueError),
])  # fmt: skip
def test_ids_must_be_a_batch_of_the_models_tokens(model, ids, error):
    with pytest.raises(error):
        generate(model, ids, 3)


@pytest.mark.parametrize("count", [-1, 2.5, "3", None])
def test_the_number_of_new_tokens_must_be_a_whole_one(model, encoding, count):
    with pytest.raises((ValueError, TypeError)):
        generate(model, [[1]], count)
    with pytest.raises((ValueError, TypeError)):
        generate_text(model, "the", count, encoding=encoding)


@pytest.mark.parametrize("name, value", [("temperature", -1), ("top_k", -1), ("top_p", 2), ("min_p", -1), ("typical_p", 0),
                                         ("repetition_penalty", 0)])  # fmt: skip
def test_settings_out_of_range_are_refused(model, encoding, name, value):
    with pytest.raises(ValueError, match=name):
        generate_text(model, "the", 2, encoding=encoding, **{name: value})


def test_seed_and_rng_together_are_refused(model):
    for function in (generate, *SAMPLED):
        with pytest.raises(ValueError, match="seed"):
            function(model, [[1]], 3, seed=0, rng=np.random.default_rng(0))


@pytest.mark.parametrize("rng", [0, np.random, np.random.RandomState(0)])
def test_rng_must_be_a_generator(model, rng):
    with pytest.raises(TypeError, match="default_rng"):
        generate_with_temperature(model, [[1]], 3, rng=rng)


def test_an_option_that_does_not_exist_is_refused(model):
    with pytest.raises(TypeError, match="topk"):
        generate_with_temperature(model, [[1]], 3, topk=5)


def test_logits_that_are_not_numbers_are_refused(model):
    model.ln_f.weight.data[:] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        generate(model, [[1]], 3)


def test_an_option_that_is_not_there_is_named_with_those_that_are():
    model = GPT(GPTConfig(10, 4, 1, 1, 4))
    for options in ({"temprature": 1}, {"temperature": 0.5}):
        with pytest.raises(TypeError, match=f"no option {next(iter(options))} here: choose among .*top_k"):
            generate(model, [[1]], 2, **options)
