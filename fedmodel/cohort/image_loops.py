"""Convolutions of images, compiled: each is a linear layer of an image's patches.

Images stand channels last, ``[H, W, C]``, so that a patch's row is one stretch of memory and pooling
fills the vectors. Patches ``[P, KH * KW * C]`` of one record are made anew where they are needed: they
fit a cache, those of a batch do not. A `shape` is what `Shape` lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedmodel.cohort.activation_loops import activate, derive
from fedmodel.compiling import compiled, inlined

__all__ = [
    "Shape",
    "add",
    "add_kept",
    "back",
    "channels_first",
    "channels_last",
    "channels_last_in_place",
    "forward",
    "square",
    "unpool",
    "weights",
]


class Shape(NamedTuple):
    """A convolution from C channels of H x W to O channels of HO x WO, pooled to HQ x WQ."""

    c: int
    h: int
    w: int
    kh: int
    kw: int
    sh: int
    sw: int
    ph: int
    pw: int
    o: int
    ho: int
    wo: int
    qh: int
    qw: int
    hq: int
    wq: int


# Views of stretches, then indices from 0: an index that could be negative keeps numba from vectors.


@inlined
def _copy(source, start, number, out, at):
    a, b = source[start : start + number], out[at : at + number]
    for i in range(number):
        b[i] = a[i]


@inlined
def _zero(out, at, number):
    b = out[at : at + number]
    for i in range(number):
        b[i] = 0


@compiled
def _gather(image, shape, patches):
    """The patches of one image ``[P, KH * KW * C]``: zeros where they reach beyond it."""
    c, h, w, kh, kw, sh, sw, ph, pw = shape[:9]
    ho, wo = shape[10], shape[11]
    out, at, row = patches.reshape(patches.size), 0, kw * c
    for top in range(-ph, ho * sh - ph, sh):
        for left in range(-pw, wo * sw - pw, sw):
            before, after = max(0, -left) * c, max(0, left + kw - w) * c
            for y in range(top, top + kh):
                if y < 0 or y >= h:
                    _zero(out, at, row)
                elif before + after:
                    _zero(out, at, before)
                    source = (y * w + left) * c + before
                    _copy(image, source, row - before - after, out, at + before)
                    _zero(out, at + row - after, after)
                else:
                    _copy(image, (y * w + left) * c, row, out, at)
                at += row


@compiled
def _gather_planes(image, shape, planes):
    """The same of an image of one channel, ``[KH * KW, P]``: longer stretches to copy."""
    h, w, kh, kw, sh, sw, ph, pw = shape[1:9]
    ho, wo = shape[10], shape[11]
    out, at = planes.reshape(planes.size), 0
    for i in range(kh):
        for j in range(kw):
            before = -(-max(0, pw - j) // sw)
            after = max(0, wo - 1 - (w - 1 - j + pw) // sw)
            middle = max(0, wo - before - after)
            for y in range(i - ph, i - ph + ho * sh, sh):
                if y < 0 or y >= h:
                    _zero(out, at, wo)
                else:
                    _zero(out, at, before)
                    source = y * w + j - pw + before * sw
                    if sw == 1:
                        _copy(image, source, middle, out, at + before)
                    else:
                        for x in range(middle):
                            out[at + before + x] = image[source + x * sw]
                    _zero(out, at + wo - after, after)
                at += wo


@compiled
def _scatter(patches, shape, image):
    """Each patch added to where it came from."""
    c, h, w, kh, kw, sh, sw, ph, pw = shape[:9]
    ho, wo = shape[10], shape[11]
    flat, at = patches.reshape(patches.size), 0
    image[:] = 0
    for top in range(-ph, ho * sh - ph, sh):
        for left in range(-pw, wo * sw - pw, sw):
            before, after = max(0, -left) * c, max(0, left + kw - w) * c
            number = kw * c - before - after
            for y in range(max(0, top), min(h, top + kh)):
                start, place = (y * w + left) * c + before, at + (y - top) * kw * c + before
                a, b = flat[place : place + number], image[start : start + number]
                for i in range(number):
                    b[i] += a[i]
            at += kh * kw * c


@inlined
def _sizes(shape):
    """Positions P, numbers of a patch, output channels O."""
    return shape[10] * shape[11], shape[3] * shape[4] * shape[0], shape[9]


@inlined
def weights(shape):
    """Numbers of a weight."""
    _, k, o = _sizes(shape)
    return o * k


@compiled
def _pool(z, shape, out):
    """The largest of each window, by channel; NaN wins, as in torch."""
    o, ho, wo, qh, qw, hq, wq = shape[9:16]
    for y in range(hq):
        for x in range(wq):
            to, at = (y * wq + x) * o, (y * qh * wo + x * qw) * o
            most = out[to : to + o]
            _copy(z, at, o, out, to)
            for i in range(min(qh, ho - y * qh)):
                for j in range(min(qw, wo - x * qw)):
                    start = at + (i * wo + j) * o
                    here = z[start : start + o]
                    for c in range(o):
                        most[c] = here[c] if here[c] > most[c] or here[c] != here[c] else most[c]


@compiled
def forward(vector, weight, bias, activation, shape, a, z, out, work):
    """Images ``a [R, H * W * C]`` to activations ``z [R, P * O]`` and, pooled, ``out [R, Q * O]``."""
    p, k, o = _sizes(shape)
    c, area = shape[0], shape[3] * shape[4]
    patches, planes = work[: p * k].reshape((p, k)), work[: p * k].reshape((k, p))
    turned = work[p * k : (p + o) * k].reshape((k, o))
    for to in range(o):
        for channel in range(c):
            for place in range(area):
                at = weight + (to * c + channel) * area + place
                turned[place * c + channel, to] = vector[at]
    for r in range(len(a)):
        here = z[r].reshape((p, o))
        if c == 1:
            _gather_planes(a[r], shape, planes)
            np.dot(planes.T, turned, here)
        else:
            _gather(a[r], shape, patches)
            np.dot(patches, turned, here)
        if bias >= 0:
            for i in range(p):
                for to in range(o):
                    here[i, to] += vector[bias + to]
        activate(here, activation)
        _pool(z[r], shape, out[r])


@compiled
def unpool(activation, shape, out, b, z):
    """Gradients of pooled images ``b [R, Q * O]`` back to ``z [R, P * O]``, in whose place they come.

    The first of the largest in a window has it all, as in torch. The activation's derivative follows
    from what was pooled.
    """
    o, ho, wo, qh, qw, hq, wq = shape[9:16]
    taken = np.empty(o, z.dtype)
    for r in range(len(z)):
        derive(b[r], out[r], activation)
        for y in range(hq * qh, ho):
            z[r, y * wo * o : (y + 1) * wo * o] = 0  # the pooling has left these out
        for y in range(min(ho, hq * qh)):
            z[r, (y * wo + min(wo, wq * qw)) * o : (y + 1) * wo * o] = 0
        for y in range(hq):
            for x in range(wq):
                to = (y * wq + x) * o
                most, given = out[r, to : to + o], b[r, to : to + o]
                taken[:] = 0
                for i in range(min(qh, ho - y * qh)):
                    for j in range(min(qw, wo - x * qw)):
                        at = ((y * qh + i) * wo + x * qw + j) * o
                        here = z[r, at : at + o]
                        for c in range(o):
                            wins = here[c] == most[c] and taken[c] == 0
                            taken[c] = 1 if wins else taken[c]
                            here[c] = given[c] if wins else 0


@compiled
def back(vector, weight, shape, g, image, work):
    """Gradients of a convolution's output ``g [R, P * O]`` to those of its images."""
    p, k, o = _sizes(shape)
    c, area = shape[0], shape[3] * shape[4]
    patches, turned = work[: p * k].reshape((p, k)), work[p * k : (p + o) * k].reshape((o, k))
    _channels_behind(vector[weight : weight + o * k], c, area, turned)
    for r in range(len(g)):
        np.dot(g[r].reshape((p, o)), turned, patches)
        _scatter(patches, shape, image[r])


@compiled
def _channels_behind(weight, c, area, turned):
    """A weight ``[O, C, KH * KW]`` as ``[O, KH * KW * C]``."""
    for o in range(len(turned)):
        for channel in range(c):
            for place in range(area):
                turned[o, place * c + channel] = weight[(o * c + channel) * area + place]


@compiled
def _add_turned(found, c, area, total):
    """The way back, added to a weight's gradient."""
    for o in range(len(found)):
        for channel in range(c):
            for place in range(area):
                total[(o * c + channel) * area + place] += found[o, place * c + channel]


@compiled
def _weight_gradient(a, g, shape, work, out):
    """One record's, ``[O, KH * KW * C]``."""
    p, k, o = _sizes(shape)
    if shape[0] == 1:
        planes = work[: p * k].reshape((k, p))
        _gather_planes(a, shape, planes)
        np.dot(g.reshape((p, o)).T, planes.T, out)
    else:
        patches = work[: p * k].reshape((p, k))
        _gather(a, shape, patches)
        np.dot(g.reshape((p, o)).T, patches, out)


@compiled(reorder=True)
def square(shape, a, g, kept, squared, work):
    """Each record's gradient of the weight, ``kept [R, O * KH * KW * C]``, and of the bias.

    ``squared [R, 2]`` gets their squared norms: the bias's, the weight's.
    """
    p, k, o = _sizes(shape)
    sums = work[p * k : p * k + o]
    for r in range(len(a)):
        here = g[r].reshape((p, o))
        _weight_gradient(a[r], g[r], shape, work, kept[r].reshape((o, k)))
        of_weight, of_bias = g[0, 0] * 0, g[0, 0] * 0
        for i in range(o * k):
            of_weight += kept[r, i] * kept[r, i]
        sums[:] = 0
        for i in range(p):
            for to in range(o):
                sums[to] += here[i, to]
        for to in range(o):
            of_bias += sums[to] * sums[to]
        squared[r, 0], squared[r, 1] = of_bias, of_weight


@compiled
def add(weight, bias, shape, a, g, factors, total, work):
    """The sum of the records' gradients, each times its factor ``[R]``, to ``total [d]``."""
    p, k, o = _sizes(shape)
    found = work[p * k : (p + o) * k].reshape((o, k))
    one = work[(p + o) * k : (p + 2 * o) * k].reshape((o, k))
    found[:] = 0
    for r in range(len(a)):
        _weight_gradient(a[r], g[r], shape, work, one)
        for to in range(o):
            for i in range(k):
                found[to, i] += factors[r] * one[to, i]
    _finish(weight, bias, shape, g, factors, found, total)


@compiled
def add_kept(weight, bias, shape, kept, g, factors, total, work):
    """The same, from the gradients of single records that `square` has kept."""
    _, k, o = _sizes(shape)
    found = work[: o * k].reshape((o, k))
    flat = work[: o * k]
    flat[:] = 0
    for r in range(len(kept)):
        for i in range(o * k):
            flat[i] += factors[r] * kept[r, i]
    _finish(weight, bias, shape, g, factors, found, total)


@compiled
def _finish(weight, bias, shape, g, factors, found, total):
    p, k, o = _sizes(shape)
    _add_turned(found, shape[0], shape[3] * shape[4], total[weight : weight + o * k])
    if bias >= 0:
        sums = total[bias : bias + o]
        for r in range(len(factors)):
            for i in range(p):
                here = g[r, i * o : (i + 1) * o]
                for to in range(o):
                    sums[to] += factors[r] * here[to]


@inlined
def channels_last(row, channels, image):
    """A record as torch has it, ``[C, H * W]``, to ``[H * W, C]``."""
    pixels = len(row) // channels
    for c in range(channels):
        for i in range(pixels):
            image[i * channels + c] = row[c * pixels + i]


@inlined
def channels_last_in_place(image, channels, work):
    """The same where the record stands."""
    row = work[: len(image)]
    for i in range(len(image)):
        row[i] = image[i]
    channels_last(row, channels, image)


@inlined
def channels_first(image, channels, row):
    """The way back."""
    pixels = len(row) // channels
    for i in range(pixels):
        for c in range(channels):
            row[c * pixels + i] = image[i * channels + c]
