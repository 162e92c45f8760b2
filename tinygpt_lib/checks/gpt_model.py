"""Notebook 07: inputs and targets, cross-entropy, the parameters of a GPT, the gradient of a padded batch."""

import numpy as np

from tinygpt_lib.functional import cross_entropy
from tinygpt_lib.tensor import Tensor

from .judge import Exercise

_rng = np.random.default_rng(7)


def _bets(*shape, scale=2.0):
    """Logits (*shape) and targets for them."""
    return scale * _rng.normal(size=shape), _rng.integers(0, shape[-1], size=shape[:-1])


SHIFT = Exercise(
    "Inputs and targets",
    lambda ids: (ids[..., :-1], ids[..., 1:]),
    cases=(
        (np.array([5, 2, 9, 4, 1]),),
        (np.array([3, 7]),),
        (np.array([6, 6, 6, 0]),),
        (_rng.permutation(24).reshape(4, 6),),
        (_rng.permutation(36).reshape(2, 3, 6)[..., ::2],),
    ),
    mistakes={
        "The targets are the inputs: such a model learns to repeat what it has just read. Each target comes one place later.":
            lambda ids: (ids[..., :-1], ids[..., :-1]),
        "The right two pieces, the wrong way round: this model would read a token and be asked for the one before.":
            lambda ids: (ids[..., 1:], ids[..., :-1]),
        "np.roll turns the text into a ring: the last place is asked for the first token. "
        "Nothing is known to follow the last one, so leave it out.":
            lambda ids: (ids, np.roll(ids, -1, axis=-1)),
        "One text works, a batch doesn't: this cuts the first axis, which in a batch is a whole text. Cut the last one.":
            lambda ids: (ids[:-1], ids[1:]),
        "Inputs and targets must be of one length, N - 1: the last token has no successor, so it isn't read.":
            lambda ids: (ids, ids[..., 1:]),
    },
)


def _prices(logits, targets, stable=True):
    """-log p of the targets, by the softmax's probabilities unless `stable`."""
    z = logits - logits.max(axis=-1, keepdims=True)
    if stable:
        z = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    else:
        z = np.log(np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(z, targets[..., None], axis=-1)[..., 0]


def _flat_only(logits, targets):
    rows = np.arange(len(targets))
    return (_prices(logits, np.zeros_like(targets)) + logits[..., 0] - logits[rows, targets]).mean()


CROSS_ENTROPY = Exercise(
    "Cross-entropy",
    lambda logits, targets: cross_entropy(Tensor(logits, dtype=np.float64), targets).item(),
    cases=(
        _bets(6, 4),
        _bets(2, 3, 7),
        _bets(1, 2, scale=0),
        (_bets(5, 8)[0][:, ::2], _rng.integers(0, 4, size=5)),
        (np.array([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -1000.0]]), np.array([1, 0])),
        (np.array([[1000.0, 0.0], [-1000.0, 0.0], [0.0, -1000.0]]), np.array([1, 0, 0])),
    ),
    mistakes={
        "The probability of a token far behind is rounded to 0, and its logarithm is infinite. Compute log(sum(exp(z))) "
        "- z_t without making probabilities.":
            lambda z, t: _prices(z, t, stable=False).mean(),
        "exp(1000) is infinite, and the loss becomes inf or nan. Subtract each row's largest logit first: "
        "no price is changed by it.":
            lambda z, t: (np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, t[..., None], axis=-1)[..., 0]).mean(),
        "Each row needs its own largest logit: below the largest of all, a row's exponentials can all be 0, and so is their sum.":
            lambda z, t: (
                np.log(np.exp(z - z.max()).sum(axis=-1)) - np.take_along_axis(z - z.max(), t[..., None], axis=-1)[..., 0]
            ).mean(),
        "This is the sum of the prices. The loss is their mean, so that batches of any size can be compared.":
            lambda z, t: _prices(z, t).sum(),
        "Divided by the number of texts only: the mean is over all positions, of all texts.":
            lambda z, t: _prices(z, t).sum() / len(t),
        "The sign: a price is -log p, which is never negative.": lambda z, t: -_prices(z, t).mean(),
        "That's in bits, with the logarithm to base 2. In nats it is the natural one, np.log.":
            lambda z, t: _prices(z, t).mean() / np.log(2),
        "One price for each position, rightly computed: now take their mean.": _prices,
        "Logits (N, V) work, (B, T, V) don't: a row's number alone no longer says where it stands. "
        "np.take_along_axis does, or reshape(-1, V) first.":
            _flat_only,
    },
)


def _layers(budget, V, P, C, *, block=None, head=0, norm=2):
    return max(0, (budget - (1 + head) * V * C - P * C - norm * C) // (12 * C**2 + 13 * C if block is None else block))


LAYERS = Exercise(
    "The deepest model that fits",
    _layers,
    cases=(
        (124_439_808, 50257, 1024, 768),  # GPT-2, to the last parameter
        (124_439_807, 50257, 1024, 768),
        (2_890_752, 1024, 128, 192),
        (5_000_000, 1024, 128, 192),
        (1_000, 100, 10, 1),
        (2_000, 100, 500, 2),
        (40, 10, 2, 1),
        (100, 1000, 8, 16),
    ),
    mistakes={
        "The final LayerNorm is missing: 2 C numbers, and a budget that's met exactly shows it.":
            lambda b, V, P, C: _layers(b, V, P, C, norm=0),
        "The head is tied to the embedding: the vocabulary's V x C numbers are counted once.":
            lambda b, V, P, C: _layers(b, V, P, C, head=1),
        "A block is more than its matrices: 12 C² and 13 C more for biases and norms.":
            lambda b, V, P, C: _layers(b, V, P, C, block=12 * C**2),
        "The positions are embedded, too: block_size x C numbers.": lambda b, V, P, C: _layers(b, V, 0, C),
        "Embeddings come out of the budget first: this divides all of it among the blocks.":
            lambda b, V, P, C: b // (12 * C**2 + 13 * C),
        "There is no model with fewer than 0 blocks: where not even the embeddings fit, the answer is 0.":
            lambda b, V, P, C: (b - (V + P + 2) * C) // (12 * C**2 + 13 * C),
        "A part of a block is no block: round down, not to the nearest.":
            lambda b, V, P, C: max(0, round((b - (V + P + 2) * C) / (12 * C**2 + 13 * C))),
        "A number of blocks is whole: round down.": lambda b, V, P, C: max(0, (b - (V + P + 2) * C) / (12 * C**2 + 13 * C)),
    },
)


def _padded(logits, targets):
    z, counted = Tensor(logits, requires_grad=True, dtype=np.float64), targets != -1
    cross_entropy(z[counted], targets[counted]).backward()
    return z.grad


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _error(logits, targets):
    """p - y, where a target of -1 is the last token, as NumPy takes it."""
    V = logits.shape[-1]
    return _softmax(logits) - (np.arange(V) == targets[..., None] % V)


def _counted(targets):
    return (targets != -1)[..., None]


def _with_padding(logits, targets, places):
    targets = targets.copy()
    targets.reshape(-1)[list(places)] = -1
    return logits, targets


PADDED = Exercise(
    "The gradient, with padding",
    _padded,
    cases=(
        _bets(5, 4),
        _with_padding(*_bets(5, 4), (0, 4)),
        _with_padding(*_bets(2, 3, 6), (2, 4, 5)),
        _with_padding(*_bets(3, 3), (1, 2)),
        (np.array([[1000.0, 0.0, 0.0], [0.0, -1000.0, 5.0], [1.0, 1.0, 1.0]]), np.array([1, -1, 2])),
        (_bets(2, 2, 10)[0][..., ::2], np.array([[4, -1], [0, 3]])),
    ),
    mistakes={
        "Without padding it's right. "
        "With it, -1 was taken for the last token (as NumPy's index does), and the padding counts like the rest.":
            lambda z, t: _error(z, t) / t.size,
        "The padding's rows are zeros, as they should be. But the mean is over the places that count: "
        "divide by their number, not by all.":
            lambda z, t: _error(z, t) * _counted(t) / t.size,
        "You divide by the places that count, but padded places get a gradient, too: their rows must be all zeros.":
            lambda z, t: _error(z, t) / _counted(t).sum(),
        "y is rightly all zeros where the target is -1, but p isn't: the rows of padded places must be zeros altogether.":
            lambda z, t: (_softmax(z) - (np.arange(z.shape[-1]) == t[..., None])) / _counted(t).sum(),
        "The sign is turned round: this is y - p, the way a step of learning goes. The gradient is p - y.":
            lambda z, t: -_padded(z, t),
        "This is the gradient of the sum. The loss is a mean: divide by the number of places that count.":
            lambda z, t: _error(z, t) * _counted(t),
        "This divides by the number of all logits. "
        "The loss is a mean over the places that count, of which each has one price, not V.":
            lambda z, t: _error(z, t) * _counted(t) / z.size,
        "That's p alone: from the token that came, 1 must be taken away.":
            lambda z, t: _softmax(z) * _counted(t) / _counted(t).sum(),
        "exp(1000) is infinite: subtract each row's largest logit in the softmax.":
            lambda z, t: (
                (np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True) - (np.arange(z.shape[-1]) == t[..., None]))
                * _counted(t) / _counted(t).sum()
            ),
    },
)

EXERCISES = [SHIFT, CROSS_ENTROPY, LAYERS, PADDED]
