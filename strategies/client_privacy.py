"""What a trusted server does so that nobody can tell whether a client took part: DP-FedAvg."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from fedmodel.config import AdaptiveClip
from fedmodel.errors import FedmodelError
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.client_level import noise_multiplier_of, split_noise
from fedmodel.privacy.updates import clip_rows, noise_rows
from fedmodel.randomness import SERVER

__all__ = ["CentralPrivacy", "Released", "protect"]


class Released(NamedTuple):
    """What leaves the server after a round."""

    step: Float[Tensor, " d"]  # of the global model, before the learning rate
    bound: float  # the clipping bound of the next round
    clipped: float  # share of the clients that was clipped, noised; NaN with a fixed bound


@dataclass(frozen=True, kw_only=True)
class CentralPrivacy:
    """Client-level differential privacy by a trusted server (McMahan et al., ICLR 2018, Algorithm 1).

    1. Clip each update to the norm C and add them up. Every client has the same weight.
    2. Add normal noise of standard deviation ``noise_multiplier * C`` in each coordinate, once.
    3. Divide by the expected number of clients, q N, never by how many there were.

    With `adaptive` (Andrew et al., NeurIPS 2021, Algorithm 1) C follows a quantile of the norms:
    C <- C exp(-eta (b - gamma)), b the noised share of updates not longer than C. The noise is split
    between both releases so that together they cost what `noise_multiplier` says (Theorem 1). Whoever
    was asked and did not answer counts as half, so b leans towards 1/2 where many drop out.

    Assumes that each client is asked with chance `sample_rate` independently of the others (Poisson
    sampling), that N is public, that a round without clients is noised too, that the server is
    trusted and, for the gain by sampling, that who took part stays secret.
    """

    noise_multiplier: (
        float  # standard deviation over clip, of all that a round releases; 0 for none
    )
    clip: float  # C, at first
    sample_rate: float  # q
    adaptive: AdaptiveClip | None = None
    seed: int = 0
    noise: str = "seeded"

    def __post_init__(self) -> None:
        if self.adaptive is not None and self.adaptive.count_noise is not None:
            split_noise(self.noise_multiplier, self.adaptive.count_noise)  # possible at all?

    def mean(
        self, delta: Float[Tensor, "K d"], *, bound: float, num_clients: int
    ) -> Float[Tensor, " d"]:
        """The clipped updates' sum over the expected number of clients; one client moves it by C / (q N)."""
        return clip_rows(delta, bound=bound).sum(0) / (self.sample_rate * num_clients)

    def release(
        self, delta: Float[Tensor, "K d"], *, bound: float, num_clients: int, round: int
    ) -> Released:
        """The noised mean of a round's updates (of none, too), and the next bound.

        `num_clients` is N, all that could have been asked; `bound` is the round's C.
        """
        expected = self.sample_rate * num_clients
        step = self.mean(delta, bound=bound, num_clients=num_clients)
        size = delta.shape[1]
        if self.adaptive is None:
            if self.noise_multiplier:
                noise = self.noise_multiplier * bound / expected
                step = step + noise * self._normals(size, round, "server noise").to(step)
            return Released(step, bound, math.nan)
        count_noise = self.count_noise(expected)
        noise = split_noise(self.noise_multiplier, count_noise) * bound / expected
        step = step + noise * self._normals(size, round, "server noise").to(step)
        within = delta.norm(dim=1) <= bound
        count = float((within.double() - 0.5).sum())
        count += count_noise * float(self._normals(1, round, "clip count")[0])
        share = 0.5 + count / expected
        change = -self.adaptive.learning_rate * (share - self.adaptive.quantile)
        return Released(step, bound * math.exp(change), 1 - share)

    def count_noise(self, expected: float) -> float:
        """Standard deviation of the count's noise: a twentieth of the expected clients, as in the paper.

        Of few clients that is so little noise that the count would use up the whole budget: there it
        is the noise multiplier, which leaves the sum 15 % more noise than a fixed bound would need.
        """
        assert self.adaptive is not None
        if self.adaptive.count_noise is not None:
            return self.adaptive.count_noise
        return max(expected / 20, self.noise_multiplier)

    def without_noise(self) -> CentralPrivacy:
        """The same sums without clip and noise, to compare with."""
        return replace(self, noise_multiplier=0.0, clip=math.inf, adaptive=None)

    def _normals(self, size: int, round: int, purpose: str) -> Float[Tensor, " size"]:
        drawn = noise_rows(
            [SERVER], size, seed=self.seed, round=round, purpose=purpose, source=self.noise
        )
        return drawn[0]


@runtime_checkable
class Protectable(Protocol):
    """A strategy that can be made to release nothing but what `CentralPrivacy.release` gives."""

    sample: float  # chance of each client to be asked in a round
    sampling: str  # "poisson" once it is protected: each is asked, and lost, independently
    noises_empty_rounds: bool  # True once it is protected: a round without clients is released, too

    def protect(self, privacy: CentralPrivacy) -> None:
        """Sample by Poisson and release noised sums from now on; refuse if that cannot be."""


def protect(
    strategy: Any, budget: Budget, *, name: str, adaptive: AdaptiveClip | None = None, seed: int = 0
) -> float:
    """Let a strategy noise its sums within a budget; each client's chance to be asked in a round.

    Raises:
        FedmodelError: the strategy cannot, or no noise keeps to the budget.
    """
    if not isinstance(strategy, Protectable):
        raise FedmodelError(
            f"{name} aggregates single updates, and central client-level privacy lets nothing out "
            "but noised sums",
            where="[strategy] name",
            fix='Use name = "compose", or noise the updates at the clients: [privacy] mode = "local".',
        )
    strategy.protect(
        CentralPrivacy(
            noise_multiplier=noise_multiplier_of(budget, sample_rate=strategy.sample),
            clip=budget.clip,
            sample_rate=strategy.sample,
            adaptive=adaptive,
            seed=seed,
            noise=budget.noise,
        )
    )
    return strategy.sample
