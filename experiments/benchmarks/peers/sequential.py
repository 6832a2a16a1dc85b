"""No framework: client after client in a plain PyTorch loop, FedAvg by hand, Opacus for DP-SGD.

What a careful person would write: the parameters are views of one flat vector, so that taking the
global model over, the step and the average are single operations. With DP-SGD Opacus is set up
once, not once a client, and in whichever of its modes is fastest for the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.benchmarks.peers import Lap
from experiments.benchmarks.works import Work

__all__ = ["run", "settings"]

MODES = ("hooks", "functorch", "ew", "ghost")  # Opacus' ways to gradients of single records

Step = Callable[[Tensor, Tensor], None]


def settings(work: Work) -> list[dict[str, Any]]:
    return [{"mode": mode} for mode in MODES] if work.private else [{}]


def run(work: Work, lap: Lap, *, threads: int = 1, mode: str = "hooks") -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(work.seed)
    x, y = work.records()
    model = work.initial_model().train()
    local = flatten(model)
    step = private_step(work, model, mode) if work.private else plain_step(work, model, local)
    draw = poisson_batches if work.private else shuffled_batches
    current = local.clone()
    going = lap(model.state_dict)
    while going:
        total = torch.zeros_like(current)
        for client in torch.randperm(work.population, generator=generator)[: work.cohort].tolist():
            local.copy_(current)
            for rows in draw(work, generator):
                step(x[client, rows], y[client, rows])
            total += local
        current = total / work.cohort  # all clients have equally many records
        local.copy_(current)
        going = lap(model.state_dict)


def flatten(model: nn.Module) -> Tensor:
    """One vector of all parameters, of which they become views."""
    parameters = list(model.parameters())
    vector = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, part in zip(parameters, vector.split([p.numel() for p in parameters])):
        parameter.data = part.view_as(parameter)
    return vector


def shuffled_batches(work: Work, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch in batches."""
    yield from torch.randperm(work.num_records, generator=generator).split(work.batch_size)


def poisson_batches(work: Work, generator: torch.Generator) -> Iterator[Tensor]:
    """As many Poisson batches as an epoch has."""
    for _ in range(work.steps):
        drawn = torch.rand(work.num_records, generator=generator)
        yield (drawn < work.sample_rate).nonzero().flatten()


def plain_step(work: Work, model: nn.Module, local: Tensor) -> Step:
    """A step of SGD; gradients accumulate in one flat vector too."""
    gradient = torch.zeros_like(local)
    parameters = list(model.parameters())
    for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters])):
        parameter.grad = part.view_as(parameter)

    def step(x: Tensor, y: Tensor) -> None:
        gradient.zero_()
        cross_entropy(model(x), y).backward()
        local.sub_(gradient, alpha=work.learning_rate)

    return step


def private_step(work: Work, model: nn.Module, mode: str) -> Step:
    """A step of DP-SGD by Opacus, without accounting."""
    from opacus.grad_sample import wrap_model
    from opacus.optimizers import get_optimizer_class
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    ghost = {"max_grad_norm": work.clip, "use_ghost_clipping": True} if mode == "ghost" else {}
    wrapped = wrap_model(model, grad_sample_mode=mode, loss_reduction="mean", **ghost)
    optimiser = get_optimizer_class(clipping="flat", distributed=False, grad_sample_mode=mode)(
        torch.optim.SGD(model.parameters(), lr=work.learning_rate),
        noise_multiplier=work.noise_multiplier,
        max_grad_norm=work.clip,
        expected_batch_size=work.batch_size,
    )
    criterion: Any = cross_entropy
    if mode == "ghost":
        criterion = DPLossFastGradientClipping(wrapped, optimiser, nn.CrossEntropyLoss())

    def step(x: Tensor, y: Tensor) -> None:
        optimiser.zero_grad()
        criterion(wrapped(x), y).backward()
        optimiser.step()

    return step
