"""Renyi differential privacy of the Poisson-subsampled Gaussian: a bound that always exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

__all__ = ["ORDERS", "convert", "divergences", "over_orders", "rdp_epsilons", "renyi"]

Orders = Float[np.ndarray, " A"]

# The orders that Opacus and TensorFlow Privacy search, and where to go on when the best is the
# first or the last of them.
ORDERS = np.concatenate([1 + np.arange(1, 100) / 10, np.arange(12, 64)])
SMALL_ORDERS = 1 + np.geomspace(1e-4, 0.1, 60)
# Where few steps take few records, one order too high costs a multiple: so no gaps just above.
LARGE_ORDERS = np.concatenate([np.arange(63.0, 128), np.geomspace(128, 1e5, 100)])
ROUNDING = 4e-15  # of a log moment: added, as a billion steps would add up what is too little
MOST_NODES = 8000  # of the quadrature: the orders times these are tens of megabytes


def rdp_epsilons(
    settings: Sequence[tuple[float, float]], counts: Int[np.ndarray, "R M"], *, delta: float
) -> list[float]:
    """Epsilon after ``counts[r, m]`` steps at each of M settings (noise multiplier, sample rate).

    An upper bound, 10 to 15 % above the tight one; infinite where no order gives a bound.
    """

    return over_orders(lambda orders: counts @ divergences(settings, orders), delta=delta)


def over_orders(
    divergence: Callable[[Orders], Float[np.ndarray, "R A"]], *, delta: float
) -> list[float]:
    """The smallest epsilon of R divergences over the usual orders, and beyond where the best is the
    first or the last of them."""
    best, index = convert(divergence(ORDERS), delta=delta, orders=ORDERS)
    for extreme, further in ((0, SMALL_ORDERS), (len(ORDERS) - 1, LARGE_ORDERS)):
        if (index == extreme).any():
            best = np.minimum(best, convert(divergence(further), delta=delta, orders=further)[0])
    return best.clip(min=0.0).tolist()


def divergences(
    settings: Sequence[tuple[float, float]], orders: Orders
) -> Float[np.ndarray, "M A"]:
    """One step's Renyi divergence at each setting (noise multiplier, sample rate) and order."""
    if orders is ORDERS:  # asked for again after every round
        return np.stack([usual(noise, rate) for noise, rate in settings])
    return np.stack([renyi(noise, rate, orders) for noise, rate in settings])


@lru_cache(maxsize=2**14)
def usual(noise_multiplier: float, sample_rate: float) -> Orders:
    """`renyi` at the usual orders, kept."""
    return renyi(noise_multiplier, sample_rate, ORDERS)


def renyi(noise_multiplier: float, sample_rate: float, orders: Orders) -> Orders:
    """Renyi divergence of one step at each order, of the mixture from the noise alone.

    ``log E[(1 - q + q exp((2 x - 1) / 2 s^2))^a] / (a - 1)`` for x from N(0, s^2), Mironov, Talwar
    and Zhang 2019, Section 3.3. The integrand is analytic and falls off like a Gaussian, so that
    the trapezoid rule is exact to rounding, which goes on top. Orders that would need too many
    nodes get the bound without subsampling, a / 2 s^2.
    """
    s, without_sampling = noise_multiplier, orders / (2 * noise_multiplier**2)
    step = min(0.4, s / 2.5)  # the nearest singularity lies pi * s off the real axis
    within = orders / s < MOST_NODES * step
    if sample_rate == 1 or not within.any():
        return without_sampling
    a = orders[within]
    u = np.arange(-10, a.max() / s + 10 + step, step)  # x / s
    log_ratio = np.logaddexp(
        math.log1p(-sample_rate), math.log(sample_rate) + u / s - 1 / (2 * s**2)
    )
    exponent = a[:, None] * log_ratio - u**2 / 2
    peak = exponent.max(1)
    log_moment = peak + np.log(np.exp(exponent - peak[:, None]).sum(1) * step / math.tau**0.5)
    divergence = without_sampling
    divergence[within] = (log_moment + ROUNDING * (1 + abs(log_moment))) / (a - 1)
    return divergence


def convert(
    divergence: Float[np.ndarray, "R A"], *, delta: float, orders: Orders
) -> tuple[Float[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """The smallest epsilon over the orders, and its index (Balle et al. 2020, Theorem 21)."""
    price = np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    epsilon = divergence + price
    return epsilon.min(-1), epsilon.argmin(-1)
