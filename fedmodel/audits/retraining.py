"""Rounds of an audit: clients trained anew in this process, of whom none may fail."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fedmodel.apps import Workload
from fedmodel.cohort import Cohort
from fedmodel.errors import RunFailed
from fedmodel.training import Trained, train_cohort

__all__ = ["averaged", "parts_of", "retrained"]


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


def averaged(start: Float[Tensor, " d"], trained: Trained, work: Workload) -> Float[Tensor, " d"]:
    """The next global model: the mean of all clients' updates by their records."""
    weights = work.data.sizes("train").to(trained.delta)
    return start + (weights / weights.sum()) @ trained.delta
