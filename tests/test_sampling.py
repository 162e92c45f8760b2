"""Sampling: the pinned table of semantics, properties on random logits, and the draw."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinygpt_lib import SamplingSettings, draw, sampling, trace

P = np.log([0.1, 0.2, 0.3, 0.4])
HALVES = np.log([0.5, 0.25, 0.125, 0.125])  # surprises of 1, 2, 3 and 3 bits, so an entropy of 1.75
INF = math.inf

TABLE = [
    (P, {}, [0.1, 0.2, 0.3, 0.4]),
    (P, {"temperature": 0}, [0, 0, 0, 1]),
    ([7, 7, 7, 7], {"temperature": 0}, [1, 0, 0, 0]),
    (P, {"temperature": 0.5}, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
    (P, {"top_k": 3}, [0, 2 / 9, 3 / 9, 4 / 9]),
    (P, {"top_k": 0}, [0.1, 0.2, 0.3, 0.4]),
    (P, {"top_k": None}, [0.1, 0.2, 0.3, 0.4]),
    (P, {"top_k": 99}, [0.1, 0.2, 0.3, 0.4]),
    ([7, 7, 7, 7], {"top_k": 2}, [1 / 2, 1 / 2, 0, 0]),
    ([1, -INF, 1, -INF], {"top_k": 3}, [1 / 2, 0, 1 / 2, 0]),
    (P, {"top_p": 0.7}, [0, 0, 3 / 7, 4 / 7]),
    (P, {"top_p": 0.8}, [0, 2 / 9, 3 / 9, 4 / 9]),
    (P, {"top_p": 0.7 + 5e-8}, [0, 0, 3 / 7, 4 / 7]),  # within the tolerance of 1e-7
    (P, {"top_p": 0.7 + 2e-7}, [0, 2 / 9, 3 / 9, 4 / 9]),  # and beyond it
    (P, {"top_p": 0}, [0, 0, 0, 1]),
    (P, {"top_p": 1}, [0.1, 0.2, 0.3, 0.4]),
    (np.log([0.3, 0.1, 0.1, 0.5]), {"top_p": 0.8}, [3 / 8, 0, 0, 5 / 8]),
    ([7] * 1000, {"top_p": 0.9}, [1 / 900] * 900 + [0] * 100),
    (P, {"min_p": 0.51}, [0, 0, 3 / 7, 4 / 7]),
    (P, {"min_p": 0.5}, [0, 2 / 9, 3 / 9, 4 / 9]),
    (P, {"min_p": 0.75 * (1 + 5e-8)}, [0, 0, 3 / 7, 4 / 7]),
    (P, {"min_p": 0.75 * (1 + 2e-7)}, [0, 0, 0, 1]),
    (P, {"min_p": 0}, [0.1, 0.2, 0.3, 0.4]),
    ([7, 7, 6], {"min_p": 1}, [1 / 2, 1 / 2, 0]),
    (HALVES, {"typical_p": 0.25}, [0, 1, 0, 0]),  # |surprise - entropy| is .75, .25, 1.25, 1.25 bits
    (HALVES, {"typical_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
    (HALVES, {"typical_p": 0.8}, [4 / 7, 2 / 7, 1 / 7, 0]),
    (HALVES, {"typical_p": 1}, [0.5, 0.25, 0.125, 0.125]),
]

TWO_STAGES = [  # each would end otherwise in another order, or without renormalising between
    ([3, 2, 1], {"temperature": 0.5, "top_p": 0.8}, [1, 0, 0]),
    (P, {"temperature": 0.5, "min_p": 0.6}, [0, 0, 0, 1]),
    (P, {"top_k": 2, "top_p": 0.5}, [0, 0, 0, 1]),
    (P, {"top_p": 0.5, "min_p": 0.51}, [0, 0, 3 / 7, 4 / 7]),
    (HALVES, {"min_p": 0.5, "typical_p": 0.2}, [1, 0, 0, 0]),
    (HALVES, {"top_k": 2, "typical_p": 0.2}, [1, 0, 0, 0]),
]

REFUSED = {
    "temperature": [-1, -1e-9, math.nan, INF, "1"],
    "top_k": [-1, 2.5, 3.0, "3", math.nan],
    "top_p": [-0.1, 1.1, math.nan, INF, "1"],
    "min_p": [-0.1, 1.1, math.nan, INF, None],
    "typical_p": [0, -0.1, 1.1, math.nan],
    "repetition_penalty": [0, -1, math.nan, None, 1e-310, 1e308],
}
OFF = {"temperature": 1, "top_k": None, "top_p": 1, "min_p": 0, "typical_p": 1}
EXTREMES = (0.0, 2**-53, 0.5, 1 - 2**-52, 1 - 2**-53)  # what rng.random() can give at its ends


def probabilities(logits):
    """Softmax in plain Python, summed exactly."""
    e = [math.exp(x - max(logits)) for x in logits]
    return [x / math.fsum(e) for x in e]


def ids_kept(logits):
    return set(np.flatnonzero(np.isfinite(logits)))


def apply(name, logits, value):
    """A stage by its name; repetition_penalty with tokens 0 and 1 as the text so far."""
    if name != "repetition_penalty":
        return getattr(sampling, name)(logits, value)
    seen = [0, 1] if np.ndim(logits) == 1 else [[0, 1]] * len(logits)
    return sampling.repetition_penalty(logits, seen, value)


# ---- the table


@pytest.mark.parametrize("logits, options, expected", TABLE + TWO_STAGES)
def test_final_probabilities_are_those_of_the_table(logits, options, expected):
    final = trace(logits, SamplingSettings(**options)).final
    np.testing.assert_allclose(final, expected, rtol=0, atol=1e-12)
    assert final.dtype == np.float64


@pytest.mark.parametrize("logits, options, expected", TABLE + TWO_STAGES)
def test_a_batch_is_its_rows_one_by_one(logits, options, expected):
    rows = np.stack([logits, np.roll(logits, 1), np.zeros(len(logits))])
    together = trace(rows, SamplingSettings(**options))
    np.testing.assert_allclose(together.final[0], expected, rtol=0, atol=1e-12)
    for i, row in enumerate(rows):
        alone = trace(row, SamplingSettings(**options))
        for name in ("raw", "scaled", "final", "order", "entropy", "effective_choices", "kept_mass"):
            np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name), rtol=1e-12)
        assert all((together.kept[name][i] == kept).all() for name, kept in alone.kept.items())


@pytest.mark.parametrize("logits, options, expected", [row for row in TABLE if len(row[1]) == 1])
def test_each_function_alone_gives_its_row_of_the_table(logits, options, expected):
    ((name, value),) = options.items()
    logits = np.asarray(logits, dtype=float)
    alone = getattr(sampling, name)(logits, value)
    batch = getattr(sampling, name)(np.stack([logits, logits]), value)
    np.testing.assert_allclose(sampling.softmax(alone), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(batch, [alone, alone])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_every_function_computes_in_float64(dtype):
    logits = np.array([3, 2, 1], dtype=dtype)
    for name, values in {**OFF, "repetition_penalty": 1.5}.items():
        assert apply(name, logits, values).dtype == np.float64
    assert sampling.softmax(logits).dtype == np.float64


def test_repetition_penalty_moves_each_seen_token_once():
    penalised = sampling.repetition_penalty([2, -2, 1, 0], [0, 1, 0, 1, 3], 2)
    np.testing.assert_array_equal(penalised, [1, -4, 1, 0])


def test_repetition_penalty_takes_the_text_of_each_row():
    penalised = sampling.repetition_penalty([[2.0, -2.0], [2.0, -2.0]], [[0, 0], [1, 1]], 2)
    np.testing.assert_array_equal(penalised, [[1, -2], [2, -4]])


def test_repetition_penalty_of_no_text_changes_nothing():
    np.testing.assert_array_equal(sampling.repetition_penalty(P, [], 2), P)
    np.testing.assert_array_equal(trace(P, SamplingSettings(repetition_penalty=2)).final, sampling.softmax(P))


def test_repetition_penalty_comes_before_greedy():
    greedy = SamplingSettings(repetition_penalty=2, temperature=0)
    np.testing.assert_array_equal(trace([2, 1.5, 0], greedy, seen=[0]).final, [0, 1, 0])


@pytest.mark.parametrize("seen", [[-1], [4], [0, 99]])
def test_repetition_penalty_refuses_ids_outside_the_vocabulary(seen):
    with pytest.raises(ValueError):
        sampling.repetition_penalty(P, seen, 2)


# ---- what is refused, and what is legal


@pytest.mark.parametrize("name, value", [(name, value) for name, values in REFUSED.items() for value in values])
def test_values_out_of_range_are_refused_by_settings_and_functions(name, value):
    with pytest.raises(ValueError, match=name):
        SamplingSettings(**{name: value})
    with pytest.raises(ValueError, match=name):
        apply(name, P, value)


@pytest.mark.parametrize("bad", [[1, math.nan, 2], [1, INF, 2], [-INF] * 3, [math.nan] * 3, [INF, -INF, 0]])
@pytest.mark.parametrize("name, value", [("temperature", 0.5), ("temperature", 0), ("repetition_penalty", 2), *OFF.items()])
def test_nan_and_infinity_and_nothing_to_choose_are_refused(name, value, bad):
    for logits in (bad, [[1, 2, 3], bad]):
        with pytest.raises(ValueError):
            apply(name, np.array(logits, dtype=float), value)


@pytest.mark.parametrize("logits", [[math.nan, 1], [INF, 1], [-INF, -INF], [], [[]], 1.0, np.zeros((2, 2, 2))])
def test_trace_refuses_what_is_no_distribution(logits):
    with pytest.raises(ValueError):
        trace(logits, SamplingSettings())


def test_trace_needs_settings():
    with pytest.raises(TypeError):
        trace(P, {"top_k": 3})


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        SamplingSettings().top_k = 3


ANY_WAY = [{}, {"temperature": 0}, {"temperature": 1e-9}, {"temperature": 2}, {"top_p": 0.3}, {"min_p": 0.3}, {"typical_p": 0.3}]


@pytest.mark.parametrize("options", ANY_WAY)
def test_banned_tokens_are_never_chosen(options):
    final = trace([-INF, 2, 1, -INF], SamplingSettings(**options)).final
    assert final[0] == final[3] == 0 and final.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name, value", [
    ("temperature", 0), ("temperature", 0.5), ("temperature", 1e-320), ("top_k", 2), ("top_p", 0.6), ("min_p", 0.6),
    ("typical_p", 0.5), ("repetition_penalty", 2),
])  # fmt: skip
def test_the_input_is_left_as_it_was(name, value):
    for logits in (P.copy(), np.stack([P, P]), np.stack([P, P]).astype(np.float32)):
        before = logits.copy()
        logits.flags.writeable = False
        apply(name, logits, value)
        assert trace(logits, SamplingSettings(**{name: value})).final.shape == logits.shape
        np.testing.assert_array_equal(logits, before)


# ---- temperature's extremes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("T", [1e-6, 1e-45, 1e-300, 1e-307, 2e-308, 1e-308, 6e-309, 1e-320, 5e-324])
def test_tiny_temperatures_end_where_greedy_is(T):
    for logits in ([1.0, 3.0, 2.0, -3.0], [-1.0, -0.5, -700.0, -INF], [0.0, 1e-3, -1e4, 0.0], [-1.0, 1.0]):
        final = trace(logits, SamplingSettings(temperature=T)).final
        np.testing.assert_array_equal(final, [0, 1, 0, 0][: len(logits)])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("T", [1e-6, 1e-300, 1e-308, 5e-324])
def test_equal_logits_share_at_tiny_temperatures(T):
    np.testing.assert_array_equal(trace([5.0, 2.0, 5.0], SamplingSettings(temperature=T)).final, [0.5, 0, 0.5])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("T", [1e15, 1e300, 1.7e308])
def test_huge_temperatures_end_in_chance(T):
    final = trace([30.0, 0.0, -INF, -30.0], SamplingSettings(temperature=T)).final
    np.testing.assert_allclose(final, [1 / 3, 1 / 3, 0, 1 / 3], rtol=0, atol=1e-12)


def test_greedy_takes_the_lowest_of_equal_ids_in_each_row():
    final = trace([[1, 5, 5], [9, 9, 9], [0, 1, 2]], SamplingSettings(temperature=0)).final
    np.testing.assert_array_equal(final, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


# ---- the trace


def test_a_trace_keeps_what_had_been_seen():
    seen = [0]
    found = trace([2.0, 1.0, 0.0], SamplingSettings(repetition_penalty=2), seen)
    seen.append(1)
    np.testing.assert_allclose(found.final, np.exp([1, 1, 0]) / np.exp([1, 1, 0]).sum())


def test_trace_shows_every_stage():
    t = trace(P, SamplingSettings(temperature=0.5, top_k=3, top_p=0.8))  # 1, 4, 9 and 16 thirtieths after temperature
    np.testing.assert_allclose(t.raw, [0.1, 0.2, 0.3, 0.4], atol=1e-12)
    np.testing.assert_allclose(t.scaled, np.array([1, 4, 9, 16]) / 30, atol=1e-12)
    assert {name: list(kept) for name, kept in t.kept.items()} == {
        "top_k": [False, True, True, True],
        "top_p": [False, False, True, True],  # 25 of 29 is more than 0.8
    }
    assert list(t.kept) == ["top_k", "top_p"]
    np.testing.assert_allclose(t.final, [0, 0, 9 / 25, 16 / 25], atol=1e-12)
    assert t.kept_mass == pytest.approx(25 / 30, abs=1e-12)


def test_trace_orders_tokens_from_the_likeliest_and_ties_by_id():
    np.testing.assert_array_equal(trace(P, SamplingSettings()).order, [3, 2, 1, 0])
    np.testing.assert_array_equal(trace([[1, 2, 1, 2]], SamplingSettings()).order, [[1, 3, 0, 2]])


@pytest.mark.parametrize("logits, bits", [([4.0] * 8, 3), (HALVES, 1.75), ([5.0, -INF], 0), ([5.0, 5.0, -INF], 1)])
def test_entropy_is_in_bits(logits, bits):
    t = trace(logits, SamplingSettings())
    assert t.entropy == pytest.approx(bits, abs=1e-12)
    assert t.effective_choices == pytest.approx(2**bits, abs=1e-12)


def test_sample_gives_an_int_for_one_row_and_uses_one_uniform_a_row():
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    assert isinstance(sampling.sample(P, SamplingSettings(), rng), int)
    assert sampling.sample([P] * 4, SamplingSettings(top_k=2), rng).shape == (4,)
    other.random(5)
    assert rng.bit_generator.state == other.bit_generator.state


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_top_k_counts_alike_in_every_type_of_whole_number(kind):
    row = np.arange(300, dtype=np.float32)
    assert ids_kept(sampling.top_k(row, kind(200))) == set(range(100, 300))
    assert sampling.sample(row, SamplingSettings(top_k=kind(200)), Fixed(0.0)) == 100  # the lowest id that is kept


# ---- properties on random logits

banned = st.just(-INF)
steps = st.integers(-40, 40).map(lambda n: n / 4)  # a grid, so that there are ties
grids = st.lists(steps | steps | banned, min_size=1, max_size=30).filter(lambda row: max(row) > -INF)
rows = grids.map(lambda row: np.array(row, dtype=float))
fractions = st.floats(0, 1)
properties = settings(max_examples=150, deadline=None, derandomize=True)
any_settings = st.builds(
    SamplingSettings,
    temperature=st.just(0.0) | st.just(1.0) | st.floats(0.01, 100),
    top_k=st.none() | st.integers(0, 35),
    top_p=fractions | st.just(1.0),
    min_p=fractions | st.just(0.0),
    typical_p=st.floats(0.01, 1) | st.just(1.0),
    repetition_penalty=st.just(1.0) | st.floats(0.1, 10),
)


@properties
@given(rows, any_settings)
def test_each_filter_keeps_a_part_of_what_was_there_and_never_nothing(row, settings):
    t = trace(row, settings, seen=[0])
    left = ids_kept(row)
    for kept in t.kept.values():
        now = set(np.flatnonzero(kept))
        assert now and now <= left
        left = now
    assert set(np.flatnonzero(t.final)) <= left


@properties
@given(rows, any_settings)
def test_final_sums_to_one_and_is_zero_where_cut(row, settings):
    t = trace(row, settings, seen=[0])
    assert math.fsum(t.final) == pytest.approx(1, abs=1e-12)
    assert (t.final >= 0).all() and (t.final[np.isinf(row)] == 0).all()
    for kept in t.kept.values():
        assert (t.final[~kept] == 0).all()


@properties
@given(rows, any_settings)
def test_measures_of_the_trace_follow_their_formulas(row, settings):
    t = trace(row, settings, seen=[0])
    entropy = math.fsum(-p * math.log2(p) for p in t.final if p > 0)
    mass = math.fsum(p for p, f in zip(t.scaled, t.final, strict=True) if f > 0)
    assert t.entropy == pytest.approx(entropy, abs=1e-9) and t.entropy >= 0
    assert t.effective_choices == pytest.approx(2**entropy, rel=1e-9)
    assert t.kept_mass == pytest.approx(mass, abs=1e-12)
    np.testing.assert_allclose(t.raw, probabilities(row), rtol=0, atol=1e-12)


@properties
@given(rows, st.floats(0.01, 100))
def test_temperature_divides_the_logits(row, T):
    np.testing.assert_allclose(sampling.softmax(sampling.temperature(row, T)), probabilities(list(row / T)), rtol=0, atol=1e-12)


@properties
@given(rows, st.integers(1, 35))
def test_top_k_keeps_exactly_the_first_k_with_ties_by_id(row, k):
    finite = [i for i in range(len(row)) if row[i] > -INF]
    expected = set(sorted(finite, key=lambda i: (-row[i], i))[:k])
    kept = sampling.top_k(row, k)
    assert ids_kept(kept) == expected
    assert all(kept[i] == row[i] for i in expected)


@properties
@given(rows, st.floats(0, 0.999))
def test_top_p_keeps_a_prefix_of_the_stable_order(row, p):
    kept = ids_kept(sampling.top_p(row, p))
    by_likelihood = sorted(range(len(row)), key=lambda i: (-row[i], i))
    assert kept == set(by_likelihood[: len(kept)])


@properties
@given(rows, st.floats(0, 0.999))
def test_top_p_reaches_p_and_would_not_without_its_least_likely_token(row, p):
    probs, kept = probabilities(row), ids_kept(sampling.top_p(row, p))
    mass = math.fsum(probs[i] for i in kept)
    assert mass >= p - 1e-7 - 1e-12
    assert len(kept) == 1 or mass - min(probs[i] for i in kept) < p - 1e-7 + 1e-12


@properties
@given(rows, fractions)
def test_min_p_compares_with_the_likeliest(row, p):
    ratios = np.array(probabilities(row)) / max(probabilities(row))
    assume((abs(ratios - p * (1 - 1e-7)) > 1e-12).all())
    expected = {i for i in ids_kept(row) if ratios[i] >= p * (1 - 1e-7)}
    assert ids_kept(sampling.min_p(row, p)) == expected


def long_row(seed, values=30, V=50_257):
    """A vocabulary of GPT-2's size in which many logits are equal, some banned."""
    rng = np.random.default_rng(seed)
    row = rng.integers(0, values, V).astype(float)
    row[rng.random(V) < 0.1] = -INF
    return row


@pytest.mark.parametrize("k", [1, 2, 50, 391, 392, 393, 2000, 50_000])
@pytest.mark.parametrize("values", [30, 40_000])
def test_top_k_of_a_long_row_is_the_stable_order(k, values):
    row = long_row(0, values)
    expected = np.argsort(-row, kind="stable")[:k]
    assert ids_kept(sampling.top_k(row, k)) == {int(i) for i in expected if row[i] > -INF}


@pytest.mark.parametrize("k", [1, 50, 196, 197])
@pytest.mark.parametrize("values", [30, 40_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sample_from_the_top_k_of_a_long_row_is_by_the_stable_order(k, values, dtype):
    row = (long_row(2, values) * (5 / values)).astype(dtype)
    row[-3:] = row.max()  # where 32 doesn't divide the length
    kept = np.sort(np.argsort(-row, kind="stable")[:k])
    cumulative = np.exp(row[kept] - row.max(), dtype=np.float64).cumsum()
    for u in (0.0, 0.3, 0.7, 0.999):
        expected = kept[np.searchsorted(cumulative, u * cumulative[-1], side="right")]
        assert sampling.sample(row, SamplingSettings(top_k=k), Fixed(u)) == expected


@pytest.mark.parametrize("where", [slice(0, 3), slice(-3, None), slice(100, 4800, 1600)])
def test_top_k_finds_the_few_that_are_legal_in_a_long_row(where):
    row = np.full(5000, -INF)
    row[where] = 1.0
    assert ids_kept(sampling.top_k(row, 10)) == set(np.arange(5000)[where])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99999, 1 - 1e-9])
def test_top_p_of_a_long_row_is_the_stable_order(p):
    row = long_row(1, values=5)
    probs, order = sampling.softmax(row), np.argsort(-row, kind="stable")
    count = np.flatnonzero(probs[order].cumsum() >= p - 1e-7)[0] + 1
    assert ids_kept(sampling.top_p(row, p)) == ids_kept(row).intersection(order[:count])


@properties
@given(rows, any_settings, st.integers(0, 10**6))
def test_sample_is_a_draw_from_the_final_probabilities(row, settings, seed):
    t = trace(row, settings, seen=[0])
    assert sampling.sample(row, settings, np.random.default_rng(seed), seen=[0]) == draw(t.final, np.random.default_rng(seed))
    for u in EXTREMES:
        assert t.final[sampling.sample(row, settings, Fixed(u), seen=[0])] > 0


def typical_by_hand(logits, mass):
    """The set of Meister et al., 2023, section 4, one token at a time."""
    probs = probabilities(logits)
    entropy = -math.fsum(p * math.log(p) for p in probs)
    kept, total = set(), 0.0
    for i in sorted(range(len(probs)), key=lambda i: abs(-math.log(probs[i]) - entropy)):
        kept.add(i)
        total += probs[i]
        if total >= mass:
            break
    return kept


@properties
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.01, 0.99))
def test_typical_p_is_the_set_of_its_paper(seed, size, mass):
    logits = np.random.default_rng(seed).normal(0, 2, size)  # continuous: no ties and no mass exactly reached
    assert ids_kept(sampling.typical_p(logits, mass)) == typical_by_hand(logits, mass)


def test_typical_p_of_equal_tokens_goes_by_id():
    assert ids_kept(sampling.typical_p([3.0] * 4, 0.5)) == {0, 1}


@properties
@given(rows, st.lists(st.integers(0, 29), max_size=10), st.floats(0.1, 10))
def test_repetition_penalty_equals_a_loop(row, seen, penalty):
    seen, expected = [i % len(row) for i in seen], list(row)
    for i in set(seen):
        expected[i] = row[i] / penalty if row[i] > 0 else row[i] * penalty
    np.testing.assert_allclose(sampling.repetition_penalty(row, seen, penalty), expected, rtol=1e-12)


# ---- the draw


class Fixed:
    """A generator whose uniform numbers are given, and counted."""

    def __init__(self, *numbers):
        self.numbers, self.used = itertools.cycle(numbers), 0

    def random(self, size=None):
        self.used += 1 if size is None else size
        return next(self.numbers) if size is None else np.array([next(self.numbers) for _ in range(size)])


@pytest.mark.parametrize("u, token", [(0.0, 0), (0.2499, 0), (0.25, 1), (0.4999, 1), (0.5, 3), (1 - 2**-53, 3)])
def test_draw_inverts_the_cumulative_sum(u, token):
    probs = np.array([0.25, 0.25, 0, 0.5])
    assert draw(probs, Fixed(u)) == token
    assert draw(probs * 3, Fixed(u)) == token  # scaled by the total


def test_draw_gives_an_int_for_one_row_and_an_array_for_many():
    rng = np.random.default_rng(0)
    assert isinstance(draw([0.5, 0.5], rng), int)
    assert draw([[0.5, 0.5]] * 3, rng).shape == (3,)


def test_draw_uses_one_uniform_a_row():
    rng = Fixed(0.3)
    draw(np.full(7, 1 / 7), rng)
    assert rng.used == 1
    draw(np.full((5, 7), 1 / 7), rng)
    assert rng.used == 6


def test_rows_of_a_batch_are_drawn_as_alone_under_the_same_uniforms():
    probs = np.random.default_rng(1).dirichlet(np.ones(20), size=50)
    one, many = np.random.default_rng(2), np.random.default_rng(2)
    np.testing.assert_array_equal(draw(probs, many), [draw(row, one) for row in probs])
    assert one.bit_generator.state == many.bit_generator.state


def test_frequencies_are_the_probabilities():
    probs, n = np.array([0.02, 0.3, 0.08, 0, 0.25, 0.05, 0.2, 0.1]), 50_000
    counts = np.bincount(draw(np.tile(probs, (n, 1)), np.random.default_rng(0)), minlength=8)
    assert counts[3] == 0
    expected = n * probs[probs > 0]
    chi_square = ((counts[probs > 0] - expected) ** 2 / expected).sum()
    assert chi_square < 22.46  # exceeded once in a thousand with 6 degrees of freedom


@properties
@given(
    st.lists(st.just(0.0) | st.floats(1e-300, 1) | st.floats(1e-18, 1e-15), min_size=1, max_size=40), st.sampled_from(EXTREMES)
)
def test_a_token_of_probability_zero_is_never_drawn(probs, u):
    assume(sum(probs) > 0)
    assert probs[draw(probs, Fixed(u))] > 0
    assert probs[draw(np.array([probs, probs]), Fixed(u))[1]] > 0


@pytest.mark.parametrize("u", EXTREMES)
def test_the_smallest_of_probabilities_is_drawn_where_it_is_the_only_one(u):
    assert draw([0, 5e-324, 0], Fixed(u)) == 1  # u times it rounds up to it


@pytest.mark.parametrize("u", EXTREMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_cut_token_is_drawn_however_the_sum_is_rounded(u, dtype):
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = rng.normal(0, 3, 501)
        final = trace(logits, SamplingSettings(top_k=20)).final.astype(dtype)
        final[-1] = 0
        assert final[draw(final, Fixed(u))] > 0


@pytest.mark.parametrize(
    "probs", [[0.0, 0.0], [0.5, -0.5], [0.5, math.nan], [INF, 1], [[0.5, 0.5], [0, 0]], 1.0, np.ones((2, 2, 2))]
)
def test_draw_refuses_what_are_no_probabilities(probs):
    with pytest.raises(ValueError):
        draw(probs, np.random.default_rng(0))


def test_draw_leaves_its_input_and_global_state_alone():
    probs, state = np.array([0.1, 0.9]), np.random.get_state()[1].copy()
    probs.flags.writeable = False
    draw(probs, np.random.default_rng(0))
    np.testing.assert_array_equal(np.random.get_state()[1], state)
