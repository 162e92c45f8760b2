"""Notebook 10: what people write down after playing; the models' weights may be others one day."""

from itertools import count

import numpy as np

from tinygpt_lib import SamplingSettings as S
from tinygpt_lib import load_pretrained, no_grad, sampling

SURE, UNSURE = "KING RICHARD III", "The king is"
MODEL, ENCODING = load_pretrained("shakespeare")


def _logits(prompt):
    with no_grad():
        return MODEL([ENCODING.encode(prompt)])[0].data[0, -1]


def _nucleus(prompt, T, p):
    falling = np.sort(sampling.softmax(_logits(prompt) / T))[::-1]
    return 1 + int((falling.cumsum() < p).sum())


def temperature_of_ten():
    """By trying them from cold to warm, as a reader would."""
    return next(T for T in np.arange(0.05, 2.5, 0.001) if _nucleus("My lord, I", T, 0.9) == 10)


def k_that_costs_a_little():
    """Beyond the nucleus of UNSURE at p = 0.9, so far that some tokens are lost, but no third."""
    p, alone = sampling.softmax(_logits(UNSURE)), _nucleus(UNSURE, 1, 0.9)
    falling = np.sort(p)[::-1]
    for k in range(len(p) - 1, alone, -1):
        left = 1 + int((falling[:k].cumsum() / falling[:k].sum() < 0.9).sum())
        if left < alone:
            return k


def seed_of_a_daring_warm_one():
    """One with which the two part at once, the warm one taking the rarer token."""
    probs = [sampling.softmax(_logits(UNSURE) / T) for T in (0.5, 1)]
    for seed in count():
        cold, warm = (sampling.draw(p, np.random.default_rng(seed)) for p in probs)
        if probs[1][cold] > probs[1][warm]:
            return seed


WRONG = {
    "10.1": [
        ((0.0, SURE, UNSURE), "one token is left in both places"),
        ((0.9, UNSURE, SURE), "exchanged"),
        ((0.999999, UNSURE, SURE), "lower p, or look for a surer place"),
        ((0.2, SURE, UNSURE), "fifty need a p above"),
        ((0.9, SURE, ""), "the prompt is empty"),
        ((90, SURE, UNSURE), "between 0 and 1"),
        (0.9, "the answer has 3 parts"),
    ],
    "10.2": [
        ([S(temperature=0), S(temperature=2, top_k=1), S(temperature=2, min_p=1)], "too cold"),
        ([S(temperature=2, top_k=1), S(temperature=2, top_p=0.2), S(temperature=2, min_p=1)], "chance decides there"),
        ([S(temperature=2, top_k=1), S(temperature=2.5, top_k=1), S(temperature=2, min_p=1)], "another filter in each"),
        ([S(temperature=2, top_k=1, top_p=0), S(temperature=2, top_p=0), S(temperature=2, min_p=1)], "one alone"),
        ([S(temperature=2, top_k=1), S(temperature=2, top_p=0), S(temperature=2)], "has 0 filters on"),
        ([S(temperature=2, top_k=1), S(temperature=2, top_p=0), S(temperature=2, typical_p=1e-9)], "not always the likeliest"),
        (S(temperature=2, top_k=1), "the answer has 3 parts"),
        ([1, 0, 1], "each part is SamplingSettings"),
    ],
    "10.3": [
        ((1.0, 0.65), "colder"),
        ((0.05, 0.65), "warmer"),
        ((temperature_of_ten(), 0.99), "lower it"),
        ((temperature_of_ten(), 0.01), "raise it"),
        ((-1, 0.5), "temperature must be"),
        (0.6, "the answer has 2 parts"),
    ],
    "10.4": [
        ((UNSURE, 0.9, 10), "reaches into the nucleus"),
        ((UNSURE, 0.9, k_that_costs_a_little()), "Now lose a third"),
        ((UNSURE, 0.9, 1024), "with and without k"),
        ((UNSURE, 1, 1024), "Top-p is off"),
        ((UNSURE, 0.9, 0), "k must be a whole number"),
        (("", 0.9, 50), "the prompt is empty"),
    ],
    "10.5": [
        (seed_of_a_daring_warm_one(), "takes the likelier"),
        (-1, "at least 0, got -1"),
        (3.5, "got 3.5"),
        ("seed 3", "got 'seed 3'"),
    ],
    "10.6": [
        (0, "Temperature 0 is greedy itself"),
        (1e-6, "you can go higher"),
        (0.5, "colder"),
        (-0.1, "temperature must be"),
    ],
    "10.7": [
        (S(temperature=0.8, top_k=50, top_p=0.9), "isn't hot"),
        (S(temperature=2), "still possible"),
        (S(temperature=2, top_k=1), "only 1 token can come"),
        (S(temperature=2, top_p=0.9), "shares the rest"),
        (2, "the answer is SamplingSettings"),
    ],
    "10.8": [
        (0.09, "Unchanged"),
        (0.18, "Doubled"),
        (0.045, "min-p is too low"),
        (0.31, "min-p is too high"),
        (9, "between 0 and 1"),
    ],
}
