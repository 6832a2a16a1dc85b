"""DP-SGD by Opacus, one client after the other: the reference that the cohort must agree with."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmodel.cohort import Batch, Cohort
from fedmodel.cohort.dropout import dropout_keys
from fedmodel.cohort.optimisers import Momentum
from fedmodel.cohort.precision import products

__all__ = ["opacus_dp_sgd"]


@dataclass(frozen=True, kw_only=True)
class opacus_dp_sgd:  # noqa: N801 - the name in an experiment
    """What `dp_sgd` does, by Opacus' per-sample gradients and DPOptimizer, with the same batches and noise.

    Slow; for checking results and for modules that `torch.func` cannot trace. Opacus divides by
    (norm + 1e-6) when it clips, which differs from `dp_sgd` by less than one part in a million.

    Yousefpour et al., 2021 (Opacus); Abadi et al., CCS 2016, Algorithm 1.
    """

    learning_rate: PositiveFloat
    batch_size: PositiveInt = 32
    epochs: PositiveFloat = 1.0
    steps: PositiveInt | None = None
    momentum: Momentum = 0.0
    weight_decay: NonNegativeFloat = 0.0

    private: ClassVar[bool] = True
    own_gradients: ClassVar[bool] = True  # by neither kernel of the cohort

    def train(self, cohort: Cohort, start: Float[Tensor, " d"]) -> Float[Tensor, "K d"]:
        """Each client's local model minus the global one."""
        clients = [_Client(self, cohort, row, start) for row in range(cohort.size)]
        for step in cohort.steps:
            batch = cohort.poisson_batch(step)
            noise = cohort.normal(step, start.expand(cohort.size, -1))
            for row, client in enumerate(clients):
                if batch.active[row, 0]:
                    with products("float32", start.device):
                        client.step(batch, noise[row])
        return torch.stack([client.local() - start for client in clients])


class _Client:
    """One client's module, wrapped by Opacus."""

    def __init__(self, behaviour: opacus_dp_sgd, cohort: Cohort, row: int, start: Tensor) -> None:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self.model, self.row = cohort.model, row
        module = deepcopy(cohort.model.module).train().to(start.device)
        module.load_state_dict(cohort.model.state_dict(start))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks on inputs without gradient: they are data
            self.module = GradSampleModule(module, loss_reduction="sum")
        parameters = dict(self.module._module.named_parameters())
        self.parameters = [parameters[name] for name in self.model.names]
        self.scale = float(cohort.clip * cohort.noise_multiplier[row])
        self.expected = float(cohort.expected_batch_size[row])
        self.optimiser = DPOptimizer(
            torch.optim.SGD(
                self.parameters,
                lr=behaviour.learning_rate,
                momentum=behaviour.momentum,
                weight_decay=behaviour.weight_decay,
            ),
            noise_multiplier=0.0,  # ours is added below, from the client's own stream
            max_grad_norm=cohort.clip,
            expected_batch_size=max(1, round(self.expected)),
            loss_reduction="sum",
        )

    def step(self, batch: Batch, noise: Float[Tensor, " d"]) -> None:
        present = batch.present[self.row]
        x, y = batch.x[self.row][present], batch.y[self.row][present]
        self.optimiser.zero_grad()
        if len(y):
            with (
                dropout_keys(self.module, batch.keys[self.row][present]),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                cross_entropy(self._logits(x), y, reduction="sum").backward()
            self.optimiser.clip_and_accumulate()
            sums = [p.summed_grad for p in self.parameters]
        else:
            sums = [torch.zeros_like(p) for p in self.parameters]
        parts = noise.split(self.model.counts)
        for parameter, total, part in zip(self.parameters, sums, parts):
            noised = total + self.scale * part.view_as(parameter)
            parameter.grad = noised / self.expected
            parameter.summed_grad = None
        self.optimiser.original_optimizer.step()

    def _logits(self, x: Tensor) -> Tensor:
        answer = self.module(x)
        answer = getattr(answer, "logits", answer)
        if answer.dim() == 1:
            answer = answer[:, None]
        if answer.shape[-1] == 1:
            answer = torch.cat([torch.zeros_like(answer), answer], dim=-1)
        return answer

    def local(self) -> Float[Tensor, " d"]:
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])
