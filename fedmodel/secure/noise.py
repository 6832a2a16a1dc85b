"""Noise that clients add before secure aggregation: each too little, the sum of them enough."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.errors import FedmodelError
from fedmodel.randomness import bits, stream_keys
from fedmodel.secure.gaussian import discrete_gaussians

__all__ = ["FINEST", "SumNoise", "sum_noise"]

FINEST = (
    2**11
)  # steps in a client's standard deviation, at least: rounding then costs next to nothing
CHUNK = 2**14  # values that are drawn at once
WORDS = 48  # random words a value, at first: about 20 are used


@dataclass(frozen=True, kw_only=True)
class SumNoise:
    """The distributed discrete Gaussian mechanism (Kairouz, Liu and Steinke, ICML 2021).

    1. Each client clips its update to the norm `clip`, C, and rounds it at random to multiples of
       `step`: its norm is then at most ``C' = C + step sqrt(d)``, as no value moves by a step.
    2. It adds discrete Gaussian noise of standard deviation `scale` steps to each value.
    3. The server sees the sum of at least `fewest` such clients, by secure aggregation.

    The sum of n discrete Gaussians of `scale` s is not one, but their Proposition 14 bounds what that
    costs: if a contribution moves by D, the Renyi divergence of order a of a round is at most

        a / 2 (D / (sqrt(n) s step) + tau sqrt(d))^2,  tau = 10 sum_{k < n} exp(-2 pi^2 s^2 k / (k + 1)).

    As s is at least `FINEST`, tau is 0 in double precision, and this is what a Gaussian mechanism of
    noise multiplier ``sqrt(n) s step / D`` costs. (In Renyi divergence only: hence the accountant
    "rdp".) If all records of a client are replaced its contribution moves by at most D = 2 C'.

    Holds against whoever sees the sums and who is in them: the server, if it follows the protocol, and
    everybody who sees the models. Clients that collude with the server take their noise out.
    """

    clip: float
    step: float
    scale: int
    fewest: int
    size: int  # d
    seed: int
    source: str = "seeded"

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise of `fewest` clients over C'."""
        moved = self.clip + self.step * math.sqrt(self.size)
        return math.sqrt(self.fewest) * self.scale * self.step / moved

    @property
    def charged(self) -> float:
        """Standard deviation over sensitivity: what the accountants call the noise multiplier."""
        return self.noise_multiplier / 2

    def __call__(
        self, delta: Float[Tensor, "K d"], *, clients: Sequence[int] | np.ndarray, round: int
    ) -> Float[Tensor, "K d"]:
        """The updates clipped; the noise comes with the rounding, under the mask (`draw`)."""
        return torch.from_numpy(np.stack([self.clipped(row) for row in delta.cpu().numpy()])).to(
            delta
        )

    def clipped(self, delta: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """The update in float64, scaled down to the norm C if it is longer."""
        exact = delta.astype(np.float64)
        return exact * min(1.0, self.clip / max(float(np.linalg.norm(exact)), 1e-300))

    def draw(self, *, client: int, round: int) -> Int[np.ndarray, " d"]:
        """A client's noise, in steps: from its own stream, or with source "secure" from nobody's."""
        keys = stream_keys(self.seed, [client], round, "discrete noise")
        noise = np.empty(self.size, np.int64)
        for step, start in enumerate(range(0, self.size, CHUNK)):
            part = noise[start : start + CHUNK]
            words, count, drawn = np.empty(0, np.int64), WORDS * len(part) + 4096, None
            while drawn is None:  # more words begin with those that were not enough
                if self.source == "secure":
                    more = np.frombuffer(os.urandom(8 * (count - len(words))), np.int64)
                    words = np.concatenate([words, more])
                else:
                    words = bits(keys, 2 * count, step=step)[0].view(np.int64)
                drawn, count = discrete_gaussians(words, self.scale, len(part)), 2 * count
            part[:] = drawn
        return noise


def sum_noise(
    *,
    clip: float,
    noise_multiplier: float,
    fewest: int,
    size: int,
    seed: int,
    source: str = "seeded",
) -> tuple[SumNoise, int]:
    """Each client's share of the noise that the sum of `fewest` must have, and the bits of a value.

    `noise_multiplier` is that of `SumNoise`, reached or exceeded by a thousandth at most.

    Raises FedmodelError where rounding alone outweighs the noise: too many parameters.
    """
    # s step sqrt(n) = z (C + step sqrt(d)) with step = 2 C / 2^bits, s >= FINEST; s is rounded up.
    room = math.sqrt(fewest) - noise_multiplier * math.sqrt(size) / FINEST
    if room <= 0:
        raise FedmodelError(
            f"{size} parameters are too many for noise multiplier {noise_multiplier:.3g} among "
            f"{fewest} clients: rounding alone would outweigh the noise",
            where="[privacy] mode",
            fix="Ask more clients, choose a larger epsilon, or a smaller model.",
        )
    share = noise_multiplier * clip / room
    number = max(2, math.ceil(math.log2(2 * clip * FINEST / share)))
    step = clip * 2.0 ** (1 - number)
    moved = clip + step * math.sqrt(size)
    scale = math.ceil(max(FINEST, noise_multiplier * moved / (math.sqrt(fewest) * step)))
    noise = SumNoise(
        clip=clip, step=step, scale=scale, fewest=fewest, size=size, seed=seed, source=source
    )
    return noise, number
