"""Notebook 01."""

from collections import deque

import numpy as np


def nudged_up(f, x, h):
    slopes = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        up = x.astype(float)
        up[i] += h
        slopes[i] = (f(up) - f(x)) / h
    return slopes


def nudged_over_h(f, x, h):
    slopes = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        up, down = x.astype(float), x.astype(float)
        up[i] += h
        down[i] -= h
        slopes[i] = (f(up) - f(down)) / h
    return slopes


def nudged_undivided(f, x, h):
    return nudged_over_h(f, x, h) * h


def nudged_all(f, x, h):
    slopes = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        slopes[i] = (f(x + h) - f(x - h)) / 2 / h
    return slopes


def nudged_not_put_back(f, x, h):
    x, slopes = x.astype(float), np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        x[i] += h
        up = f(x)
        x[i] -= 2 * h
        slopes[i] = (up - f(x)) / (2 * h)
    return slopes


def nudged_integers(f, x, h):
    x, slopes = x.copy(), np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        old = x[i]
        x[i] = old + h
        up = f(x)
        x[i] = old - h
        slopes[i] = (up - f(x)) / (2 * h)
        x[i] = old
    return slopes


def nudged_zeros_like(f, x, h):
    slopes = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.astype(float), x.astype(float)
        up[i] += h
        down[i] -= h
        slopes[i] = (f(up) - f(down)) / (2 * h)
    return slopes


def nudged_flat(f, x, h):
    x = x.astype(float)  # keeps the order of a transposed array
    flat, slopes = x.reshape(-1), np.zeros(x.size)
    for i in range(x.size):
        old = flat[i]
        flat[i] = old + h
        up = f(x)
        flat[i] = old - h
        slopes[i] = (up - f(x)) / (2 * h)
        flat[i] = old
    return slopes.reshape(x.shape)


def product_unsummed(g, a, b):
    return b * g, a * g


def _summed(grad, like, keep=True, front=True):
    while front and grad.ndim > like.ndim:
        grad = grad.sum(axis=0)
    for axis in reversed(range(like.ndim)):
        if like.shape[axis] == 1 and grad.shape[axis] > 1:
            grad = grad.sum(axis=axis, keepdims=keep)
    return grad


def product_same_factor(g, a, b):
    return _summed(g * a, a), _summed(g * b, b)


def product_no_factor(g, a, b):
    return _summed(g, a), _summed(g, b)


def product_front_only(g, a, b):
    da, db = g * b, g * a
    while da.ndim > a.ndim:
        da = da.sum(0)
    while db.ndim > b.ndim:
        db = db.sum(0)
    return da, db


def product_stretched_only(g, a, b):
    results = []
    for grad, like in ((g * b, a), (g * a, b)):
        for axis in range(-like.ndim, 0):
            if like.shape[axis] == 1:
                grad = grad.sum(axis=axis, keepdims=True)
        results.append(grad)
    return tuple(results)


def product_axis_lost(g, a, b):
    return _summed(g * b, a, keep=False), _summed(g * a, b, keep=False)


def product_means(g, a, b):
    results = []
    for grad, like in ((g * b, a), (g * a, b)):
        while grad.ndim > like.ndim:
            grad = grad.mean(axis=0)
        for axis, n in enumerate(like.shape):
            if n == 1:
                grad = grad.mean(axis=axis, keepdims=True)
        results.append(grad)
    return results


def matmul_with_T(g, a, b):
    return np.matmul(g, b.T), np.matmul(a.T, g)


def matmul_unsummed(g, a, b):
    return np.matmul(g, np.moveaxis(b, -1, -2)), np.matmul(np.moveaxis(a, -1, -2), g)


def _to_shape(grad, like):
    return grad.sum(axis=tuple(range(grad.ndim - like.ndim)))


def matmul_exchanged(g, a, b):
    da, db = matmul_unsummed(g, a, b)
    return _to_shape(db, b), _to_shape(da, a)


def matmul_untransposed(g, a, b):
    return np.matmul(g, b), np.matmul(a, g)


def matmul_other_order(g, a, b):
    return np.matmul(np.moveaxis(b, -1, -2), g), np.matmul(g, np.moveaxis(a, -1, -2))


def max_whole(g, x):
    largest = np.max(x, axis=-1, keepdims=True)
    return np.where(x == largest, np.expand_dims(g, -1), 0.0)


def max_first(g, x):
    dx = np.zeros_like(x)
    np.put_along_axis(dx, x.argmax(axis=-1)[..., None], np.expand_dims(g, -1), axis=-1)
    return dx


def max_mask(g, x):
    mask = np.where(x == np.max(x, axis=-1, keepdims=True), 1.0, 0.0)
    return mask / mask.sum(axis=-1, keepdims=True)


def max_as_mean(g, x):
    return np.repeat(np.expand_dims(g, -1), x.shape[-1], axis=-1) / x.shape[-1]


def max_of_all(g, x):
    mask = (x == np.max(x)).astype(float)
    return np.expand_dims(g, -1) * mask / np.sum(mask)


def max_lined_up(g, x):
    mask = (x == np.max(x, axis=-1, keepdims=True)).astype(float)
    return g * mask / mask.sum(axis=-1, keepdims=True)


def _walk(graph, order, root, leaf):
    grads = {name: 0.0 for name in graph}
    grads[root] = 1.0
    for name in order:
        for parent, slope in graph[name]:
            grads[parent] += grads[name] * slope
    return grads[leaf]


def _ready_order(graph, root):
    """Each node once all that use it are done."""
    uses, waiting, reached = {}, [root], {root}
    while waiting:
        for parent, _ in graph[waiting.pop()]:
            uses[parent] = uses.get(parent, 0) + 1
            if parent not in reached:
                reached.add(parent)
                waiting.append(parent)
    order, ready = [], [root]
    while ready:
        order.append(ready.pop())
        for parent, _ in graph[order[-1]]:
            uses[parent] -= 1
            if not uses[parent]:
                ready.append(parent)
    return order


def walk_overwriting(graph, root, leaf):
    grads = {root: 1.0}
    for name in _ready_order(graph, root):
        for parent, slope in graph[name]:
            grads[parent] = grads[name] * slope
    return grads[leaf]


def walk_first_path(graph, root, leaf):
    """Depth first with a list of its own; the first path that arrives counts."""
    stack, seen = [(root, 1.0)], set()
    while stack:
        name, product = stack.pop()
        if name == leaf:
            return product
        if name not in seen:
            seen.add(name)
            stack.extend((parent, product * slope) for parent, slope in reversed(graph[name]))
    return 0.0


def walk_every_path(graph, root, leaf):
    total, stack = 0.0, [(root, 1.0)]
    while stack:
        name, product = stack.pop()
        if name == leaf:
            total += product
        for parent, slope in graph[name]:
            stack.append((parent, product * slope))
    return total


def walk_recursive(graph, root, leaf):
    if root == leaf:
        return 1.0
    return sum(slope * walk_recursive(graph, parent, leaf) for parent, slope in graph[root])


def walk_too_early(graph, root, leaf):
    grads, seen, queue = {root: 1.0}, {root}, deque([root])
    while queue:
        name = queue.popleft()
        for parent, slope in graph[name]:
            grads[parent] = grads.get(parent, 0.0) + slope * grads[name]
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return grads[leaf]


def walk_as_listed(graph, root, leaf):
    return _walk(graph, reversed(list(graph)), root, leaf)


def walk_as_listed_forwards(graph, root, leaf):
    return _walk(graph, graph, root, leaf)


def walk_without_start(graph, root, leaf):
    grads = {name: 0.0 for name in graph}
    for name in _ready_order(graph, root):
        for parent, slope in graph[name]:
            grads[parent] += grads[name] * slope
    return grads[leaf]


def walk_waiting_for_all(graph, root, leaf):
    grads = {name: 0.0 for name in graph}
    missing = {name: sum(parent == name for users in graph.values() for parent, _ in users) for name in graph}
    grads[root], missing[root] = 1.0, 0
    waiting = [root]
    while waiting:
        name = waiting.pop()
        for parent, slope in graph[name]:
            grads[parent] += slope * grads[name]
            missing[parent] -= 1
            if missing[parent] == 0:
                waiting.append(parent)
    return grads[leaf]


def walk_adding_slopes(graph, root, leaf):
    grads = {name: 0.0 for name in graph}
    for name in _ready_order(graph, root):
        for parent, slope in graph[name]:
            grads[parent] += grads[name] + slope
    return grads[leaf]


WRONG = {
    "1.1": [
        (nudged_up, "nudging up only"),
        (nudged_over_h, "a way of 2h"),
        (nudged_undivided, "the difference itself"),
        (nudged_all, "nudged at once"),
        (nudged_not_put_back, "pile up"),
        (nudged_integers, "rounds the nudge away"),
        (nudged_zeros_like, "rounds the slopes"),
        (nudged_flat, "isn't nudged at all"),
    ],
    "1.2": [
        (product_unsummed, "sum over the axes along which it was copied"),
        (product_same_factor, "has the other factor's"),
        (product_no_factor, "Where is the other factor"),
        (product_front_only, "Axes that were added in front are summed"),
        (product_stretched_only, "Stretched axes of length 1 are summed"),
        (product_axis_lost, "an axis of length 1 is lost"),
        (product_means, "not a mean"),
    ],
    "1.3": [
        (matmul_with_T, "turns all axes round"),
        (matmul_unsummed, "summed over the batch"),
        (matmul_exchanged, "exchanged"),
        (matmul_untransposed, "transposes are missing"),
        (matmul_other_order, "The order is wrong"),
    ],
    "1.4": [
        (max_whole, "more goes back than came"),
        (max_first, "to the first"),
        (max_mask, "where the largest are"),
        (max_as_mean, "the mean's gradient"),
        (max_of_all, "largest of all"),
        (max_lined_up, "lined up with the columns"),
    ],
    "1.5": [
        (walk_overwriting, "keeps only what came last"),
        (walk_first_path, "one path"),
        (walk_every_path, "their number doubles"),
        (walk_recursive, "exhausts Python's stack"),
        (walk_too_early, "before all its uses have reported"),
        (walk_as_listed, "from the last to the first"),
        (walk_as_listed_forwards, "from the first to the last"),
        (walk_without_start, "by itself is 1"),
        (walk_waiting_for_all, "only uses on the way from root"),
        (walk_adding_slopes, "here they are added"),
    ],
}
