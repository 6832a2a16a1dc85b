"""Gaussian differential privacy: the central limit of many subsampled steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from scipy.optimize import brentq
from scipy.special import log_ndtr

__all__ = ["gaussian_epsilon", "gdp_epsilons"]


def gdp_epsilons(
    settings: Sequence[tuple[float, float]], counts: Int[np.ndarray, "R M"], *, delta: float
) -> list[float]:
    """Epsilon after ``counts[r, m]`` steps at each of M settings (noise multiplier, sample rate).

    A limit theorem for many steps at a small sample rate (Bu et al. 2020, Corollary 2), not a
    bound: it can understate epsilon (Gopi et al. 2021, Section 1).
    """
    squares = np.array(
        [
            rate**2 * math.expm1(noise**-2) if noise**-2 < 700 else math.inf
            for noise, rate in settings
        ]
    )
    return [gaussian_epsilon(math.sqrt(total), delta=delta) for total in counts @ squares]


def gaussian_epsilon(mu: float, *, delta: float) -> float:
    """Epsilon of telling N(0, 1) from N(mu, 1), exactly (Balle and Wang 2018, Theorem 8).

    >>> round(gaussian_epsilon(1.0, delta=1e-5), 3)
    4.377
    """

    def excess(epsilon: float) -> float:
        log_without = epsilon + log_ndtr(-epsilon / mu - mu / 2)
        return math.exp(log_ndtr(mu / 2 - epsilon / mu)) - math.exp(log_without) - delta

    # Here the first term alone is below delta: P(N > x) <= exp(-x^2 / 2).
    most = mu**2 / 2 + mu * math.sqrt(-2 * math.log(delta))
    if mu > 1e4:  # so far out the bound is exact to the digits that a float64 has
        return most
    if mu == 0 or excess(0.0) <= 0:
        return 0.0
    return brentq(excess, 0.0, most, xtol=1e-12)
