"""The passes of a chain of linear layers, compiled: one client after the other.

R rows stand client by client; ``ends [K]`` tells where each client's end. A row of `table` is a layer:
inputs, outputs, where its weight and its bias (or -1) start in a client's vector, the activation after
it, and where its input and the gradient of its output stand in `kept`, in units of R numbers.
"""

from __future__ import annotations

import numpy as np

from fedmodel.compiling import compiled, inlined

__all__ = ["NONE", "RELU", "SIGMOID", "TANH", "run", "square", "sum_up"]

NONE, RELU, TANH, SIGMOID = range(4)


@inlined
def _block(kept, place, width, number, first, last):
    """Some rows of one layer, ``[last - first, width]``."""
    start = place * number
    return kept[start + first * width : start + last * width].reshape((last - first, width))


@inlined
def _matrix(vector, start, outputs, inputs):
    return vector[start : start + outputs * inputs].reshape((outputs, inputs))


@inlined
def _activate(z, activation):
    flat = z.reshape(z.size)
    if activation == RELU:
        for i in range(len(flat)):
            flat[i] = flat[i] if flat[i] > 0 else flat[i] * 0  # keeps NaN, as torch does
    elif activation == TANH:
        for i in range(len(flat)):
            flat[i] = np.tanh(flat[i])
    elif activation == SIGMOID:
        for i in range(len(flat)):
            flat[i] = 1 / (1 + np.exp(-flat[i]))


@inlined
def _derive(g, a, activation):
    """Times the activation's derivative, from what came out of it."""
    g, a = g.reshape(g.size), a.reshape(a.size)
    if activation == RELU:
        for i in range(len(g)):
            g[i] = g[i] if a[i] > 0 else 0
    elif activation == TANH:
        for i in range(len(g)):
            g[i] *= 1 - a[i] * a[i]
    elif activation == SIGMOID:
        for i in range(len(g)):
            g[i] *= a[i] * (1 - a[i])


@inlined
def _cross_entropy(z, y):
    """A row's loss; its logits become their gradient. A single logit is that of class 1 against 0."""
    if len(z) == 1:
        sign = z.dtype.type(1 - 2 * y)
        lean = z[0] * sign  # log(1 + exp(lean)) is the loss
        tail = np.exp(-abs(lean))
        z[0] = sign * (1 if lean > 0 else tail) / (1 + tail)
        return max(lean, 0) + np.log1p(tail)
    highest = z[0]
    for c in range(1, len(z)):
        highest = max(highest, z[c])
    own, total = z[y] - highest, z[0] * 0
    for c in range(len(z)):
        z[c] = np.exp(z[c] - highest)
        total += z[c]
    share = 1 / total
    for c in range(len(z)):
        z[c] *= share
    z[y] -= 1
    return np.log(total) - own


@compiled
def run(local, x, y, rows, ends, table, kept, loss):
    """Forward and backward pass: fills `kept`, and each client's summed cross-entropy ``loss [K]``.

    ``local [K, d]`` are the parameters, ``x [N, n]`` and ``y [N]`` records, of which ``rows [R]`` are met.
    """
    number, first = len(rows), 0
    for k in range(len(ends)):
        last = ends[k]
        loss[k] = 0
        if first == last:
            continue
        a = _block(kept, table[0, 5], table[0, 0], number, first, last)
        for r in range(first, last):
            for i in range(x.shape[1]):
                a[r - first, i] = x[rows[r], i]
        for layer in range(len(table)):
            inputs, outputs, weight, bias, activation, _, behind = table[layer]
            if layer + 1 < len(table):
                behind = table[layer + 1, 5]  # the logits alone become their gradient
            z = _block(kept, behind, outputs, number, first, last)
            np.dot(a, _matrix(local[k], weight, outputs, inputs).T, z)
            if bias >= 0:
                for r in range(len(z)):
                    for o in range(outputs):
                        z[r, o] += local[k, bias + o]
            _activate(z, activation)
            a = z
        for r in range(first, last):
            loss[k] += _cross_entropy(a[r - first], y[rows[r]])
        for layer in range(len(table) - 1, 0, -1):
            inputs, outputs, weight, _, _, place, behind = table[layer]
            g = _block(kept, behind, outputs, number, first, last)
            a = _block(kept, place, inputs, number, first, last)
            back = _block(kept, table[layer - 1, 6], inputs, number, first, last)
            np.dot(g, _matrix(local[k], weight, outputs, inputs), back)
            _derive(back, a, table[layer - 1, 4])
        first = last


@compiled(reorder=True)
def square(table, kept, squared):
    """Squared norms of each row's gradient: ``squared [2, L, R]`` of biases and of weights.

    That of a weight is ``|g|^2 |a|^2`` (Goodfellow 2015).
    """
    number = squared.shape[2]
    for layer in range(len(table)):
        a = _block(kept, table[layer, 5], table[layer, 0], number, 0, number)
        g = _block(kept, table[layer, 6], table[layer, 1], number, 0, number)
        for r in range(number):
            of_a, of_g = kept[0] * 0, kept[0] * 0
            for i in range(a.shape[1]):
                of_a += a[r, i] * a[r, i]
            for o in range(g.shape[1]):
                of_g += g[r, o] * g[r, o]
            squared[0, layer, r], squared[1, layer, r] = of_g, of_a * of_g


@compiled
def sum_up(ends, table, kept, factors, total):
    """Each client's sum of its rows' gradients, times ``factors [L, R]``, to ``total [K, d]``.

    The gradients in `kept` are scaled in place.
    """
    number, first = factors.shape[1], 0
    for k in range(len(ends)):
        last, own = ends[k], total[k]
        own[:] = 0
        for layer in range(len(table)):
            if first == last:
                break
            inputs, outputs, weight, bias, _, place, behind = table[layer]
            a = _block(kept, place, inputs, number, first, last)
            g = _block(kept, behind, outputs, number, first, last)
            for r in range(len(g)):
                for o in range(outputs):
                    g[r, o] *= factors[layer, first + r]
                    if bias >= 0:
                        own[bias + o] += g[r, o]
            np.dot(g.T, a, _matrix(own, weight, outputs, inputs))
        first = last
