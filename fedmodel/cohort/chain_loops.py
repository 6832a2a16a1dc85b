"""The passes of a chain of layers, and whole local trainings, compiled: client by client.

A chain's `form` is a tuple: a `table`, a row a layer with the numbers that `Row` lists; `shapes`, a row
a layer, zeros for a linear one (`image_loops.Shape`), or None where all are linear: what is for
convolutions is then not compiled; how many numbers are kept of a record, and how many more of its
gradients of convolutions; and how many are worked with at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedmodel.cohort import activation_loops, image_loops
from fedmodel.cohort.activation_loops import activate, derive
from fedmodel.cohort.image_loops import (
    channels_first,
    channels_last,
    channels_last_in_place,
    weights,
)
from fedmodel.compiling import compiled, inlined

__all__ = ["Row", "add", "run", "square", "train"]

_PARTS = (activation_loops, image_loops)


class Row(NamedTuple):
    """One layer. Places are in what is kept of a client, in units of its number of rows."""

    inputs: int
    outputs: int  # before pooling
    weight: int  # where it starts in the client's vector
    bias: int  # or -1
    activation: int  # after it
    before: int  # the place of its input
    behind: int  # of its output's gradient
    pooled: int = -1  # of what a convolution gives on
    back: int = -1  # of the gradient of what it gives on
    single: int = -1  # of a convolution's gradients record by record, elsewhere


@inlined
def _block(kept, place, width, rows):
    """What is kept of one layer, ``[rows, width]``."""
    return kept[place * rows : (place + width) * rows].reshape((rows, width))


@inlined
def _matrix(vector, start, outputs, inputs):
    return vector[start : start + outputs * inputs].reshape((outputs, inputs))


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


@compiled(parts=_PARTS)
def _pass(vector, x, y, rows, table, shapes, kept, work):
    """One client's forward and backward pass on these rows: fills `kept`, returns the summed loss."""
    number, last, loss = len(rows), len(table) - 1, vector[0] * 0
    a = _block(kept, table[0, 5], table[0, 0], number)
    planes = 1
    if shapes is not None:
        planes = shapes[0, 0]
    for r in range(number):
        if planes > 1:
            channels_last(x[rows[r]], planes, a[r])
        else:
            for i in range(x.shape[1]):
                a[r, i] = x[rows[r], i]
    for layer in range(len(table)):
        inputs, outputs, weight, bias, activation, before, behind, pooled = table[layer, :8]
        if layer < last:
            after, width = table[layer + 1, 5], table[layer + 1, 0]
        a = _block(kept, before, inputs, number)
        if shapes is not None:
            if shapes[layer, 0]:
                z = _block(kept, behind, outputs, number)
                out = _block(kept, pooled, width, number)
                image_loops.forward(
                    vector, weight, bias, activation, shapes[layer], a, z, out, work
                )
                if after != pooled:
                    flat = _block(kept, after, width, number)
                    for r in range(number):
                        channels_first(out[r], shapes[layer, 9], flat[r])
                continue
        z = _block(kept, after if layer < last else behind, outputs, number)
        np.dot(a, _matrix(vector, weight, outputs, inputs).T, z)
        if bias >= 0:
            for r in range(number):
                for o in range(outputs):
                    z[r, o] += vector[bias + o]
        activate(z, activation)
    z = _block(kept, table[last, 6], table[last, 1], number)  # its logits become their gradient
    for r in range(number):
        loss += _cross_entropy(z[r], y[rows[r]])
    for layer in range(last, 0, -1):
        inputs, outputs, weight, _, _, before, behind = table[layer, :7]
        g = _block(kept, behind, outputs, number)
        back = _block(kept, table[layer - 1, 8], inputs, number)
        linear = True
        if shapes is not None:
            if shapes[layer, 0]:
                linear = False
                image_loops.back(vector, weight, shapes[layer], g, back, work)
        if linear:
            np.dot(g, _matrix(vector, weight, outputs, inputs), back)
        activation = table[layer - 1, 4]
        if shapes is not None:
            if shapes[layer - 1, 0]:
                if linear:
                    for r in range(number):
                        channels_last_in_place(back[r], shapes[layer - 1, 9], work)
                out = _block(kept, table[layer - 1, 7], inputs, number)
                z = _block(kept, table[layer - 1, 6], table[layer - 1, 1], number)
                image_loops.unpool(activation, shapes[layer - 1], out, back, z)
                continue
        derive(back, _block(kept, before, inputs, number), activation)
    return loss


@compiled(reorder=True, parts=_PARTS)
def _square(table, shapes, kept, singles, squared, work):
    """Squared norms of one client's gradients, row by row: ``squared [R, 2, L]`` of biases, weights.

    That of a linear layer's weight is ``|g|^2 |a|^2`` (Goodfellow 2015). Convolutions' gradients are
    computed, and kept in `singles`.
    """
    number = len(squared)
    for layer in range(len(table)):
        a = _block(kept, table[layer, 5], table[layer, 0], number)
        g = _block(kept, table[layer, 6], table[layer, 1], number)
        if shapes is not None:
            if shapes[layer, 0]:
                shape = shapes[layer]
                one = _block(singles, table[layer, 9], weights(shape), number)
                image_loops.square(shape, a, g, one, squared[:, :, layer], work)
                continue
        for r in range(number):
            of_a, of_g = kept[0] * 0, kept[0] * 0
            for i in range(a.shape[1]):
                of_a += a[r, i] * a[r, i]
            for o in range(g.shape[1]):
                of_g += g[r, o] * g[r, o]
            squared[r, 0, layer], squared[r, 1, layer] = of_g, of_a * of_g


@compiled(parts=_PARTS)
def _add(table, shapes, kept, singles, factors, total, work):
    """The sum of one client's gradients, each row times ``factors [R, L]``, to ``total [d]``.

    What is kept of the gradients is scaled in place. Of convolutions it takes `singles`, where there
    are some.
    """
    number = len(factors)
    total[:] = 0
    for layer in range(len(table) if number else 0):
        inputs, outputs, weight, bias, _, before, behind = table[layer, :7]
        a = _block(kept, before, inputs, number)
        g = _block(kept, behind, outputs, number)
        if shapes is not None:
            if shapes[layer, 0]:
                shape, own = shapes[layer], factors[:, layer]
                if len(singles):
                    one = _block(singles, table[layer, 9], weights(shape), number)
                    image_loops.add_kept(weight, bias, shape, one, g, own, total, work)
                else:
                    image_loops.add(weight, bias, shape, a, g, own, total, work)
                continue
        for r in range(number):
            for o in range(outputs):
                g[r, o] *= factors[r, layer]
        if bias >= 0:
            for r in range(number):
                for o in range(outputs):
                    total[bias + o] += g[r, o]
        np.dot(g.T, a, _matrix(total, weight, outputs, inputs))


# The same for K clients, whose rows stand one client after the other: ``starts [K + 1]``.


@compiled(parts=_PARTS)
def run(local, x, y, rows, starts, form, kept, loss):
    """Forward and backward passes: fills `kept`, and each client's summed loss, ``loss [K]``."""
    table, shapes, width, _, worked = form
    work = np.empty(worked, local.dtype)
    for k in range(len(local)):
        first, last = starts[k], starts[k + 1]
        mine = kept[first * width : last * width]
        loss[k] = 0
        if first < last:
            loss[k] = _pass(local[k], x, y, rows[first:last], table, shapes, mine, work)


@compiled(parts=_PARTS)
def square(starts, form, kept, singles, squared):
    """Each record's squared gradient norms by layer, ``squared [R, 2, L]``: biases', then weights'."""
    table, shapes, width, more, worked = form
    work = np.empty(worked, kept.dtype)
    for k in range(len(starts) - 1):
        first, last = starts[k], starts[k + 1]
        if first < last:
            mine, own = kept[first * width : last * width], singles[first * more : last * more]
            _square(table, shapes, mine, own, squared[first:last], work)


@compiled(parts=_PARTS)
def add(starts, form, kept, singles, factors, total):
    """Each client's sum of gradients, each record's times ``factors [R, L]``, to ``total [K, d]``."""
    table, shapes, width, more, worked = form
    work = np.empty(worked, kept.dtype)
    for k in range(len(total)):
        first, last = starts[k], starts[k + 1]
        mine, own = kept[first * width : last * width], singles[first * more : last * more]
        _add(table, shapes, mine, own, factors[first:last], total[k], work)


@compiled(parts=_PARTS)
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
    form,
    clip,
    noise,
    noise_scale,
    divisor,
    rates,
    loss,
    met,
):
    """Steps of SGD of K clients, those from ``clients[0]`` to ``clients[1]``.

    ``local [K, d]`` moves, ``velocity [K, d]`` is its momentum, where there is some.

    ``records [S, K, B]`` are each step's, -1 for none; those of client k stand from row ``first[k]``.
    With a finite `clip` each record's gradient is clipped, ``noise [S, K, d]`` added in units of
    ``noise_scale [K]``, and all divided by ``divisor [K]``; else the mean is taken. `rates` are learning
    rate, momentum, weight decay and proximal. Client k takes ``num_steps[k]`` steps. The losses that
    were met are added to ``loss [K]``, their number to ``met [K]``.
    """
    table, shapes, width, more, worked = form
    most, clipped = records.shape[2], clip < np.inf
    rows, kept = np.empty(most, np.int64), np.empty(most * width, local.dtype)
    singles = np.empty(most * more if clipped else 0, local.dtype)
    squared = np.empty((most, 2, len(table)), local.dtype)
    factors = np.empty((most, len(table)), local.dtype)
    total, work = np.empty(local.shape[1], local.dtype), np.empty(worked, local.dtype)
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
                loss[k] += _pass(own, x, y, rows[:number], table, shapes, mine, work)
            met[k] += number
            if clipped:
                apart = singles[: number * more]
                if number:
                    _square(table, shapes, mine, apart, squared[:number], work)
                for r in range(number):
                    norm = one * 0
                    for layer in range(len(table)):
                        norm += squared[r, 0, layer] * (table[layer, 3] >= 0) + squared[r, 1, layer]
                    factor = min(one, clip / np.sqrt(norm)) if norm > 0 else one
                    for layer in range(len(table)):
                        factors[r, layer] = factor
                _add(table, shapes, mine, apart, factors[:number], total, work)
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
                _add(table, shapes, mine, singles, factors[:number], total, work)
            if proximal > 0 or decay > 0:
                for i in range(len(total)):
                    total[i] += proximal * (own[i] - start[i]) + decay * own[i]
            if momentum > 0:
                for i in range(len(total)):
                    velocity[k, i] = momentum * velocity[k, i] + total[i]
                    total[i] = velocity[k, i]
            for i in range(len(total)):
                own[i] -= rate * total[i]
