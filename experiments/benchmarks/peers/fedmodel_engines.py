"""fedmodel: the round loop, its messages and strategy, over the inline grid or the Ray grid.

The parts are put together by hand because the records come from memory; an experiment file makes
the same ones. No split is evaluated, as with every peer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarks.peers import Lap
from experiments.benchmarks.peers.on_demand import records_on_demand
from experiments.benchmarks.works import Work
from fedmodel._flower import Layout
from fedmodel.apps import CohortApp, Workload
from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.clients.sgd import sgd
from fedmodel.cohort import FlatModel, LocalTraining, keep_freed_memory
from fedmodel.grids import grid_named
from fedmodel.rounds import Federation, State, rounds
from fedmodel.strategies.compose import compose
from fedmodel.types import Card, FederatedData

__all__ = ["federated", "run", "settings", "workload"]

FOREVER = 10**9  # rounds; the clock says when it is enough


def settings(work: Work) -> list[dict[str, Any]]:
    return [{}]


def run(work: Work, lap: Lap, *, grid: str = "inline", threads: int = 1, workers: int = 2) -> None:
    if grid == "inline":
        keep_freed_memory()  # as an experiment does first of all
    job = workload(work)
    model, data = job.model, job.data
    chosen = grid_named(
        grid,
        CohortApp(job),
        num_clients=data.num_clients,
        workers=workers if grid == "ray" else threads,
    )
    federation = Federation(
        strategy=compose(sample=work.cohort / work.population, seed=work.seed),
        grid=chosen,
        layout=Layout(model.names, model.shapes),
        seed=work.seed,
        num_rounds=FOREVER,
        every=FOREVER,
        splits=(),
    )
    latest: list[Tensor] = [model.initial]
    try:
        for _ in rounds(
            federation,
            State(0, model.initial),
            save=lambda state, finished: latest.__setitem__(0, state.vector),
        ):
            if not lap(lambda: model.state_dict(latest[0])):
                break
    finally:
        chosen.close()


def workload(work: Work) -> Workload:
    """Data, model and behaviour of the work's clients."""
    everybody = np.ones(work.population)
    behaviour = (dp_sgd if work.private else sgd)(
        learning_rate=work.learning_rate, batch_size=work.batch_size, epochs=1
    )
    training = LocalTraining(
        batch_size=work.batch_size, num_steps=(work.steps * everybody).astype(np.int64)
    )
    if work.private:
        training = LocalTraining(
            batch_size=work.batch_size,
            num_steps=training.num_steps,
            private=True,
            clip=work.clip,
            noise_multiplier=work.noise_multiplier * everybody,
        )
    return Workload(
        data=federated(work),
        model=FlatModel(work.initial_model()),
        behaviour=behaviour,
        training=training,
        seed=work.seed,
        splits=(),
        max_steps=(FOREVER * everybody).astype(np.int64) if work.private else None,
    )


def federated(work: Work) -> FederatedData:
    """Everybody's records as training records."""
    if work.on_demand:
        x, y = records_on_demand(work)
    else:
        x, y = (part.flatten(0, 1) for part in work.records())
    starts = np.arange(work.population, dtype=np.int64) * work.num_records
    ends = starts + work.num_records
    classes = work.model()(x[torch.arange(1)]).shape[1]
    return FederatedData(
        x=x,
        y=y,
        group=torch.zeros(len(y), 0, dtype=torch.int64),
        bounds=torch.from_numpy(np.column_stack([starts, ends, ends, ends])),
        clients=tuple(map(str, range(work.population))),
        classes=tuple(map(str, range(classes))),
        attributes={},
        features=(),
        card=Card(name=work.name, title=work.title, source="generated", licence="none"),
    )
