"""Tight epsilon of DP-SGD by inverting the loss's moments along a line: quick, for many clients.

The privacy loss L of `fedmodel.privacy.prv`, another way to its distribution: with the moments
``M(z) = E[exp(z L)]`` at complex z, for any t > 0,

``delta(e) = E[(1 - exp(e - L))_+] = 1 / (2 pi i)  int_{t - i oo}^{t + i oo}  M(z) exp(-z e) / (z (z + 1)) dz``

(the residues at 0 and -1 are the two terms; Alghamdi et al. 2023, "The saddle-point method in
differential privacy", derive the same). Losses add up, so log moments do. The integral becomes
a trapezoid sum with step D, which never falls short: by Poisson's formula it is the sum of
``delta(e + k P) exp(t k P)`` over all whole k, P = 2 pi / D, and no term is negative. What lies
beyond the last node is added at its largest. Some 20 nodes are enough, at any number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float, Int

from fedmodel.privacy.prv import EPSILON_ERROR

__all__ = ["contour_epsilons"]

LINES = np.geomspace(0.03, 2000, 30)  # real parts t to choose from
FURTHEST = 60  # standard deviations of the noise out to which moments are looked for
MOST_NODES = 150  # on a line
LOWEST = -2 * EPSILON_ERROR  # no need to know by how much less than 0


def contour_epsilons(
    settings: Sequence[tuple[float, float]], counts: Int[np.ndarray, "R M"], *, delta: float
) -> list[float]:
    """Epsilon after ``counts[r, m]`` steps at each of M settings (noise multiplier, sample rate).

    With the allowance of `prv_epsilons`, to whose figures it agrees to a few 0.001. NaN where the
    integral converges too slowly: a handful of steps at a tiny sample rate.
    """
    log_moments = np.stack([moments_on_lines(*setting) for setting in settings])
    # The best t is nearly that of the bound by RDP (Balle et al. 2020, Theorem 21).
    price = LINES * np.log(LINES) - (1 + LINES) * np.log1p(LINES) - math.log(delta)
    bound = (counts @ log_moments + price) / LINES
    chosen = bound.argmin(1)
    epsilons = np.full(len(counts), math.nan)
    for line in np.unique(chosen):
        rows = np.flatnonzero((chosen == line) & np.isfinite(bound.min(1)))
        if len(rows):
            most = bound[rows, line] + 1e-6
            epsilons[rows] = solve(settings, counts[rows], float(LINES[line]), delta, most)
    return (epsilons + EPSILON_ERROR).tolist()


def solve(
    settings: Sequence[tuple[float, float]],
    counts: Int[np.ndarray, "R M"],
    t: float,
    delta: float,
    most: Float[np.ndarray, " R"],
) -> Float[np.ndarray, " R"]:
    """The smallest epsilon with ``delta(epsilon) <= delta``, at most `most`; NaN if out of reach."""
    spread = np.sqrt(counts @ np.array([tilted_variance(*setting, t) for setting in settings]))
    period = max(14 * spread.max(), (9 - math.log(delta)) / t)
    reach = 6 / spread.min()
    while True:
        y = np.arange(0.0, reach + math.tau / period, math.tau / period)
        z = t + 1j * y
        exponent = counts @ np.stack([log_moment(*setting, z) for setting in settings])
        base = exponent[:, 0].real
        weights = np.exp(exponent - base[:, None]) / (z * (z + 1) * period / 2)
        beyond = np.abs(weights[:, -1]) * period * y[-1] / math.tau  # as 1 / y^2 from the last node
        if (beyond < 1e-4 * np.abs(weights[:, 0])).all() or 2 * len(y) > MOST_NODES:
            break
        reach *= 2
    weights[:, 0] /= 2

    low, high, epsilon = np.full(len(counts), LOWEST), most, most
    for _ in range(60):
        terms = weights * np.exp(-1j * y * epsilon[:, None])
        value = terms.real.sum(1) + beyond
        slope = (terms * z).real.sum(1)
        excess = np.log(np.maximum(value, 1e-300)) + base - t * epsilon - math.log(delta)
        low, high = np.where(excess > 0, epsilon, low), np.where(excess > 0, high, epsilon)
        if (high - low < 1e-6).all():
            break
        # Newton's step, a little beyond the root so that both sides close in.
        step = epsilon + excess * value / slope
        step = np.where(excess > 0, step + 4e-7, step - 4e-7)
        inside = (low < step) & (step < high)
        epsilon = np.where(inside, step, (low + high) / 2)
    # Half a period away hardly anything may be left, or the other periods' share is not small.
    away = np.abs((terms * np.exp(-1j * y * period / 2)).real.sum(1))
    return np.where(beyond + away < 1e-3 * t * value, high, math.nan)


def log_moment(
    noise_multiplier: float, sample_rate: float, z: Complex[np.ndarray, " Y"]
) -> Complex[np.ndarray, " Y"]:
    """``log E[exp(z L)]`` of one step for z on a line, by the trapezoid rule over the noise."""
    u, step, log_ratio = nodes(noise_multiplier, sample_rate, z.real[0], reach=z.imag[-1])
    exponent = z.real[0] * log_ratio + log_ratio - u**2 / 2
    peak = exponent.max()
    weight = np.exp(exponent - peak) * (step / math.sqrt(math.tau))
    return np.log(np.exp(1j * np.outer(z.imag, log_ratio)) @ weight) + peak


@lru_cache(maxsize=2**15)
def moments_on_lines(noise_multiplier: float, sample_rate: float) -> Float[np.ndarray, " T"]:
    """``log E[exp(t L)]`` at all t of `LINES`; infinite where it takes many nodes."""
    within = (1 + LINES) / noise_multiplier < FURTHEST
    found = np.full(len(LINES), np.inf)
    if not within.any():
        return found
    t = LINES[within]
    u, step, log_ratio = nodes(noise_multiplier, sample_rate, t[-1], reach=0.0)
    exponent = (1 + t)[:, None] * log_ratio - u**2 / 2
    peak = exponent.max(1)
    mean = np.exp(exponent - peak[:, None]).sum(1) * step / math.sqrt(math.tau)
    found[within] = np.log(mean) + peak
    return found


@lru_cache(maxsize=2**15)
def tilted_variance(noise_multiplier: float, sample_rate: float, t: float) -> float:
    """Second derivative of ``log E[exp(t L)]``: how fast moments fall off along the line."""
    u, _, log_ratio = nodes(noise_multiplier, sample_rate, t, reach=0.0)
    exponent = (1 + t) * log_ratio - u**2 / 2
    weight = np.exp(exponent - exponent.max())
    mean = np.average(log_ratio, weights=weight)
    return max(float(np.average((log_ratio - mean) ** 2, weights=weight)), 1e-30)


def nodes(
    noise_multiplier: float, sample_rate: float, t: float, *, reach: float
) -> tuple[Float[np.ndarray, " U"], float, Float[np.ndarray, " U"]]:
    """Nodes of the noise (in its standard deviations), their step, and the loss at each.

    The integrand is analytic as far as pi times the noise from the real axis, and oscillates with
    up to reach / noise.
    """
    s = noise_multiplier
    step = min(0.4, s / 2.5, math.tau / (9 + reach / s))
    u = np.arange(-10.0, (1 + t) / s + 10 + step, step)
    log_rest = math.log1p(-sample_rate) if sample_rate < 1 else -math.inf
    return u, step, np.logaddexp(log_rest, math.log(sample_rate) + u / s - 1 / (2 * s**2))
