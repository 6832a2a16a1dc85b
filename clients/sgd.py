"""Local SGD: what a FedAvg client does, and with a proximal term what a FedProx client does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from fedmodel.cohort import Cohort, mean_gradient
from fedmodel.cohort.fused import fused_sgd
from fedmodel.cohort.optimisers import LocalOptimiser, Momentum, OptimiserName
from fedmodel.cohort.weights import class_weights_of, weighted

__all__ = ["sgd"]


@dataclass(frozen=True, kw_only=True)
class sgd:  # noqa: N801 - the name in an experiment
    """Minimise F_k(w) + proximal/2 |w - w_global|^2 by minibatch steps on each client's records.

    1. Shuffle the records each epoch and take `batch_size` at a time.
    2. Step along the mean gradient; momentum and weight decay as in torch.optim.

    `epochs` may be a fraction; `steps`, if given, rules over it. A strategy that sends
    ``proximal-mu`` (Flower's FedProx) sets the proximal term. `class_weights` multiply each record's
    loss by a number for its class, or, "balanced", by n / (C n_c) from the labels of all clients.

    McMahan et al., AISTATS 2017, Algorithm 1; Li et al., MLSys 2020, Algorithm 2.
    """

    learning_rate: PositiveFloat
    batch_size: PositiveInt = 32
    epochs: PositiveFloat = 1.0
    steps: PositiveInt | None = None
    optimiser: OptimiserName = "sgd"
    momentum: Momentum = 0.0
    weight_decay: NonNegativeFloat = 0.0
    proximal: NonNegativeFloat = 0.0
    class_weights: Literal["balanced"] | tuple[PositiveFloat, ...] | None = None

    private: ClassVar[bool] = False

    def train(self, cohort: Cohort, start: Float[Tensor, " d"]) -> Float[Tensor, "K d"]:
        """Each client's local model minus the global one."""
        proximal = float(cohort.config.get("proximal-mu", self.proximal))
        if self.optimiser == "sgd" and self.class_weights is None:
            fused = fused_sgd(
                cohort,
                start,
                private=False,
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
            batch = weighted(cohort.shuffled_batch(step), weights)
            gradient = mean_gradient(cohort, local, batch)
            if proximal:
                gradient += proximal * (local - start)
            optimiser.step(local, gradient, active=batch.active)
        return local - start
