"""Tight epsilon of DP-SGD by composing privacy loss random variables with the Fourier transform.

The method of Gopi, Lee and Wutschitz (NeurIPS 2021), with the mesh, the truncation and the error
bounds of Opacus' PRV accountant. The figures agree to a few parts in 100,000; what they differ by
is the quadrature of the mean loss, which is exact here. It is some 25 times faster since

1. the Renyi divergences that choose the domain come from one vectorised quadrature,
2. a step's loss is discretised only where it has mass, and its mean is a trapezoid sum,
3. the sum of many losses is smooth: only its low frequencies are raised to a power and inverted.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy import fft
from scipy.special import ndtr

from fedmodel.privacy.rdp import ORDERS, convert, divergences

__all__ = ["EPSILON_ERROR", "OutOfReachError", "prv_epsilons"]

EPSILON_ERROR = 0.01  # Opacus' default: the figure is at most twice this above the true epsilon
MOST_POINTS = 2**23  # half a gigabyte of work arrays
NEGLIGIBLE = 1e-20  # a frequency below this share of the total does not change a sum in float64


class OutOfReachError(ValueError):
    """The mesh would be too large, or rounding would drown delta: use another accountant."""


def prv_epsilons(
    settings: Sequence[tuple[float, float]], counts: Int[np.ndarray, "R M"], *, delta: float
) -> list[float]:
    """Epsilon after ``counts[r, m]`` steps at each of M settings (noise multiplier, sample rate).

    Each is an upper bound (up to rounding) on the epsilon of adding or removing one record under
    Poisson sampling. All R share the mesh of the largest counts. Raises OutOfReachError.
    """
    delta_error = delta / 1000
    if np.finfo(float).eps * counts.sum(1).max() > delta_error:
        raise OutOfReachError  # measured: a spectrum's power loses up to this much of the mass
    mesh = choose_mesh(settings, counts.max(0), delta_error)
    steps = [discretise(noise, rate, mesh) for noise, rate in settings]
    return [
        compose(steps, row, mesh).epsilon(delta - delta_error) + EPSILON_ERROR for row in counts
    ]


@dataclass(frozen=True)
class Mesh:
    """Privacy losses from -size / 2 to size / 2 times `width`, in nats; wraps around."""

    width: float
    size: int


@dataclass(frozen=True)
class Step:
    """One step's discretised loss: its Fourier transform, and what to add to keep its mean."""

    spectrum: Complex[np.ndarray, " F"]
    log_magnitude: Float[np.ndarray, " F"]
    shift: float


@dataclass(frozen=True)
class Loss:
    """The distribution of a composed privacy loss: values in ascending order, and their mass."""

    value: Float[np.ndarray, " N"]
    mass: Float[np.ndarray, " N"]

    def epsilon(self, delta: float) -> float:
        """Smallest e with ``E[(1 - exp(e - loss))_+] <= delta``."""
        first = max(0, int(np.searchsorted(self.value, math.log1p(-delta))) - 1)
        value, mass = self.value[first:], self.mass[first:]
        above = mass[::-1].cumsum()[::-1]
        discounted = (mass * np.exp(-value))[::-1].cumsum()[::-1]

        def meets(i: int) -> bool:
            return bool(above[i] - math.exp(value[i]) * discounted[i] <= delta)

        i = bisect_left(range(len(value)), True, key=meets)
        if i == len(value) or not above[i] > delta:  # only rounding could bring this about
            raise OutOfReachError
        return math.log((above[i] - delta) / discounted[i])


def choose_mesh(
    settings: Sequence[tuple[float, float]], counts: Int[np.ndarray, " M"], delta_error: float
) -> Mesh:
    """The truncation and mesh size of Gopi et al., Remark 5.6 and Theorem 5.5, as Opacus has them."""
    total = counts.sum()
    divergence = divergences(settings, ORDERS)
    composed, _ = convert(counts[None] @ divergence, delta=delta_error / 4, orders=ORDERS)
    single, _ = convert(divergence, delta=delta_error / (8 * total), orders=ORDERS)
    reach = max(composed.max(), single.max(), EPSILON_ERROR) + 3
    width = EPSILON_ERROR / math.sqrt(total * math.log(12 / delta_error) / 2)
    if not (reach < 700 and 2 * reach / width < MOST_POINTS):
        raise OutOfReachError
    return Mesh(width, 2 * fft.next_fast_len(math.ceil(reach / width) + 1))


def discretise(noise_multiplier: float, sample_rate: float, mesh: Mesh) -> Step:
    """Round one step's loss to the mesh, and note how far that moved its mean.

    With a record the output x is drawn from ``(1 - q) N(0, s^2) + q N(1, s^2)``, without it from
    ``N(0, s^2)``; the loss is the log of their ratio at x, an increasing function of x.
    """
    q, s = sample_rate, noise_multiplier

    def loss(x):
        z = np.minimum((x - 0.5) / s**2, 700)
        return z if q == 1 else np.log1p(q * np.expm1(z))

    def output(loss):
        z = loss if q == 1 else np.log1p(np.maximum(np.expm1(loss) / q, -1))
        return 0.5 + s**2 * z

    def below(x):
        return (1 - q) * ndtr(x / s) + q * ndtr((x - 1) / s)

    def above(x):
        return (1 - q) * ndtr(-x / s) + q * ndtr((1 - x) / s)

    # 1. Mass between the edges of each cell; there is none to speak of beyond ten deviations.
    ends = loss(np.array([-10 * s, 1 + 10 * s])) / mesh.width
    first = max(round(ends[0]), 1 - mesh.size // 2)
    last = min(round(ends[1]), mesh.size // 2 - 1)
    edges = (np.arange(first, last + 2) - 0.5) * mesh.width
    with np.errstate(divide="ignore"):  # below log(1 - q) there is no x
        x = output(edges)
    middle = np.searchsorted(x, 0.5)  # each tail from its own side, or rounding drowns it
    mass = np.concatenate([np.diff(below(x[: middle + 1])), -np.diff(above(x[middle:]))])
    mass /= mass.sum()

    # 2. The exact mean, by the trapezoid rule on an analytic integrand (exact to rounding).
    x = np.arange(-10 * s, 1 + 10 * s, min(s / 2, s**2 / 2.5))
    density = (1 - q) * np.exp(-((x / s) ** 2) / 2) + q * np.exp(-(((x - 1) / s) ** 2) / 2)
    mean = np.average(loss(x), weights=density)
    cells = np.arange(first, last + 1)

    # 3. Its Fourier transform, with loss 0 at index 0 and negative losses at the end.
    wrapped = np.zeros(mesh.size)
    wrapped[cells] = mass
    spectrum = fft.rfft(wrapped)
    log_magnitude = np.log(spectrum.real**2 + spectrum.imag**2 + 1e-300) / 2
    return Step(spectrum, log_magnitude, mean - mass @ cells * mesh.width)


def compose(steps: Sequence[Step], counts: Int[np.ndarray, " M"], mesh: Mesh) -> Loss:
    """The sum of ``counts[m]`` independent losses of each kind.

    Where high frequencies vanish the distribution is sampled more coarsely, 256 points for the
    shortest wave that is left: that moves epsilon by a few 1e-6.
    """
    log_magnitude = sum(n * step.log_magnitude for n, step in zip(counts, steps, strict=True))
    kept = int(np.flatnonzero(log_magnitude > math.log(NEGLIGIBLE))[-1]) + 1
    spectrum = np.ones(kept, dtype=complex)
    for n, step in zip(counts, steps, strict=True):
        spectrum *= step.spectrum[:kept] ** n
    size = min(mesh.size, 2 * fft.next_fast_len(128 * kept))
    index = np.arange(-size // 2, size // 2)
    shift = sum(n * step.shift for n, step in zip(counts, steps, strict=True))
    return Loss(
        value=index * (mesh.width * mesh.size / size) + shift,
        mass=fft.fftshift(fft.irfft(spectrum, size)),
    )
