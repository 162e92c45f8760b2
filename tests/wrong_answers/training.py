"""Notebook 08."""

import math

import numpy as np


def windows_same(ids, starts, T):
    rows = np.stack([ids[s : s + T] for s in starts])
    return rows, rows.copy()


def windows_backwards(ids, starts, T):
    return np.stack([ids[s : s + T] for s in starts]), np.stack([[ids[s + t - 1] for t in range(T)] for s in starts])


def windows_rolled(ids, starts, T):
    rows = np.stack([ids[s : s + T] for s in starts])
    return rows, np.concatenate([rows[:, 1:], rows[:, :1]], axis=1)


def windows_one_target(ids, starts, T):
    return np.stack([ids[s : s + T] for s in starts]), np.array([ids[s + T] for s in starts])


def windows_columns(ids, starts, T):
    return np.stack([ids[s : s + T] for s in starts], axis=1), np.stack([ids[s + 1 : s + T + 1] for s in starts], axis=1)


def windows_in_order(ids, starts, T):
    n = len(starts)
    return ids[: n * T].reshape(n, T), ids[1 : n * T + 1].reshape(n, T)


def clip_each(gradients, limit):
    lengths = [np.linalg.norm(g.ravel()) for g in gradients]
    return [g if n <= limit else g / n * limit for g, n in zip(gradients, lengths)]


def clip_numbers(gradients, limit):
    return [np.minimum(np.maximum(g, -limit), limit) for g in gradients]


def clip_always(gradients, limit):
    n = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
    return [limit * g / n for g in gradients]


def clip_sum_of_lengths(gradients, limit):
    n = sum(np.linalg.norm(g.ravel()) for g in gradients)
    return [g * limit / n for g in gradients] if n > limit else gradients


def clip_without_root(gradients, limit):
    n = sum(np.sum(g * g) for g in gradients)
    return [g * limit / n for g in gradients] if n > limit else gradients


def clip_to_one(gradients, limit):
    n = np.sqrt(sum(np.sum(g * g) for g in gradients))
    return [g / n for g in gradients] if n > limit else gradients


def clip_in_place(gradients, limit):
    n = np.sqrt(sum(np.sum(g * g) for g in gradients))
    for g in gradients:
        g *= min(1, limit / n)
    return gradients


def rate_from_zero(step, lr, warmup_steps, total_steps, min_lr):
    if step < warmup_steps:
        return step / warmup_steps * lr
    done = min(1, (step - warmup_steps) / (total_steps - warmup_steps))
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2


def rate_whole_run(step, lr, warmup_steps, total_steps, min_lr):
    if step < warmup_steps:
        return (step + 1) / warmup_steps * lr
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * min(1, step / total_steps))) / 2


def rate_after_warmup(wave):
    def rate(step, lr, warmup_steps, total_steps, min_lr):
        if step < warmup_steps:
            return (step + 1) / warmup_steps * lr
        return wave((step - warmup_steps) / (total_steps - warmup_steps), lr, min_lr)

    return rate


def _half(done):
    return (1 + np.cos(np.pi * done)) / 2


rate_to_zero = rate_after_warmup(lambda done, lr, low: _half(np.clip(done, 0, 1)) * lr)
rate_too_high = rate_after_warmup(lambda done, lr, low: _half(np.clip(done, 0, 1)) * lr + low)
rate_up_again = rate_after_warmup(lambda done, lr, low: _half(done) * (lr - low) + low)
rate_straight = rate_after_warmup(lambda done, lr, low: lr - (lr - low) * np.clip(done, 0, 1))
rate_quarter = rate_after_warmup(lambda done, lr, low: low + (lr - low) * np.cos(np.pi * np.clip(done, 0, 1) / 2))
rate_without_pi = rate_after_warmup(lambda done, lr, low: low + (lr - low) * (1 + np.cos(np.clip(done, 0, 1))) / 2)


def lion_new_m(w, g, m, rate, betas, decay):
    m = betas[1] * m + (1 - betas[1]) * g
    return w * (1 - rate * decay) - rate * np.sign(m), m


def lion_without_sign(w, g, m, rate, betas, decay):
    mixed = betas[0] * m + (1 - betas[0]) * g
    return w * (1 - rate * decay) - rate * mixed, betas[1] * m + (1 - betas[1]) * g


def lion_exchanged(w, g, m, rate, betas, decay):
    b2, b1 = betas
    return w * (1 - rate * decay) - rate * np.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g


def lion_one_mixture(w, g, m, rate, betas, decay):
    m = betas[0] * m + (1 - betas[0]) * g
    return w * (1 - rate * decay) - rate * np.sign(m), m


def lion_without_decay(w, g, m, rate, betas, decay):
    return w - rate * np.sign(betas[0] * m + (1 - betas[0]) * g), betas[1] * m + (1 - betas[1]) * g


def lion_decay_in_sign(w, g, m, rate, betas, decay):
    mixed = betas[0] * m + (1 - betas[0]) * g
    return w - rate * np.sign(mixed + w * decay), betas[1] * m + (1 - betas[1]) * g


def lion_uphill(w, g, m, rate, betas, decay):
    mixed = betas[0] * m + (1 - betas[0]) * g
    return w * (1 - rate * decay) + rate * np.sign(mixed), betas[1] * m + (1 - betas[1]) * g


def _pieces(inputs, targets, size):
    pieces = math.ceil(len(inputs) / size)
    return [(inputs[k * size : (k + 1) * size], targets[k * size : (k + 1) * size]) for k in range(pieces)]


def pieces_summed(gradient, inputs, targets, size):
    total = 0
    for x, y in _pieces(inputs, targets, size):
        total = total + gradient(x, y)
    return total


def pieces_averaged(gradient, inputs, targets, size):
    parts = _pieces(inputs, targets, size)
    return pieces_summed(gradient, inputs, targets, size) / len(parts)


def pieces_without_rest(gradient, inputs, targets, size):
    total = np.zeros(inputs.shape[1])
    for k in range(len(inputs) // size):
        x, y = inputs[k * size : (k + 1) * size], targets[k * size : (k + 1) * size]
        total += gradient(x, y) * size / len(inputs)
    return total


def pieces_overwritten(gradient, inputs, targets, size):
    for x, y in _pieces(inputs, targets, size):
        total = gradient(x, y)
    return total


def pieces_by_size(gradient, inputs, targets, size):
    return pieces_summed(gradient, inputs, targets, size) * (size / len(inputs))


def pieces_not_divided(gradient, inputs, targets, size):
    return sum(len(x) * gradient(x, y) for x, y in _pieces(inputs, targets, size))


def pieces_at_once(gradient, inputs, targets, size):
    return gradient(inputs, targets)


WRONG = {
    "8.1": [
        (windows_same, "The targets are the inputs"),
        (windows_backwards, "write backwards"),
        (windows_rolled, "goes round in a circle"),
        (windows_one_target, "one for every place"),
        (windows_columns, "along the columns"),
        (windows_in_order, "not at i times T"),
    ],
    "8.2": [
        (clip_each, "clipped by its own length"),
        (clip_numbers, "Each number is clipped by itself"),
        (clip_always, "stretched to the limit"),
        (clip_sum_of_lengths, "3 and 4 give 7"),
        (clip_without_root, "the root is missing"),
        (clip_to_one, "a limit of 1 only"),
        (clip_in_place, "changes its arguments"),
    ],
    "8.3": [
        (rate_from_zero, "a rate of 0"),
        (rate_whole_run, "begins after the warm-up"),
        (rate_to_zero, "go down to min_lr"),
        (rate_too_high, "starts above lr"),
        (rate_up_again, "goes up again"),
        (rate_straight, "a straight line"),
        (rate_quarter, "a quarter of a wave"),
        (rate_without_pi, "the factor pi is missing"),
    ],
    "8.4": [
        (lion_new_m, "The sign is taken of the new m"),
        (lion_without_sign, "The sign is missing"),
        (lion_exchanged, "betas are exchanged"),
        (lion_one_mixture, "the wrong beta"),
        (lion_without_decay, "don't decay"),
        (lion_decay_in_sign, "under the sign"),
        (lion_uphill, "uphill"),
    ],
    "8.5": [
        (pieces_summed, "Too large"),
        (pieces_averaged, "counts too much in a plain mean"),
        (pieces_without_rest, "has been left out"),
        (pieces_overwritten, "Only the last piece"),
        (pieces_by_size, "weighed by `size`"),
        (pieces_not_divided, "divided by all the rows"),
        (pieces_at_once, "no more than size"),
    ],
}
