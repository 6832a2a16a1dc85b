"""DP-SGD at the clients: each record's influence on what leaves the client is bounded and noised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from fedmodel.cohort import Cohort, clipped_gradient_sum
from fedmodel.cohort.clipping import ClippingStyle
from fedmodel.cohort.fused import fused_sgd
from fedmodel.cohort.optimisers import LocalOptimiser, Momentum, OptimiserName
from fedmodel.cohort.weights import class_weights_of, weighted

__all__ = ["dp_sgd"]


@dataclass(frozen=True, kw_only=True)
class dp_sgd:  # noqa: N801 - the name in an experiment
    """Train with record-level differential privacy, towards anybody who sees the updates.

    1. Take each record with probability q = min(1, batch_size / n) (Poisson sampling).
    2. Clip each record's gradient to the norm `clip` of the experiment's [privacy]; add up.
    3. Add normal noise of standard deviation `noise multiplier * clip`; divide by q n.

    `clipping` is the style of step 2: "flat" scales the whole gradient down to `clip`; "per_layer" each
    of the L layers' part to ``clip / sqrt(L)`` (McMahan et al., ICLR 2018); "automatic" every gradient
    to ``clip / (norm + 0.01)`` times itself, small ones up (Bu et al., NeurIPS 2023, AUTO-S). In all
    of them the scaled gradient has norm `clip` at most, which is the sensitivity of the sum to one
    record, added or removed: the noise is the same.

    `class_weights` multiply each record's gradient by a number for its class before it is clipped: the
    sensitivity stays. They must not be taken from the protected records.

    `batch_size` is the expected size. An epoch is ceil(n / batch_size) steps; an empty batch still
    takes its noisy step. Terms without records (proximal, weight decay) join after the noise.
    The guarantee assumes that n is public and that the noise source is secret.

    Abadi et al., CCS 2016, Algorithm 1; proximal term of Li et al., MLSys 2020.
    """

    learning_rate: PositiveFloat
    batch_size: PositiveInt = 32
    epochs: PositiveFloat = 1.0
    steps: PositiveInt | None = None
    optimiser: OptimiserName = "sgd"
    momentum: Momentum = 0.0
    weight_decay: NonNegativeFloat = 0.0
    proximal: NonNegativeFloat = 0.0
    class_weights: tuple[PositiveFloat, ...] | None = None
    clipping: ClippingStyle = "flat"

    private: ClassVar[bool] = True

    def train(self, cohort: Cohort, start: Float[Tensor, " d"]) -> Float[Tensor, "K d"]:
        """Each client's local model minus the global one."""
        proximal = float(cohort.config.get("proximal-mu", self.proximal))
        plain = self.optimiser == "sgd" and self.clipping == "flat"
        if plain and self.class_weights is None:
            fused = fused_sgd(
                cohort,
                start,
                private=True,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                proximal=proximal,
            )
            if fused is not None:
                return fused
        local = start.repeat(cohort.size, 1)
        optimiser = LocalOptimiser(
            self.optimiser, self.learning_rate, self.momentum, self.weight_decay
        )
        weights = class_weights_of(cohort, self.class_weights)
        for step in cohort.steps:
            batch = weighted(cohort.poisson_batch(step), weights)
            gradient = clipped_gradient_sum(
                cohort, local, batch, clip=cohort.clip, style=self.clipping
            )
            gradient = add_noise(cohort, gradient, step)
            gradient /= cohort.expected_batch_size[:, None]
            if proximal:
                gradient += proximal * (local - start)
            optimiser.step(local, gradient, active=batch.active)
        return local - start


def add_noise(
    cohort: Cohort, gradient_sum: Float[Tensor, "K d"], step: int
) -> Float[Tensor, "K d"]:
    """The Gaussian mechanism on clipped sums; nothing where the plan has no noise."""
    if not cohort.noise_multiplier.any():
        return gradient_sum
    scale = cohort.clip * cohort.noise_multiplier[:, None]
    return gradient_sum.addcmul_(scale, cohort.normal(step, gradient_sum))
