"""All steps of a round in one compiled call, for the models and the optimiser where it can be done.

The loops of `sgd` and `dp_sgd` tell what is computed. Of a small model each step takes less time than
the calls that make it up; here a client's whole training stays in the caches of one core.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.cohort import chain_loops as loops
from fedmodel.cohort.cohort import Cohort
from fedmodel.cohort.gradients import chain_of
from fedmodel.compiling import in_threads

__all__ = ["fused_sgd"]

NOISE_BYTES = 64 << 20  # so many steps' noise is drawn at once


def fused_sgd(
    cohort: Cohort,
    start: Float[Tensor, " d"],
    *,
    private: bool,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    proximal: float = 0.0,
) -> Float[Tensor, "K d"] | None:
    """Each client's local model minus the global one, after its steps of SGD; as the loops, to rounding.

    Shuffled batches and their mean gradient, or with `private` Poisson batches, clipped sums and noise;
    all draws are the cohort's, and noted by it. None, and nothing done, where the model is no chain of
    linear layers (`fedmodel.cohort.chain`).
    """
    if type(cohort) is not Cohort or (private and cohort.clip == float("inf")):
        return None  # an audit's cohort changes batches or gradients on their way
    local = start.repeat(cohort.size, 1)
    chain = chain_of(cohort, local)
    if chain is None:
        return None
    steps = cohort.steps
    moved = local.numpy()
    velocity = np.zeros_like(moved if momentum else moved[:0])
    rates = tuple(map(moved.dtype.type, (learning_rate, momentum, weight_decay, proximal)))
    clip = moved.dtype.type(cohort.clip if private else np.inf)
    scale = (cohort.clip * cohort.noise_multiplier).to(local).numpy()
    divisor = cohort.expected_batch_size.to(local).numpy()
    loss, met = np.zeros(cohort.size, moved.dtype), np.zeros(cohort.size, np.int64)
    x, *rest = cohort.rows
    rows = (x.reshape(len(x), -1), *rest)
    noisy = private and bool(cohort.noise_multiplier.any())
    size = max(1, NOISE_BYTES // moved.nbytes if noisy else len(steps))
    for begin in range(0, len(steps), size):
        part = steps[begin : begin + size]
        records = _poisson(cohort, part) if private else cohort.shuffled_records(part)
        noise = np.empty((len(part), *moved.shape) if noisy else (1, 1, 1), np.float32)
        if noisy:
            cohort.draw_normals(part, noise)

        arguments = (
            moved,
            start.numpy(),
            velocity,
            *rows,
            records,
            cohort.num_steps - begin,
            chain.form,
            clip,
            noise,
            scale,
            divisor,
            rates,
            loss,
            met,
        )
        in_threads(partial(_train, arguments), cohort.size, cohort.threads)
    if not private:
        cohort.note_loss(torch.from_numpy(loss), torch.from_numpy(met))
    return local.sub_(start)


def _train(arguments: tuple[Any, ...], clients: slice) -> None:
    loops.train((clients.start, clients.stop), *arguments)


def _poisson(cohort: Cohort, steps: range) -> np.ndarray:
    """Each step's batch, of whatever width, as one array ``[S, K, B]``; -1 where there is no record."""
    parts = [cohort.poisson_records(step) for step in steps]
    width = max(part.shape[1] for part in parts)
    out = np.full((len(parts), cohort.size, width), -1, np.int64)
    for place, part in zip(out, parts):
        place[:, : part.shape[1]] = part
    return out
