"""Discrete Gaussians in whole numbers only: exact, with no logarithm that rounding could betray.

Canonne, Kamath and Steinke, "The discrete Gaussian for differential privacy", NeurIPS 2020,
Algorithms 1 to 3. The words are given; the same words give the same values on every machine.
"""

from __future__ import annotations

from inspect import unwrap

import numpy as np
from jaxtyping import Int64
from numba import njit

from fedmodel.errors import FedmodelError

__all__ = ["LARGEST", "discrete_gaussians"]

LARGEST = 2**13  # of the scale: the squares below then fit into 63 bits
_NO_MORE = -1


def discrete_gaussians(
    words: Int64[np.ndarray, " n"], scale: int, count: int
) -> Int64[np.ndarray, " count"] | None:
    """Values with chance proportional to exp(-x^2 / (2 scale^2)), made of uniform 64-bit words.

    About 20 words a value are used; None if they run out: then give the same words and more. Raises FedmodelError for a
    scale outside [1, LARGEST].
    """
    if not 1 <= scale <= LARGEST:
        raise FedmodelError(
            f"scale {scale} of a discrete Gaussian is out of range",
            fix=f"Choose a whole number from 1 to {LARGEST}.",
        )
    out = np.empty(count, np.int64)
    return out if _fill(np.ascontiguousarray(words), np.int64(scale), out) else None


def _fill(words, scale, out):
    """Algorithm 3: a discrete Laplace of width t = scale + 1, kept with the chance that is lacking."""
    place, width = 0, scale + 1
    for index in range(len(out)):
        while True:
            value, place = _laplace(words, place, width)
            if place == _NO_MORE:
                return False
            if abs(value) > 40 * width:
                continue  # kept with a chance below exp(-700); its square would not fit
            # exp(-(|x| - s^2 / t)^2 / (2 s^2)) as exp(-a / b) in whole numbers
            over = abs(value) * width - scale * scale
            kept, place = _exponential(words, place, over * over, 2 * scale * scale * width * width)
            if place == _NO_MORE:
                return False
            if kept:
                break
        out[index] = value
    return True


def _laplace(words, place, width):
    """Algorithm 2: chance proportional to exp(-|x| / width)."""
    while True:
        rest, place = _below(words, place, width)
        if place == _NO_MORE:
            return 0, place
        kept, place = _exponential(words, place, rest, width)
        if place == _NO_MORE:
            return 0, place
        if not kept:
            continue
        whole = 0
        while True:
            more, place = _exponential(words, place, 1, 1)
            if place == _NO_MORE:
                return 0, place
            if not more:
                break
            whole += 1
        size = rest + width * whole
        sign, place = _below(words, place, 2)
        if place == _NO_MORE:
            return 0, place
        if sign and size == 0:
            continue  # else 0 would count twice
        return (-size if sign else size), place


def _exponential(words, place, above, below):
    """Algorithm 1: true with chance exp(-above / below)."""
    while above > below:  # exp(-1) once for each whole
        kept, place = _small(words, place, 1, 1)
        if place == _NO_MORE or not kept:
            return False, place
        above -= below
    return _small(words, place, above, below)


def _small(words, place, above, below):
    """The same for above <= below, by the series of exp(-x)."""
    number = 1
    while True:
        value, place = _below(words, place, below * number)
        if place == _NO_MORE:
            return False, place
        if value >= above:
            return number % 2 == 1, place
        number += 1


def _below(words, place, limit):
    """A uniform whole number below the limit: words cut to its bits, until one is small enough."""
    mask = limit - 1
    for shift in (1, 2, 4, 8, 16, 32):
        mask |= mask >> shift
    while place < len(words):
        value = words[place] & mask
        place += 1
        if value < limit:
            return value, place
    return 0, _NO_MORE


def _compiled(function):
    """Compile at the first call; keep the code on disk where there is a directory to write to."""
    plain = unwrap(function)  # without a type checker
    try:
        return njit(plain, cache=True, nogil=True)
    except RuntimeError:
        return njit(plain, nogil=True)


_below = _compiled(_below)
_small = _compiled(_small)
_exponential = _compiled(_exponential)
_laplace = _compiled(_laplace)
_fill = _compiled(_fill)
