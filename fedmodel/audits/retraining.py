"""Rounds of an audit: clients trained anew in this process, of whom none may fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.apps import Workload
from fedmodel.cohort import Cohort
from fedmodel.errors import RunFailed
from fedmodel.secure.answers import Plan
from fedmodel.secure.encoding import FURTHER
from fedmodel.training import Trained, train_cohort

__all__ = ["averaged", "parts_of", "retrained", "unmasked_mean", "weights_of"]


def parts_of(work: Workload, clients: np.ndarray, round: int) -> tuple[Any, ...]:
    """What a cohort of these clients is made of."""
    return clients, work.data, work.model, work.training, work.seed, round, {}, work.device


def retrained(work: Workload, cohort: Cohort, start: Float[Tensor, " d"]) -> Trained:
    """What the clients' behaviour makes of the global model in one round.

    Raises:
        RunFailed: a client failed.
    """
    trained = train_cohort(work.behaviour, cohort, start)
    for client, why in trained.failures.items():
        name = work.data.clients[cohort.clients[client]]
        raise RunFailed(
            f"a client failed in round {cohort.round} of the audit",
            where=f"client {name}: {why}",
            fix="Mend the cause: an audit needs every client.",
        )
    return trained


def averaged(
    start: Float[Tensor, " d"], delta: Float[Tensor, "K d"], work: Workload, *, round: int
) -> Float[Tensor, " d"]:
    """The next global model: the mean of all clients' updates, as the server gets it."""
    if work.secure is None:
        return start + weights_of(work).to(delta) @ delta
    records = work.data.sizes("train").tolist()
    mean = unmasked_mean(work.secure, delta, records=records, round=round, seed=work.seed)
    return start + mean.to(start)


def weights_of(work: Workload) -> Float[Tensor, " K"]:
    """Each client's weight in the mean: by its records, or under secure aggregation as it says."""
    sizes = work.data.sizes("train").float()
    if work.secure is not None and not work.secure.by_records:
        sizes = torch.ones_like(sizes)
    return sizes / sizes.sum()


def unmasked_mean(
    plan: Plan, delta: Float[Tensor, "K d"], *, records: Sequence[int], round: int, seed: int
) -> Float[Tensor, " d"]:
    """What the server of secure aggregation learns of these clients' updates, in float64.

    Words are added up as they are: masks cancel in the sum.
    """
    words = np.zeros(delta.shape[1] + FURTHER, plan.encoding.dtype)
    for client, (update, own) in enumerate(zip(delta.cpu().numpy(), records, strict=True)):
        words += plan.words(update, client=client, round=round, records=own, seed=seed)
    return torch.from_numpy(plan.encoding.decode(words, clients=len(delta)).mean)
