"""Scales of numeric columns from noised sums: what clients tell, and what is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fedmodel.data.encoder import Number, as_numbers

__all__ = ["Release", "noised_scales"]

CENTRE = 0.5  # of the squares: the norm of (v, v^2 - 1/2) is at most sqrt(5) / 2, that of (v, v^2) sqrt(2)
SURE = 2  # an estimate counts if it is this many standard deviations of its noise


@runtime_checkable
class Release(Protocol):
    """What clients do to sums before they leave them: see `fedmodel.privacy.encoding`."""

    def __call__(
        self, sums: Float[np.ndarray, "K S"], *, sensitivity: float
    ) -> tuple[Float[np.ndarray, "K S"], float]:
        """The noised sums of K clients, and the standard deviation of the noise in each."""


def noised_scales(
    features: pd.DataFrame,
    client: Int[np.ndarray, " n"],
    limits: Mapping[str, tuple[float, float]],
    *,
    num_clients: int,
    release: Release,
) -> tuple[list[Number], list[str]]:
    """Mean and deviation of the columns in `limits`, and those columns for which noise drowned them.

    1. A value is clipped to its public limits and scaled to v in [-1, 1].
    2. A record adds (v, v^2 - 1/2, 0) to its client's sums of a column, or (0, 0, 1) where the value is
       missing. So one record moves the sums of p columns by at most sqrt(5 p) / 2 in the L2 norm.
    3. Clients send noised sums (`release`). The number of records is public, so the sums of all
       clients give mean and deviation of each column.
    4. Where the noise is too large to tell a deviation the public limits become -1 and 1, as under
       "public". That reads noised sums only and costs nothing.
    """
    names = list(limits)
    sums = np.zeros((num_clients, len(names), 3))
    for column, name in enumerate(names):
        low, high = limits[name]
        scaled = 2 * (as_numbers(features[name]).clip(low, high) - low) / (high - low) - 1
        missing = np.isnan(scaled)
        given = np.where(missing, 0.0, scaled)
        for part, values in enumerate((given, np.where(missing, 0.0, given**2 - CENTRE), missing)):
            sums[:, column, part] = np.bincount(client, weights=values, minlength=num_clients)
    noised, noise = release(
        sums.reshape(num_clients, -1), sensitivity=math.sqrt((1 + CENTRE**2) * len(names))
    )
    total = noised.reshape(sums.shape).sum(0)
    deviation = noise * math.sqrt(num_clients)
    numbers, drowned = [], []
    for name, (first, second, missing) in zip(names, total, strict=True):
        low, high = limits[name]
        mean, spread = 0.0, 1.0
        count = len(client) - missing
        if count > SURE * deviation:
            variance = (second + CENTRE * count) / count - (first / count) ** 2
            if variance > SURE * math.hypot(1, CENTRE) * deviation / count:
                mean, spread = float(np.clip(first / count, -1, 1)), math.sqrt(variance)
        if (mean, spread) == (0.0, 1.0):
            drowned.append(name)
        half = (high - low) / 2
        numbers.append(
            Number(
                name=name,
                shift=np.array([low + half * (1 + mean)]),
                scale=np.array([half * spread]),
                indicator=True,
            )
        )
    return numbers, drowned
