"""Notebook 06."""

import math

import numpy as np


def norm_other_variance(x, weight, bias):
    mean, std = x.mean(axis=-1)[..., None], np.sqrt(x.var(axis=-1, ddof=1)[..., None] + 1e-5)
    return weight * (x - mean) / std + bias


def norm_eps_outside(x, weight, bias):
    mean, std = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
    return weight * ((x - mean) / (std + 1e-5)) + bias


def norm_no_eps(x, weight, bias):
    return weight * ((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)) + bias


def norm_down(x, weight, bias):
    centred = x - x.mean(axis=0)
    return weight * centred / np.sqrt((centred**2).mean(axis=0) + 1e-5) + bias


def norm_all(x, weight, bias):
    return weight * (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-5) + bias


def norm_no_root(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / ((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def norm_no_keepdims(x, weight, bias):
    return (x - np.mean(x, axis=-1)) / np.sqrt(np.var(x, axis=-1) + 1e-5) * weight + bias


def norm_bare(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def norm_no_bias(x, weight, bias):
    return norm_bare(x, weight, bias) * weight


def count_fixed_width(C, M, bias):
    return 12 * C**2 + 13 * C if bias else 12 * C**2 + 2 * C


def count_always_biased(C, M, bias):
    return (3 * C * C + 3 * C) + (C * C + C) + (C * M + M) + (M * C + C) + 4 * C


def count_no_norms(C, M, bias):
    return 4 * C * C + 2 * C * M + (5 * C + M if bias else 0)


def count_norms_vanish(C, M, bias):
    return count_always_biased(C, M, bias) if bias else 4 * C * C + 2 * C * M


def count_no_projection(C, M, bias):
    attention = 3 * C * C + (3 * C if bias else 0)
    return attention + 2 * C * M + (C + M if bias else 0) + (4 * C if bias else 2 * C)


def count_one_mlp_matrix(C, M, bias):
    return 4 * C * C + C * M + 2 * C + (7 * C + M if bias else 0)


def count_no_biases(C, M, bias):
    return 4 * C * C + 2 * C * M + 2 * C


def wire_post_norm(x, norm_1, attention, norm_2, mlp):
    after = norm_1(attention(x) + x)
    return norm_2(mlp(after) + after)


def wire_normalised_stream(x, norm_1, attention, norm_2, mlp):
    x = norm_1(x)
    x = x + attention(x)
    x = norm_2(x)
    return x + mlp(x)


def wire_no_additions(x, norm_1, attention, norm_2, mlp):
    x = attention(norm_1(x))
    return mlp(norm_2(x))


def wire_parallel(x, norm_1, attention, norm_2, mlp):
    return x + attention(norm_1(x)) + mlp(norm_2(x))


def wire_loses_attention(x, norm_1, attention, norm_2, mlp):
    h = x + attention(norm_1(x))
    return x + mlp(norm_2(h))


def wire_one_addition(x, norm_1, attention, norm_2, mlp):
    h = x + attention(norm_1(x))
    return mlp(norm_2(h))


def wire_one_norm(x, norm_1, attention, norm_2, mlp):
    h = x + attention(norm_1(x))
    return h + mlp(norm_1(h))


def wire_no_norms(x, norm_1, attention, norm_2, mlp):
    h = x + attention(x)
    return h + mlp(h)


def wire_raw_mlp(x, norm_1, attention, norm_2, mlp):
    h = x + attention(norm_1(x))
    return h + mlp(h)


def wire_norm_after(x, norm_1, attention, norm_2, mlp):
    h = x + norm_1(attention(x))
    return h + norm_2(mlp(h))


def wire_in_place(x, norm_1, attention, norm_2, mlp):
    x += attention(norm_1(x))
    x += mlp(norm_2(x))
    return x


ERF = np.vectorize(math.erf)


def slope_gate_only(x):
    return 0.5 + 0.5 * ERF(x / np.sqrt(2))


def slope_no_x(x):
    return 0.5 + 0.5 * ERF(x / np.sqrt(2)) + np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def slope_no_area(x):
    return 0.5 + 0.5 * ERF(x / np.sqrt(2)) + x * np.exp(-0.5 * x**2)


def slope_erf_of_x(x):
    return 0.5 + 0.5 * ERF(x) + x * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def slope_of_tanh_form(x):
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    du = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * x * (1 - np.tanh(u) ** 2) * du


def slope_gelu_itself(x):
    return x * (0.5 + 0.5 * ERF(x / np.sqrt(2)))


def slope_minus(x):
    return 0.5 + 0.5 * ERF(x / np.sqrt(2)) - x * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def slope_second_term(x):
    return x * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def slope_wide_bell(x):
    return 0.5 + 0.5 * ERF(x / np.sqrt(2)) + x * np.exp(-(x**2)) / np.sqrt(2 * np.pi)


def _rms(x):
    return np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)


def rms_from_layer_norm(g, x, weight):
    centred = x - x.mean(axis=-1, keepdims=True)
    std = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    xhat, d = centred / std, g * weight
    return (d - d.mean(axis=-1, keepdims=True) - xhat * (d * xhat).mean(axis=-1, keepdims=True)) / std


def rms_takes_mean_out(g, x, weight):
    xhat, d = x / _rms(x), g * weight
    return (d - d.mean(axis=-1, keepdims=True) - xhat * (d * xhat).mean(axis=-1, keepdims=True)) / _rms(x)


def rms_fixed(g, x, weight):
    return g * weight / _rms(x)


def rms_no_weight(g, x, weight):
    xhat = x / _rms(x)
    return (g - xhat * (g * xhat).mean(axis=-1, keepdims=True)) / _rms(x)


def rms_weight_at_the_end(g, x, weight):
    return rms_no_weight(g, x, weight) * weight


def rms_sum(g, x, weight):
    xhat, d = x / _rms(x), g * weight
    return (d - xhat * np.sum(d * xhat, axis=-1, keepdims=True)) / _rms(x)


def rms_all_rows(g, x, weight):
    xhat, d = x / _rms(x), g * weight
    return (d - xhat * np.mean(d * xhat)) / _rms(x)


def rms_undivided(g, x, weight):
    xhat, d = x / _rms(x), g * weight
    return d - xhat * (d * xhat).mean(axis=-1, keepdims=True)


def rms_no_eps(g, x, weight):
    rms = np.sqrt((x**2).mean(axis=-1, keepdims=True))
    xhat, d = x / rms, g * weight
    return (d - xhat * (d * xhat).mean(axis=-1, keepdims=True)) / rms


WRONG = {
    "6.1": [
        (norm_other_variance, "This is the other variance"),
        (norm_eps_outside, "eps is outside the root"),
        (norm_no_eps, "eps is missing"),
        (norm_down, "along the first"),
        (norm_all, "shared by all rows"),
        (norm_no_root, "take its root first"),
        (norm_no_keepdims, "Without keepdims=True"),
        (norm_bare, "still to be applied"),
        (norm_no_bias, "The bias is missing"),
    ],
    "6.2": [
        (count_fixed_width, "an MLP of 4C only"),
        (count_always_biased, "it still counts biases"),
        (count_no_norms, "The LayerNorms are missing"),
        (count_norms_vanish, "keep their weights"),
        (count_no_projection, "a second matrix"),
        (count_one_mlp_matrix, "one is missing"),
        (count_no_biases, "for each *output*"),
    ],
    "6.3": [
        (wire_post_norm, "This is post-norm"),
        (wire_normalised_stream, "The stream itself gets normalised"),
        (wire_no_additions, "The additions are missing"),
        (wire_parallel, "Both branches read the same x"),
        (wire_loses_attention, "What attention found is lost"),
        (wire_one_addition, "The last addition is missing"),
        (wire_one_norm, "Each branch has its own norm"),
        (wire_no_norms, "The norms aren't used"),
        (wire_raw_mlp, "it should read norm_2"),
        (wire_norm_after, "not on what they return"),
        (wire_in_place, "changes its arguments"),
    ],
    "6.4": [
        (slope_gate_only, "the gate moves, too"),
        (slope_second_term, "Add the gate itself"),
        (slope_no_x, "the factor x is missing"),
        (slope_no_area, "so that its area is 1"),
        (slope_erf_of_x, "erf takes x/√2"),
        (slope_of_tanh_form, "the slope of the tanh form"),
        (slope_gelu_itself, "GELU itself"),
        (slope_minus, "is added"),
        (slope_wide_bell, "the 2 under the x²"),
    ],
    "6.5": [
        (rms_from_layer_norm, "LayerNorm's gradient"),
        (rms_takes_mean_out, "One term too many"),
        (rms_fixed, "as a fixed number"),
        (rms_no_weight, "The weight is missing"),
        (rms_weight_at_the_end, "The weight comes first"),
        (rms_sum, "not a sum"),
        (rms_all_rows, "Each row has its own mean"),
        (rms_undivided, "divided by the root mean square"),
        (rms_no_eps, "eps is missing"),
    ],
}
