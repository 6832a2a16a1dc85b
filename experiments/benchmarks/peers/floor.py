"""What no federation can beat on this machine: the arithmetic alone, and one model without clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.peers import Lap, Unable
from experiments.benchmarks.works import Work
from fedmodel.randomness import normals, stream_keys

__all__ = ["flops_of", "run", "settings"]

WIDTH, ROWS = (
    512,
    2048,
)  # of the matrices that are multiplied: large enough for the machine's full rate


def settings(work: Work) -> list[dict[str, Any]]:
    return [{}]


def run(work: Work, lap: Lap, *, what: str, threads: int = 2) -> None:
    torch.set_num_threads(threads)
    (central if what == "central" else arithmetic)(work, lap)


def arithmetic(work: Work, lap: Lap) -> None:
    """As many multiplications as a round needs, in large matrices; and with privacy the noise.

    The noise is fedmodel's own, one value a parameter, step and client.
    """
    rows = flops_of(work) // (2 * WIDTH**2)
    left, right = torch.randn(ROWS, WIDTH), torch.randn(WIDTH, WIDTH)
    product = torch.empty(ROWS, WIDTH)
    keys = stream_keys(work.seed, range(work.cohort), 1, "noise")
    size = sum(parameter.numel() for parameter in work.model().parameters())
    noise = np.empty((work.cohort, size), np.float32)
    model = work.initial_model()
    going = lap(model.state_dict)
    while going:
        for first in range(0, rows, ROWS):
            part = min(ROWS, rows - first)
            torch.mm(left[:part], right, out=product[:part])
        for step in range(work.steps if work.private else 0):
            normals(keys, size, step=step, out=noise)
        going = lap(model.state_dict)


def flops_of(work: Work) -> int:
    """Floating-point operations of a round's forward and backward passes."""
    model, (x, y) = work.initial_model(), work.drawn(work.batch_size, part=2)
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model(x), y).backward()
    return counter.get_total_flops() * work.cohort * work.num_records // work.batch_size


def central(work: Work, lap: Lap) -> None:
    """The records of as many clients, pooled: one model, a batch of all their batches, no privacy."""
    if work.private:
        raise Unable("it has no privacy: see the work without")
    generator = torch.Generator().manual_seed(work.seed)
    x, y = work.records()
    model = work.initial_model().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=work.learning_rate)
    going = lap(model.state_dict)
    while going:
        clients = torch.randperm(work.population, generator=generator)[: work.cohort]
        pooled_x, pooled_y = x[clients].flatten(0, 1), y[clients].flatten()
        order = torch.randperm(len(pooled_y), generator=generator)
        for rows in order.split(work.cohort * work.batch_size):
            optimiser.zero_grad()
            cross_entropy(model(pooled_x[rows]), pooled_y[rows]).backward()
            optimiser.step()
        going = lap(model.state_dict)
