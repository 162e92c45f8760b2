"""Notebook 07."""

import numpy as np


def shift_forgotten(ids):
    x = ids[..., :-1]
    return x, x


def shift_backwards(ids):
    targets, inputs = ids[..., :-1], ids[..., 1:]
    return inputs, targets


def shift_ring(ids):
    following = np.concatenate([ids[..., 1:], ids[..., :1]], axis=-1)
    return ids, following


def shift_first_axis(ids):
    n = len(ids)
    return ids[: n - 1], ids[1:n]


def shift_longer(ids):
    return ids[..., :], ids[..., 1:]


def _softmax(z):
    exps = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return exps / np.sum(exps, axis=-1, keepdims=True)


def _pick(rows, targets):
    V = rows.shape[-1]
    return rows.reshape(-1, V)[np.arange(targets.size), targets.ravel()]


def _log_probs(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def price_overflow(logits, targets):
    total = np.exp(logits).sum(axis=-1).ravel()
    return np.mean(np.log(total) - _pick(logits, targets))


def price_by_probabilities(logits, targets):
    exps = np.exp(logits)
    return np.mean(-np.log(_pick(exps / exps.sum(axis=-1, keepdims=True), targets)))


def price_log_of_zero(logits, targets):
    return -np.log(_pick(_softmax(logits), targets)).mean()


def price_largest_of_all(logits, targets):
    z = logits - np.max(logits)
    return np.mean(np.log(np.exp(z).sum(axis=-1)).ravel() - _pick(z, targets))


def price_sum(logits, targets):
    return -np.sum(_pick(_log_probs(logits), targets))


def price_per_text(logits, targets):
    return -_pick(_log_probs(logits), targets).sum() / targets.shape[0]


def price_negative(logits, targets):
    return _pick(_log_probs(logits), targets).mean()


def price_bits(logits, targets):
    return -np.mean(_pick(_log_probs(logits), targets) / np.log(2))


def price_each(logits, targets):
    return -_pick(_log_probs(logits), targets).reshape(targets.shape)


def price_flat_only(logits, targets):
    chosen = _log_probs(logits)[np.arange(len(targets)), targets]
    return -chosen.mean()


def layers_untied(budget, vocab_size, block_size, n_embd):
    rest = budget - 2 * vocab_size * n_embd - block_size * n_embd - 2 * n_embd
    return max(rest // (12 * n_embd**2 + 13 * n_embd), 0)


def layers_matrices_only(budget, vocab_size, block_size, n_embd):
    rest = budget - n_embd * (vocab_size + block_size + 2)
    return max(rest // (12 * n_embd * n_embd), 0)


def layers_without_final_norm(budget, vocab_size, block_size, n_embd):
    rest = budget - n_embd * (vocab_size + block_size)
    return 0 if rest < 0 else rest // (n_embd * (12 * n_embd + 13))


def layers_without_positions(budget, vocab_size, block_size, n_embd):
    rest = budget - n_embd * (vocab_size + 2)
    return 0 if rest < 0 else rest // (n_embd * (12 * n_embd + 13))


def layers_by_counting_up(budget, vocab_size, block_size, n_embd):
    layers = 0
    while layers * (12 * n_embd**2 + 13 * n_embd) + 13 * n_embd + 12 * n_embd**2 <= budget:
        layers += 1
    return layers


def layers_negative(budget, vocab_size, block_size, n_embd):
    return int(np.floor((budget - n_embd * (vocab_size + block_size + 2)) / (n_embd * (12 * n_embd + 13))))


def layers_fraction(budget, vocab_size, block_size, n_embd):
    return max((budget - n_embd * (vocab_size + block_size + 2)) / (n_embd * (12 * n_embd + 13)), 0)


def layers_rounded(budget, vocab_size, block_size, n_embd):
    return int(np.rint(layers_fraction(budget, vocab_size, block_size, n_embd)))


def _one_hot(targets, V):
    return np.eye(V)[targets]  # -1 is the last row


def gradient_as_without_padding(logits, targets):
    return (_softmax(logits) - _one_hot(targets, logits.shape[-1])) / targets.size


def gradient_mean_of_all(logits, targets):
    g = _softmax(logits) - _one_hot(targets, logits.shape[-1])
    g[targets == -1] = 0
    return g / targets.size


def gradient_rows_kept(logits, targets):
    g = _softmax(logits) - _one_hot(targets, logits.shape[-1])
    return g / np.count_nonzero(targets >= 0)


def gradient_p_kept(logits, targets):
    y = _one_hot(targets, logits.shape[-1])
    y[targets == -1] = 0
    return (_softmax(logits) - y) / (targets != -1).sum()


def _right(logits, targets):
    g = _softmax(logits) - _one_hot(targets, logits.shape[-1])
    g[targets == -1] = 0
    return g / (targets != -1).sum()


def gradient_sign(logits, targets):
    return 0 - _right(logits, targets)


def gradient_of_sum(logits, targets):
    return _right(logits, targets) * (targets != -1).sum()


def gradient_mean_of_logits(logits, targets):
    return gradient_of_sum(logits, targets) / np.prod(logits.shape)


def gradient_p_alone(logits, targets):
    p = _softmax(logits)
    p[targets < 0] = 0
    return p / (targets >= 0).sum()


def gradient_overflow(logits, targets):
    exps = np.exp(logits)
    g = exps / exps.sum(-1, keepdims=True) - _one_hot(targets, logits.shape[-1])
    return np.where(targets[..., None] == -1, 0, g) / (targets != -1).sum()


WRONG = {
    "7.1": [
        (shift_forgotten, "learns to repeat"),
        (shift_backwards, "the wrong way round"),
        (shift_ring, "into a ring"),
        (shift_first_axis, "cuts the first axis"),
        (shift_longer, "of one length"),
    ],
    "7.2": [
        (price_overflow, "exp(1000) is infinite"),
        (price_by_probabilities, "inf or nan"),
        (price_log_of_zero, "rounded to 0"),
        (price_largest_of_all, "its own largest logit"),
        (price_sum, "the sum of the prices"),
        (price_per_text, "number of texts only"),
        (price_negative, "never negative"),
        (price_bits, "in bits"),
        (price_each, "now take their mean"),
        (price_flat_only, "(B, T, V) don't"),
    ],
    "7.3": [
        (layers_untied, "counted once"),
        (layers_matrices_only, "more than its matrices"),
        (layers_without_final_norm, "final LayerNorm is missing"),
        (layers_without_positions, "positions are embedded"),
        (layers_by_counting_up, "out of the budget first"),
        (layers_negative, "fewer than 0 blocks"),
        (layers_rounded, "not to the nearest"),
        (layers_fraction, "is whole"),
    ],
    "7.4": [
        (gradient_as_without_padding, "taken for the last token"),
        (gradient_mean_of_all, "not by all"),
        (gradient_rows_kept, "padded places get a gradient"),
        (gradient_p_kept, "but p isn't"),
        (gradient_sign, "y - p"),
        (gradient_of_sum, "gradient of the sum"),
        (gradient_mean_of_logits, "not V"),
        (gradient_p_alone, "p alone"),
        (gradient_overflow, "exp(1000) is infinite"),
    ],
}
