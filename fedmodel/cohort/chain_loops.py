"""The passes of a chain of linear layers, and whole local trainings, compiled: client by client.

A row of `table` is a layer: inputs, outputs, where its weight and its bias (or -1) start in a client's
vector, the activation after it, and where its input and the gradient of its output stand in what is
`kept` of a client, in units of its number of rows.
"""

from __future__ import annotations

import numpy as np

from fedmodel.compiling import compiled, inlined

__all__ = ["NONE", "RELU", "SIGMOID", "TANH", "add", "run", "square", "train"]

NONE, RELU, TANH, SIGMOID = range(4)


@inlined
def _block(kept, place, width, rows):
    """What is kept of one layer, ``[rows, width]``."""
    return kept[place * rows : (place + width) * rows].reshape((rows, width))


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
def _pass(vector, x, y, rows, table, kept):
    """One client's forward and backward pass on these rows: fills `kept`, returns the summed loss."""
    number, loss = len(rows), vector[0] * 0
    a = _block(kept, table[0, 5], table[0, 0], number)
    for r in range(number):
        for i in range(x.shape[1]):
            a[r, i] = x[rows[r], i]
    for layer in range(len(table)):
        inputs, outputs, weight, bias, activation, _, behind = table[layer]
        if layer + 1 < len(table):
            behind = table[layer + 1, 5]  # the logits alone become their gradient
        z = _block(kept, behind, outputs, number)
        np.dot(a, _matrix(vector, weight, outputs, inputs).T, z)
        if bias >= 0:
            for r in range(number):
                for o in range(outputs):
                    z[r, o] += vector[bias + o]
        _activate(z, activation)
        a = z
    for r in range(number):
        loss += _cross_entropy(a[r], y[rows[r]])
    for layer in range(len(table) - 1, 0, -1):
        inputs, outputs, weight, _, _, place, behind = table[layer]
        g = _block(kept, behind, outputs, number)
        back = _block(kept, table[layer - 1, 6], inputs, number)
        np.dot(g, _matrix(vector, weight, outputs, inputs), back)
        _derive(back, _block(kept, place, inputs, number), table[layer - 1, 4])
    return loss


@compiled(reorder=True)
def _square(table, kept, squared):
    """Squared norms of one client's gradients, row by row: ``squared [R, 2, L]`` of biases, weights.

    That of a weight is ``|g|^2 |a|^2`` (Goodfellow 2015).
    """
    for layer in range(len(table)):
        a = _block(kept, table[layer, 5], table[layer, 0], len(squared))
        g = _block(kept, table[layer, 6], table[layer, 1], len(squared))
        for r in range(len(squared)):
            of_a, of_g = kept[0] * 0, kept[0] * 0
            for i in range(a.shape[1]):
                of_a += a[r, i] * a[r, i]
            for o in range(g.shape[1]):
                of_g += g[r, o] * g[r, o]
            squared[r, 0, layer], squared[r, 1, layer] = of_g, of_a * of_g


@compiled
def _add(table, kept, factors, total):
    """The sum of one client's gradients, each row times ``factors [R, L]``, to ``total [d]``.

    What is kept of the gradients is scaled in place.
    """
    total[:] = 0
    for layer in range(len(table) if len(factors) else 0):
        inputs, outputs, weight, bias, _, place, behind = table[layer]
        a = _block(kept, place, inputs, len(factors))
        g = _block(kept, behind, outputs, len(factors))
        for r in range(len(factors)):
            for o in range(outputs):
                g[r, o] *= factors[r, layer]
        if bias >= 0:
            for r in range(len(factors)):
                for o in range(outputs):
                    total[bias + o] += g[r, o]
        np.dot(g.T, a, _matrix(total, weight, outputs, inputs))


# The same for K clients, whose rows stand one client after the other: ``starts [K + 1]``.


@compiled
def run(local, x, y, rows, starts, table, width, kept, loss):
    """Forward and backward passes: fills `kept`, and each client's summed loss, ``loss [K]``."""
    for k in range(len(local)):
        first, last = starts[k], starts[k + 1]
        mine = kept[first * width : last * width]
        loss[k] = _pass(local[k], x, y, rows[first:last], table, mine) if first < last else 0


@compiled
def square(starts, table, width, kept, squared):
    """Each record's squared gradient norms by layer, ``squared [R, 2, L]``: biases', then weights'."""
    for k in range(len(starts) - 1):
        first, last = starts[k], starts[k + 1]
        if first < last:
            _square(table, kept[first * width : last * width], squared[first:last])


@compiled
def add(starts, table, width, kept, factors, total):
    """Each client's sum of gradients, each record's times ``factors [R, L]``, to ``total [K, d]``."""
    for k in range(len(total)):
        first, last = starts[k], starts[k + 1]
        _add(table, kept[first * width : last * width], factors[first:last], total[k])


@compiled
def train(
    clients,
    local,
    start,
    velocity,
    x,
    y,
    first,
    records,
    num_steps,
    table,
    width,
    clip,
    noise,
    noise_scale,
    divisor,
    rates,
    loss,
    met,
):
    """Steps of SGD of K clients, those from ``clients[0]`` to ``clients[1]``.

    ``local [K, d]`` moves, ``velocity [K, d]`` is its momentum,
    where there is some.

    ``records [S, K, B]`` are each step's, -1 for none; those of client k stand from row ``first[k]``.
    With a finite `clip` each record's gradient is clipped, ``noise [S, K, d]`` added in units of
    ``noise_scale [K]``, and all divided by ``divisor [K]``; else the mean is taken. `rates` are learning
    rate, momentum, weight decay and proximal. Client k takes ``num_steps[k]`` steps. The losses that
    were met are added to ``loss [K]``, their number to ``met [K]``.
    """
    most = records.shape[2]
    rows, kept = np.empty(most, np.int64), np.empty(most * width, local.dtype)
    squared = np.empty((most, 2, len(table)), local.dtype)
    factors = np.empty((most, len(table)), local.dtype)
    total = np.empty(local.shape[1], local.dtype)
    rate, momentum, decay, proximal = rates
    one = local.dtype.type(1)
    for k in range(clients[0], clients[1]):
        own = local[k]
        for step in range(min(num_steps[k], len(records))):
            number = 0
            for slot in range(most):
                if records[step, k, slot] >= 0:
                    rows[number] = first[k] + records[step, k, slot]
                    number += 1
            mine = kept[: number * width]
            if number:
                loss[k] += _pass(own, x, y, rows[:number], table, mine)
            met[k] += number
            if clip < np.inf:
                if number:
                    _square(table, mine, squared[:number])
                for r in range(number):
                    norm = one * 0
                    for layer in range(len(table)):
                        norm += squared[r, 0, layer] * (table[layer, 3] >= 0) + squared[r, 1, layer]
                    factor = min(one, clip / np.sqrt(norm)) if norm > 0 else one
                    for layer in range(len(table)):
                        factors[r, layer] = factor
                _add(table, mine, factors[:number], total)
                share, scale = one / divisor[k], noise_scale[k]
                if scale > 0:
                    drawn = noise[step, k]
                    for i in range(len(total)):
                        total[i] = (total[i] + scale * drawn[i]) * share
                else:
                    for i in range(len(total)):
                        total[i] *= share
            else:
                factors[:number] = one / max(number, 1)
                _add(table, mine, factors[:number], total)
            if proximal > 0 or decay > 0:
                for i in range(len(total)):
                    total[i] += proximal * (own[i] - start[i]) + decay * own[i]
            if momentum > 0:
                for i in range(len(total)):
                    velocity[k, i] = momentum * velocity[k, i] + total[i]
                    total[i] = velocity[k, i]
            for i in range(len(total)):
                own[i] -= rate * total[i]
