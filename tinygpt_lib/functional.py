"""The operations of a GPT, each fused: its forward in few passes over memory beside its derived backward.

Shapes: B batch, T time, C channels, H heads, D = C / H head width, V vocabulary; `...` is any axes.
"""

import math
from functools import lru_cache

import numpy as np

from . import validate
from .tensor import Tensor, as_tensor, record

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)  # a Python float, so that float32 stays float32
EPS = 1e-5  # added to the variance in LayerNorm, as in GPT-2
QUERIES = 64  # in a block of attention
CALM = 40.0  # exp of a number up to this size, and sums of many such, are far from float32's limits
PIECE = 262_144  # elements: a few arrays of this size fit in a processor's cache, so several passes cost little more than one


def in_pieces(work, count, size):
    """Call work(slice) on slices that make up range(count), each of about PIECE of the `size` elements in all."""
    pieces = max(1, min(count, size // PIECE))
    for i in range(pieces):
        work(slice(count * i // pieces, count * (i + 1) // pieces))


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along `axis`: same shape, every slice sums to 1; -inf becomes exactly 0."""
    (x,) = _floats(x)
    y = x.data - x.data.max(axis=axis, keepdims=True)  # the largest becomes 0, so exp can't overflow
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)

    def backward(g):
        # dy_i/dx_j = y_i (1[i=j] - y_j), so dx = y (g - sum_i g_i y_i)
        dx = g * y
        dx -= y * dx.sum(axis=axis, keepdims=True)
        return (dx,)

    return record(y, (x,), backward)


def log_softmax(x, axis=-1):
    """log(softmax(x)) along `axis`, without the log of a number that was rounded to 0."""
    (x,) = _floats(x)
    y = x.data - x.data.max(axis=axis, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=axis, keepdims=True))

    def backward(g):
        # dy_i/dx_j = 1[i=j] - softmax(x)_j
        return (g - np.exp(y) * g.sum(axis=axis, keepdims=True),)

    return record(y, (x,), backward)


def cross_entropy(logits, targets):
    """Mean of -log softmax(logits)[target]: logits (..., V), targets (...) ids; a scalar, in nats."""
    (logits,) = _floats(logits)
    V = logits.shape[-1]
    ids = validate.token_ids("targets", as_tensor(targets).data, V)
    if ids.shape != logits.shape[:-1] or not ids.size:
        raise ValueError(f"targets must be of shape {logits.shape[:-1]}, as the logits without V, and not empty, got {ids.shape}")
    z, ids = logits.data.reshape(-1, V), ids.reshape(-1)
    p, losses, rows = np.empty_like(z), np.empty(len(z), dtype=np.float64), np.arange(len(z))

    def forward(s):
        e = np.subtract(z[s], z[s].max(axis=-1, keepdims=True), out=p[s])
        losses[s] = -e[rows[: len(e)], ids[s]]
        np.exp(e, out=e)
        total = e.sum(axis=-1, keepdims=True)
        losses[s] += np.log(total[:, 0])
        e /= total

    in_pieces(forward, len(z), z.size)

    def backward(g):
        # d loss / dz = (p - y) / N with p = softmax(z) and y the one-hot target
        scale = g / len(z)
        dz = np.multiply(p, scale, out=p)
        dz[rows, ids] -= scale
        return (dz.reshape(logits.shape),)

    return record(losses.mean().astype(z.dtype), (logits,), backward)


def gelu(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the form that GPT-2 uses (Hendrycks and Gimpel, 2016)."""
    (x,) = _floats(x)
    a = x.data.reshape(-1)
    y, slope = np.empty_like(a), np.empty_like(a)

    def piece(s):
        d = np.multiply(a[s], a[s], out=slope[s])
        gate = gelu_divisor(a[s], d)
        np.reciprocal(gate, out=gate)
        # y = x s(u) with s' = s (1 - s), so dy/dx = s + x s (1 - s) u' = s + y (1 - s) u', now that x^2, y and s are in the cache
        d *= 6 * 0.044715 * SQRT_2_OVER_PI
        d += 2 * SQRT_2_OVER_PI  # u'
        d *= np.multiply(a[s], gate, out=y[s])
        d *= 1 - gate
        d += gate

    with np.errstate(over="ignore", invalid="ignore"):
        in_pieces(piece, len(a), 4 * a.size)  # smaller ones: five arrays are at work together
    return record(y.reshape(x.shape), (x,), lambda g: (np.multiply(g.reshape(-1), slope, out=slope).reshape(x.shape),))


def gelu_divisor(x, square):
    """What GELU divides an array x by, given x * x: 0.5 (1 + tanh(u / 2)) is 1 / (1 + exp(-u)).

    Only with AVX-512 would tanh take less time. Where the result is 0, exp overflows to inf: call it
    within np.errstate(over="ignore").
    """
    u = square * (-2 * 0.044715 * SQRT_2_OVER_PI)  # the others work in place: a quarter less time than one expression
    u -= 2 * SQRT_2_OVER_PI
    u *= x
    np.exp(u, out=u)
    u += 1
    return u


def layer_norm(x, weight, bias, eps=EPS):
    """Each row of x (..., C) to mean 0 and variance 1 (biased), then times weight (C,) plus bias (C,).

    Ba et al., 2016 (arXiv 1607.06450).
    """
    x, weight, bias = _floats(x, weight, bias)
    C = x.shape[-1]
    if weight.shape != (C,) or bias.shape != (C,):
        raise ValueError(f"layer_norm of x (..., {C}) needs weight and bias of shape ({C},), got {weight.shape} and {bias.shape}")
    rows = x.data.reshape(-1, C)
    xhat = rows - rows.dot(_column(1, C, rows.dtype)) / C
    inv_std = math.sqrt(C) / np.sqrt(np.vecdot(xhat, xhat, keepdims=True) + C * eps)
    xhat *= inv_std
    y = xhat * weight.data
    y += bias.data

    def backward(g):
        # Mean and variance move with x: dx is dxhat = g w less its part along 1 and its part along xhat, over std.
        g = g.reshape(-1, C)
        mean = (weight.data / C)[:, None]  # g.dot(mean) is the mean of dxhat: a product takes a third of a sum's time
        dx, g_xhat = g * weight.data, g * xhat
        dx -= g.dot(mean)
        dx -= np.multiply(xhat, g_xhat.dot(mean), out=xhat)
        dx *= inv_std
        return dx.reshape(x.shape), _column_sums(g_xhat), _column_sums(g)

    return record(y.reshape(x.shape), (x, weight, bias), backward)


def linear(x, weight, bias=None):
    """x @ weight.T + bias: (..., C) to (..., O) with weight (O, C) and bias (O,)."""
    x, weight, *bias = _floats(x, weight, *(() if bias is None else (bias,)))
    O, C = weight.shape if weight.ndim == 2 else (None, None)
    if x.shape[-1:] != (C,) or any(b.shape != (O,) for b in bias):
        got = " and ".join(f"{t.shape}" for t in (x, *bias))
        raise ValueError(f"linear with weight {weight.shape} needs x of shape (..., {C}) and a bias of ({O},), got {got}")
    rows = x.data.reshape(-1, C)  # one large product instead of B small ones
    y = rows @ weight.data.T
    for b in bias:
        y += b.data

    def backward(g):
        g = g.reshape(-1, O)
        dx = (g @ weight.data).reshape(x.shape) if x.requires_grad else None
        return dx, lambda: g.T @ rows, *(_column_sums(g) for _ in bias)

    return record(y.reshape(*x.shape[:-1], O), (x, weight, *bias), backward)


def embedding(weight, ids):
    """The rows of weight (V, C) at ids (...): (..., C)."""
    weight = as_tensor(weight)
    ids = validate.token_ids("ids", as_tensor(ids).data, len(weight))

    def backward(g):
        # An id that occurs n times collects n gradients. Number by number: whole rows take NumPy more than twice as long.
        dw, C = np.zeros(weight.shape, dtype=weight.dtype), weight.shape[1]
        np.add.at(dw.reshape(-1), (ids.reshape(-1, 1) * C + np.arange(C)).reshape(-1), g.reshape(-1))
        return (dw,)

    return record(weight.data[ids], (weight,), backward)


def dropout(x, p, rng):
    """Each element 0 with probability `p`, else divided by 1 - p, so that the mean stays (Srivastava et al., 2014)."""
    (x,) = _floats(x)
    if p == 0:
        return x
    mask = _dropout_mask(x.shape, p, rng, x.dtype)
    return record(x.data * mask, (x,), lambda g: (g * mask,))


def causal_attention(q, k, v, p=0.0, rng=None):
    """softmax(q k^T / sqrt(D), the future masked) v: q (..., Tq, D), k and v (..., Tk, D) to (..., Tq, D).

    The last query stands at the last key's position, so Tq < Tk continues a text whose past is
    cached. `p` is the dropout of the weights. Vaswani et al., 2017 (arXiv 1706.03762), section 3.2.
    """
    q, k, v = _floats(q, k, v)
    if q.shape[-1] != k.shape[-1] or k.shape != v.shape or q.shape[:-2] != k.shape[:-2] or q.shape[-2] > k.shape[-2]:
        raise ValueError(f"attention needs q (..., Tq, D), k and v (..., Tk, D), Tq <= Tk, got {q.shape}, {k.shape}, {v.shape}")
    out, scale = np.empty(q.shape, dtype=q.dtype), 1 / math.sqrt(q.shape[-1])
    scaled = q.data * scale
    blocks = _attend(*map(_four_axes, (scaled, k.data, v.data, out)), p, rng)

    def backward(g):
        grads = [np.empty(t.shape, dtype=t.dtype) for t in (q, k, v)]
        _attend_backward(*map(_four_axes, (g, scaled, k.data, v.data)), blocks, *map(_four_axes, grads))
        grads[0] *= scale
        return grads

    return record(out, (q, k, v), backward)


def causal_self_attention(qkv, n_head, p=0.0, rng=None):
    """`causal_attention` of n_head heads on queries, keys and values side by side: (B, T, 3C) to (B, T, C)."""
    (qkv,) = _floats(qkv)
    B, T, C = *qkv.shape[:2], qkv.shape[2] // 3
    _, k, v = _split_heads(qkv.data, n_head)
    scale = math.sqrt(n_head / C)  # 1 / sqrt(D); here it's rows of C numbers that are multiplied, later would be of D
    q = _heads_first(qkv.data[..., :C] * scale, n_head)
    out = np.empty((B, T, C), dtype=qkv.dtype)
    blocks = _attend(q, k, v, _heads_first(out, n_head), p, rng)

    def backward(g):
        dqkv = np.empty_like(qkv.data)  # the three gradients are written into their places
        _attend_backward(_heads_first(g, n_head), q, k, v, blocks, *_split_heads(dqkv, n_head))
        dqkv[..., :C] *= scale
        return (dqkv,)

    return record(out, (qkv,), backward)


def _split_heads(qkv, n_head):
    """Views of queries, keys and values, each (B, H, T, D), in an array (B, T, 3C)."""
    return qkv.reshape(*qkv.shape[:2], 3, n_head, -1).transpose(2, 0, 3, 1, 4)


def _four_axes(x):
    return x.reshape(-1, *(1,) * (x.ndim == 2), *x.shape[-3:]) if x.ndim != 4 else x  # (..., T, D) -> (B, H, T, D)


def _heads_first(x, n_head):
    B, T, C = x.shape
    return x.reshape(B, T, n_head, C // n_head).transpose(0, 2, 1, 3)  # (B, T, C) -> (B, H, T, D)


def attend(q, k, v, future=None, mask=None, weights=None, out=None):
    """softmax(q k^T + future) v of arrays (B, H, T, D), q divided by sqrt(D) before; the weights times `mask`.

    The weights go into `weights`, the result into `out`, where there are such.
    """
    w = exp_scores(q, k, future, weights)
    w /= w @ _column(1, w.shape[-1], w.dtype)  # their sums
    return np.matmul(w if mask is None else w * mask, v, out=out)


def exp_scores(q, k, future=None, out=None):
    """softmax(q k^T + future) before it's divided by its sums, each row times some factor of its own."""
    w = np.matmul(q, k.swapaxes(-1, -2), out=out)
    calm = w.item(w.argmin()) > -CALM and w.item(w.argmax()) < CALM  # for a single query in half the time of w.min() and w.max()
    if future is not None:
        w += future
    if not calm:  # only then can exp overflow or vanish; to find each row's largest takes longer than exp
        largest = np.maximum.reduce(w, axis=-1, keepdims=True)
        w -= np.where(np.abs(largest) < CALM, 0, largest)
    return np.exp(w, out=w)


@lru_cache(maxsize=16)
def future_mask(queries, keys, dtype):
    """(queries, keys) of 0, and -inf for the keys after each query, of which the last stands at the last key."""
    return _read_only(np.triu(np.full((queries, keys), -np.inf, dtype=dtype), k=keys - queries + 1))


def _attend(q, k, v, out, p, rng):
    """Write the attention's result into `out`; return what its backward needs. All (B, H, T, D), q divided by sqrt(D) before.

    A block of queries meets the keys up to its last only: of 2 blocks the first needs half the keys.
    """
    (B, H, Tq, D), Tk, blocks = q.shape, k.shape[2], []
    k = _columns_contiguous(k)
    for start in range(0, Tq, QUERIES):
        stop = min(start + QUERIES, Tq)
        queries, keys = slice(start, stop), slice(0, Tk - Tq + stop)
        weights = np.empty((B, H, stop - start, keys.stop), dtype=q.dtype)
        mask = _dropout_mask(weights.shape, p, rng, weights.dtype) if p else None
        future = future_mask(*weights.shape[2:], q.dtype)

        def forward(s):
            dropped = None if mask is None else mask[s]
            attend(q[s, :, queries], k[s, :, keys], v[s, :, keys], future, dropped, weights[s], out[s, :, queries])

        in_pieces(forward, B, weights.size)
        blocks.append((queries, keys, weights, mask))
    return blocks


def _attend_backward(g, q, k, v, blocks, dq, dk, dv):
    """Write the gradients of queries, keys and values into dq, dk and dv, given that of the result."""
    v = _columns_contiguous(v)
    for queries, keys, weights, mask in reversed(blocks):
        first = keys.stop == k.shape[2]  # it writes the gradient of every key, the others add to it

        def piece(s):
            w, gq = weights[s], g[s, :, queries]
            _add_product((w if mask is None else w * mask[s]).swapaxes(-1, -2), gq, dv[s, :, keys], first)  # out = weights v
            dw = gq @ v[s, :, keys].swapaxes(-1, -2)
            if mask is not None:
                dw *= mask[s]
            # softmax's Jacobian, as above: dscores = w (dw - sum_j dw_j w_j). The sum is also g . out, which is
            # shorter, but where one weight is 1 the difference must be 0, and not what the two round differently.
            dw -= np.vecdot(dw, w, keepdims=True)
            dw *= w
            np.matmul(dw, k[s, :, keys], out=dq[s, :, queries])
            _add_product(dw.swapaxes(-1, -2), q[s, :, queries], dk[s, :, keys], first)

        in_pieces(piece, len(q), weights.size)


def _columns_contiguous(a):
    """A copy of (..., T, D) with each column in one piece: of its transpose, small products take half the time with AVX-512."""
    return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)


def _add_product(a, b, out, first):
    """out += a @ b, or the first time out = a @ b."""
    if first:
        np.matmul(a, b, out=out)
    else:
        out += a @ b


@lru_cache(maxsize=1024)
def _column(value, n, dtype):
    """(n, 1) of one value, to multiply with: for a single row, making it anew would cost as much as the product."""
    return _read_only(np.full((n, 1), value, dtype=dtype))


def _read_only(array):
    """The array itself, which nobody can write to from now on."""
    array.flags.writeable = False
    return array


def _column_sums(a):
    """a.sum(axis=0) for (N, C), as a product, which is three times as fast.

    By .dot: where a result has under 500 numbers, @ keeps Python's lock, and the other thread waits.
    """
    return _column(1, len(a), a.dtype)[:, 0].dot(a)


def _dropout_mask(shape, p, rng, dtype):
    validate.below_one("the probability of dropout", p)
    validate.generator(rng)
    keep = max(1, round((1 - p) * 65536))  # sixteen random bits an element decide: a fifth of the time of random floats
    return (rng.integers(0, 65536, shape, dtype=np.uint16) < keep) * np.asarray(65536 / keep, dtype=dtype)


def _floats(*values):
    """The values as Tensors of floats: integers take the type of the others, or else float32."""
    if all([isinstance(value, Tensor) and value.data.dtype.kind == "f" for value in values]):
        return values
    tensors = [as_tensor(value) for value in values]
    dtype = np.result_type(*[t.dtype for t in tensors if t.dtype.kind == "f"] or [np.float32])
    return [t if t.dtype.kind == "f" else Tensor(t.data, dtype=dtype) for t in tensors]
