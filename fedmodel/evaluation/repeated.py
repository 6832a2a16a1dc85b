"""Intervals for what was measured several times, and for the difference of two measurements.

All hold the truth 95 times in 100, if their assumption holds. A t-interval over S seeds takes the
seeds' values as independent and about normal; what varies is what the seeds draw (partition, split,
initial model, batches, noise), not the people in the data set.

A t-interval does not know that a share lies in [0, 1]. Given the `limits` of a measure it is cut to
them: the truth lies within them, so a cut interval holds it exactly as often as a whole one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, t

from fedmodel.evaluation.intervals import CONFIDENCE

__all__ = ["ANYWHERE", "Interval", "half_width", "newcombe", "paired", "t_interval", "welch"]

ANYWHERE = (-math.inf, math.inf)


class Interval(NamedTuple):
    """An estimate between its bounds, which are NaN where there is no interval."""

    value: float
    low: float
    high: float


def half_width(
    deviation: Float[np.ndarray, " n"], number: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Half of each t-interval's width, of `number` values of this standard deviation; NaN of one.

    ``t_{S-1, 0.975} s / sqrt(S)``, s with S - 1 below the line (Student 1908).
    """
    several = np.where(number > 1, number, np.nan)
    return t.ppf((1 + CONFIDENCE) / 2, several - 1) * deviation / np.sqrt(several)


def t_interval(
    values: Float[np.ndarray, " S"], *, limits: tuple[float, float] = ANYWHERE
) -> Interval:
    """The mean of S values, which lie within `limits`, and its t-interval.

    >>> [round(x, 3) for x in t_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    >>> [round(x, 3) for x in t_interval(np.array([1.0, 2.0, 3.0]), limits=(0.0, math.inf))]
    [2.0, 0.0, 4.484]
    """
    mean, deviation = float(np.mean(values)), math.nan
    if len(values) > 1:
        deviation = float(np.std(values, ddof=1))
    half = float(half_width(np.array([deviation]), np.array([float(len(values))]))[0])
    return _cut(Interval(mean, mean - half, mean + half), limits)


def paired(
    first: Float[np.ndarray, " S"],
    second: Float[np.ndarray, " S"],
    *,
    limits: tuple[float, float] = ANYWHERE,
) -> Interval:
    """Second minus first where value s of both belongs to one seed: the t-interval of S differences.

    `limits` are those of the values.
    """
    return t_interval(second - first, limits=_of_difference(limits))


def welch(
    first: Float[np.ndarray, " S"],
    second: Float[np.ndarray, " T"],
    *,
    limits: tuple[float, float] = ANYWHERE,
) -> Interval:
    """Second minus first of independent values (Welch 1947), whose variances may differ.

    The degrees of freedom are Satterthwaite's. Needs two values on each side, else NaN. `limits` are
    those of the values.
    """
    difference = float(np.mean(second) - np.mean(first))
    if min(len(first), len(second)) < 2:
        return Interval(difference, math.nan, math.nan)
    a, b = (float(np.var(v, ddof=1)) / len(v) for v in (first, second))
    if a + b == 0:
        return Interval(difference, difference, difference)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(a + b)
    return _cut(Interval(difference, difference - half, difference + half), _of_difference(limits))


def _of_difference(limits: tuple[float, float]) -> tuple[float, float]:
    return limits[0] - limits[1], limits[1] - limits[0]


def _cut(found: Interval, limits: tuple[float, float]) -> Interval:
    low, high = np.clip([found.low, found.high], *limits)  # NaN stays
    return Interval(found.value, float(low), float(high))


def newcombe(first: float, second: float, *, first_of: float, second_of: float) -> Interval:
    """Second minus first of two shares, `first` of `first_of` records and so on, from Wilson's
    intervals of each (Newcombe, Statistics in Medicine 1998, method 10).

    It takes the two samples as independent. Of two models on the same records, which are mostly wrong
    about the same ones, it is wider than it need be.

    >>> [round(x, 4) for x in newcombe(48 / 80, 56 / 70, first_of=80, second_of=70)]
    [0.2, 0.0524, 0.3339]
    """
    low_a, high_a = _wilson(first, first_of)
    low_b, high_b = _wilson(second, second_of)
    difference = second - first
    return Interval(
        difference,
        difference - math.hypot(second - low_b, high_a - first),
        difference + math.hypot(high_b - second, first - low_a),
    )


def _wilson(share: float, number: float) -> tuple[float, float]:
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    middle = share + z**2 / (2 * number)
    half = z * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return (middle - half) / (1 + z**2 / number), (middle + half) / (1 + z**2 / number)
