"""Sampling side by side with the logits warpers of transformers, on float64 logits without ties."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs PyTorch: pip install -e ".[peers]"')
transformers = pytest.importorskip("transformers", reason='needs transformers: pip install -e ".[peers]"')

from tinygpt_lib import SamplingSettings, sampling, trace  # noqa: E402

WARPERS = {
    "temperature": (transformers.TemperatureLogitsWarper, [0.1, 0.7, 1.3, 10.0]),
    "top_k": (transformers.TopKLogitsWarper, [1, 5, 50, 10_000]),
    "top_p": (transformers.TopPLogitsWarper, [0.05, 0.5, 0.9, 0.999]),
    "min_p": (transformers.MinPLogitsWarper, [0.001, 0.05, 0.5, 0.99]),
    "typical_p": (transformers.TypicalLogitsWarper, [0.05, 0.5, 0.9, 0.99]),
}
CASES = [(name, value) for name, (_, values) in WARPERS.items() for value in values]


def random_case(seed, spread=3.0, V=1000):
    rng = np.random.default_rng(seed)
    return rng.normal(0, spread, (4, V)), rng.integers(0, V, (4, 30))


def theirs(processors, logits, seen):
    """The logits after transformers' processors, in their order."""
    out, ids = torch.tensor(logits, dtype=torch.float64), torch.tensor(seen)
    for processor in processors:
        out = processor(ids, out)
    return out


def assert_same(ours, out):
    """The same tokens kept, and the same probabilities."""
    np.testing.assert_array_equal(ours > 0, torch.isfinite(out).numpy())
    np.testing.assert_allclose(ours, torch.softmax(out, dim=-1).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name, value", CASES)
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_each_setting_is_transformers_warper(name, value, spread):
    for seed in range(5):
        logits, seen = random_case(seed, spread)
        ours = sampling.softmax(getattr(sampling, name)(logits, value))
        assert_same(ours, theirs([WARPERS[name][0](value)], logits, seen))


@pytest.mark.parametrize("penalty", [0.5, 1.1, 2.0])
def test_repetition_penalty_is_transformers_processor(penalty):
    for seed in range(5):
        logits, seen = random_case(seed)
        ours = sampling.repetition_penalty(logits, seen, penalty)
        out = theirs([transformers.RepetitionPenaltyLogitsProcessor(penalty)], logits, seen)
        np.testing.assert_allclose(ours, out.numpy(), rtol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_all_settings_together_are_transformers_warpers_in_our_order(seed):
    logits, seen = random_case(seed)
    rng = np.random.default_rng(1000 + seed)
    values = {
        "temperature": rng.uniform(0.3, 2),
        "top_k": int(rng.integers(20, 500)),
        "top_p": rng.uniform(0.5, 0.99),
        "min_p": rng.uniform(0.001, 0.1),
        "typical_p": rng.uniform(0.5, 0.99),
    }
    processors = [
        transformers.RepetitionPenaltyLogitsProcessor(1.3),
        *(WARPERS[name][0](value) for name, value in values.items()),
    ]
    ours = trace(logits, SamplingSettings(repetition_penalty=1.3, **values), seen).final
    assert_same(ours, theirs(processors, logits, seen))
