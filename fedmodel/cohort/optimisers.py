"""Local optimisers over stacked parameters `[K, d]`, equal to torch.optim's on each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

__all__ = ["LocalOptimiser", "Momentum", "OptimiserName"]

OptimiserName = Literal["sgd", "adam"]
Momentum = Annotated[float, Field(ge=0, lt=1)]  # from 1 on a velocity never fades


@dataclass
class LocalOptimiser:
    """SGD with momentum, or Adam (Kingma and Ba 2015, Algorithm 1); weight decay as an L2 term.

    Each client has its own moments, which start at zero every round. A client whose steps are
    done (`active` 0) stays where it is.
    """

    name: OptimiserName
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    _steps: int = field(default=0, init=False)
    _first: Tensor | None = field(default=None, init=False)
    _second: Tensor | None = field(default=None, init=False)

    def step(
        self,
        local: Float[Tensor, "K d"],
        gradient: Float[Tensor, "K d"],
        *,
        active: Float[Tensor, "K 1"],
    ) -> None:
        """Move `local` in place; `gradient` may be overwritten."""
        if self.weight_decay:
            gradient = gradient.add(local, alpha=self.weight_decay)
        self._steps += 1
        direction = self._adam(gradient) if self.name == "adam" else self._sgd(gradient)
        local.addcmul_(direction, active, value=-self.learning_rate)

    def _sgd(self, gradient: Tensor) -> Tensor:
        if not self.momentum:
            return gradient
        if self._first is None:
            self._first = gradient.clone()
        else:
            self._first.mul_(self.momentum).add_(gradient)
        return self._first

    def _adam(self, gradient: Tensor) -> Tensor:
        if self._first is None or self._second is None:
            self._first, self._second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        beta1, beta2 = self.betas
        self._first.lerp_(gradient, 1 - beta1)
        self._second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (self._second / (1 - beta2**self._steps)).sqrt_().add_(self.epsilon)
        return self._first / (1 - beta1**self._steps) / scale
