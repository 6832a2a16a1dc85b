"""The Gaussian mechanism on whole updates: clip each to a norm, add normal noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel import randomness
from fedmodel.privacy.budget import ClientPlans

__all__ = ["LocalRelease", "clip_rows", "local_release", "noise_rows"]


def clip_rows(delta: Float[Tensor, "K d"], *, bound: float) -> Float[Tensor, "K d"]:
    """Scale down every row that is longer than `bound`; the others stay as they are.

    >>> import torch
    >>> clip_rows(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), bound=1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    norm = delta.norm(dim=1, keepdim=True)
    return delta * (bound / norm.clamp(min=1e-12)).clamp(max=1.0)


def noise_rows(
    clients: Sequence[int] | np.ndarray,
    size: int,
    *,
    seed: int,
    round: int,
    purpose: str,
    source: str = "seeded",
) -> Float[Tensor, "K size"]:
    """Standard normal values for each client: of its own stream, or nobody's with source "secure"."""
    if source == "secure":
        return torch.from_numpy(randomness.secure_normals((len(clients), size)))
    keys = randomness.stream_keys(seed, np.asarray(clients, dtype=np.int64), round, purpose)
    return torch.from_numpy(randomness.normals(keys, size))


@dataclass(frozen=True, kw_only=True)
class LocalRelease:
    """Local differential privacy of updates: each client noises its own before it leaves.

    1. Clip the update to the norm `clip`, C.
    2. Add normal noise of standard deviation ``noise_multiplier * C`` in each coordinate.

    Whatever records a client holds, its clipped update lies in a ball of radius C, and two of them
    at most 2 C apart: that is the sensitivity if all its records are replaced. So the accountant is
    charged with the noise multiplier `charged`, half of it, at sample rate 1 (the server knows whom
    it asked). Gaussian mechanism: Dwork and Roth 2014, appendix A. The bound is kept up to the
    rounding of float32.
    """

    clip: float
    noise_multiplier: float  # standard deviation over clip
    seed: int
    noise: str = "seeded"

    @property
    def charged(self) -> float:
        """Standard deviation over sensitivity: what the accountants call the noise multiplier."""
        return self.noise_multiplier / 2

    def __call__(
        self, delta: Float[Tensor, "K d"], *, clients: Sequence[int] | np.ndarray, round: int
    ) -> Float[Tensor, "K d"]:
        """What K clients send instead of their updates."""
        noise = noise_rows(
            clients,
            delta.shape[1],
            seed=self.seed,
            round=round,
            purpose="update noise",
            source=self.noise,
        )
        scale = self.clip * self.noise_multiplier
        return clip_rows(delta, bound=self.clip) + scale * noise.to(delta)


def local_release(plans: ClientPlans, *, seed: int) -> LocalRelease | None:
    """What the clients of a plan do to their updates; None unless the plan's mode is "local"."""
    if plans.budget.mode != "local":
        return None
    return LocalRelease(
        clip=plans.budget.clip,
        noise_multiplier=float(plans.noise_multiplier.max()),
        seed=seed,
        noise=plans.budget.noise,
    )
