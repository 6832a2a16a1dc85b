"""What to hold a federation against: all data in one place, each client alone, no privacy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.apps import CohortApp, Workload, counts_of
from fedmodel.cohort import Cohort, LocalTraining
from fedmodel.cohort.placement import on_device
from fedmodel.grids.inline import InlineGrid
from fedmodel.privacy.budget import steps_per_round
from fedmodel.rounds import Federation, State, rounds
from fedmodel.scheduling import Scheduled
from fedmodel.training import train_cohort
from fedmodel.types import Counts, FederatedData, Split

__all__ = ["alone", "cross_site", "local", "non_private", "pooled"]


def pooled(
    work: Workload,
    clean: FederatedData,
    *,
    passes: float,
    num_rounds: int,
    share: float,
    splits: tuple[Split, ...],
) -> dict[Split, Counts]:
    """One model on everybody's training records, without privacy or attackers; see `alone`.

    Counted at each client's own records, so that groups and clients compare.
    """
    vector = alone(work, clean.pooled(), passes=passes, num_rounds=num_rounds, share=share)[0]
    everybody = np.arange(clean.num_clients)
    return {
        split: counts_of(
            work.model,
            vector,
            clean,
            partitions=everybody,
            split=split,
            device=work.device,
            threshold=work.threshold,
        )
        for split in splits
    }


def local(
    work: Workload,
    clean: FederatedData,
    vectors: Float[Tensor, "K d"],
    *,
    splits: tuple[Split, ...],
) -> dict[Split, Counts]:
    """Each client's own model, as `alone` trained it, tested on its own records."""
    result = {}
    for split in splits:
        parts = [
            counts_of(
                work.model,
                vector,
                clean,
                partitions=np.array([k]),
                split=split,
                device=work.device,
                threshold=work.threshold,
            )
            for k, vector in enumerate(vectors)
        ]
        result[split] = Counts(
            confusion=torch.cat([part.confusion for part in parts]),
            loss=torch.cat([part.loss for part in parts]),
            histogram=torch.cat([part.histogram for part in parts]),
        )
    return result


def non_private(
    work: Workload, federation: Federation, initial: torch.Tensor
) -> Iterator[tuple[int, Any]]:
    """This very federation, its batches and its attackers, without clip and noise, round by round.

    Updates are gathered in the open: what secure aggregation rounds off is no part of the reference.
    """
    training = work.training.without_privacy()
    app = CohortApp(
        replace(work, training=training, max_steps=None, release=None, secure=None, severity=None)
    )
    grid = InlineGrid(app, num_clients=work.data.num_clients)
    strategy = federation.strategy
    if hasattr(strategy, "without_privacy"):
        strategy = strategy.without_privacy()
    plain = replace(federation, grid=grid, strategy=strategy)
    for finished in rounds(plain, State(0, initial)):
        if finished.counts and finished.number > 0:
            yield finished.number, finished.counts


def cross_site(
    work: Workload,
    clean: FederatedData,
    vectors: Float[Tensor, "K d"],
    *,
    shared: Float[Tensor, " d"],
) -> pd.DataFrame:
    """Every client's own model, and the shared one, at every client's test records.

    A row a pair: ``model`` (a client's name, or "global"), ``client`` (whose records), ``num_records``,
    ``correct``, ``accuracy`` (NaN without records). A model reads all records in one pass.
    """
    everybody, parts = np.arange(clean.num_clients), []
    for name, vector in zip((*clean.clients, "global"), [*vectors, shared.to(vectors)]):
        counts = counts_of(
            work.model, vector, clean, partitions=everybody, split="test", device=work.device
        )
        confusion = counts.confusion.sum(1)
        number = confusion.sum((1, 2)).numpy()
        correct = confusion.diagonal(dim1=1, dim2=2).sum(1).numpy()
        columns = {"model": name, "client": clean.clients, "num_records": number}
        parts.append(pd.DataFrame({**columns, "correct": correct}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(accuracy=table.correct / table.num_records.where(table.num_records > 0))


def alone(
    work: Workload, data: FederatedData, *, passes: float, num_rounds: int, share: float = 1.0
) -> Float[Tensor, "K d"]:
    """Models of K clients that train by themselves, with the behaviour's own settings.

    As much as in a federation of `num_rounds` that asks a `share` of the clients, each for so many
    `passes` through its records. In one go; with a schedule round by round, each at its learning rate:
    what an optimiser remembers then lasts for a round, as it does in the federation.
    """
    size, everybody = work.training.batch_size, np.arange(data.num_clients)
    sizes, scheduled = data.sizes("train"), isinstance(work.behaviour, Scheduled)
    if scheduled:
        each = steps_per_round(sizes, size, epochs=passes)
        number = np.ceil(num_rounds * share * each - 1e-9).astype(np.int64)
    else:
        number = steps_per_round(sizes, size, epochs=num_rounds * share * passes)
    data = on_device(data, work.device)
    start = work.model.initial.to(work.device)

    def train(
        clients: np.ndarray, round: int, steps: np.ndarray, start: Float[Tensor, " d"]
    ) -> Float[Tensor, "M d"]:
        training = LocalTraining(batch_size=size, num_steps=steps)
        cohort = Cohort(clients, data, work.model, training, work.seed, round, {}, work.device)
        trained = train_cohort(work.behaviour, cohort, start)
        trained.delta[list(trained.failures)] = torch.nan
        return start + trained.delta

    if not scheduled:
        return train(everybody, 0, number, start)
    models = start.repeat(data.num_clients, 1)
    for round in range(1, num_rounds + 1):
        # Whole steps that add up: rounded in each round, a client of few records would train far more.
        steps = number * round // num_rounds - number * (round - 1) // num_rounds
        for client in np.flatnonzero(steps):  # each from where it stands, so one by one
            models[client] = train(np.array([client]), round, steps, models[client])[0]
    return models
