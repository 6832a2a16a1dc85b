"""Clients made up from an experiment's records, and what they send by its own behaviour and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.apps import CohortApp
from fedmodel.cohort import Cohort, LocalTraining
from fedmodel.errors import FedmodelError, RunFailed, nearest
from fedmodel.experiment import Experiment
from fedmodel.grids.inline import InlineGrid
from fedmodel.privacy.budget import Budget, plan, steps_per_round
from fedmodel.rounds import State, rounds
from fedmodel.training import train_cohort
from fedmodel.types import FederatedData

__all__ = [
    "Setting",
    "client_named",
    "final_model",
    "held_by",
    "sent",
    "settings",
    "training_under",
]


@dataclass(frozen=True)
class Setting:
    """A privacy setting that an experiment is attacked under; no budget is no clip and no noise."""

    name: str
    budget: Budget | None

    @property
    def epsilon(self) -> float:
        """The promised epsilon; infinite without privacy, NaN where only the noise is set."""
        if self.budget is None:
            return float("inf")
        return float("nan") if self.budget.epsilon is None else self.budget.epsilon


def settings(experiment: Experiment, epsilons: Sequence[float]) -> list[Setting]:
    """The experiment without privacy, as it is (the last one), and with other budgets between.

    Raises:
        FedmodelError: other budgets, and the experiment has no [privacy].
    """
    plain, plans = Setting("no privacy", None), experiment.built.plans
    if plans is None:
        if epsilons:
            raise FedmodelError(
                f"epsilons = {list(epsilons)} have no effect: this experiment has no [privacy]",
                where="epsilons",
                fix="Leave epsilons out, or give the experiment [privacy] and a client such as dp_sgd.",
            )
        return [plain]
    own = plans.budget
    name = f"noise {own.noise_multiplier:g}" if own.epsilon is None else f"ε = {own.epsilon:g}"
    others = [
        Setting(f"ε = {epsilon:g}", replace(own, epsilon=epsilon, noise_multiplier=None))
        for epsilon in sorted(set(epsilons) - {own.epsilon}, reverse=True)
    ]
    return [plain, *others, Setting(f"this run: {name}", own)]


def client_named(data: FederatedData, name: str | None) -> int:
    """The number of a client; of the one with most training records where none is named.

    Raises:
        FedmodelError: there is no such client.
    """
    if name is None:
        return int(data.sizes("train").argmax())
    if name not in data.clients:
        raise FedmodelError(
            f"there is no client {name!r} to attack",
            where="client",
            fix=nearest(name, data.clients, what="the clients are"),
        )
    return data.clients.index(name)


def held_by(data: FederatedData, rows: Sequence[Int[Tensor, " _"]]) -> FederatedData:
    """The federation whose client k holds the records ``rows[k]`` of `data`, all to train with."""
    index = torch.cat(list(rows))
    ends = torch.tensor([len(part) for part in rows]).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return replace(
        data,
        x=data.x[index],
        y=data.y[index],
        group=data.group[index],
        bounds=torch.stack([starts, ends, ends, ends], dim=1),
        clients=tuple(f"made up {k}" for k in range(len(rows))),
    )


def training_under(
    setting: Setting,
    experiment: Experiment,
    sizes: Int[np.ndarray, " K"],
    *,
    batch_size: int | None = None,
) -> LocalTraining:
    """How K clients of these sizes train in a round of the experiment under a privacy setting.

    Noise is calibrated as in a run: from size, batch size and all rounds that a client plans for.

    Raises:
        FedmodelError: no noise keeps to the budget.
    """
    work = experiment.built.workload
    size, steps = batch_size or work.training.batch_size, getattr(work.behaviour, "steps", None)
    amount: dict[str, Any] = (
        {"steps": steps} if steps else {"epochs": getattr(work.behaviour, "epochs", 1.0)}
    )
    if setting.budget is None:
        number = np.asarray(steps_per_round(sizes, size, **amount))
        return LocalTraining(batch_size=size, num_steps=number)
    plans = experiment.built.plans
    own = (
        plans is not None and setting.budget is plans.budget
    )  # other budgets pay for training only
    released = plans.released if plans and own else ()
    planned = plan(setting.budget, sizes=sizes, batch_size=size, released=released, **amount)
    return LocalTraining(
        batch_size=size,
        num_steps=np.asarray(planned.steps),
        private=True,
        clip=setting.budget.clip,
        noise_multiplier=np.asarray(planned.noise_multiplier),
        noise=setting.budget.noise,
    )


def sent(
    experiment: Experiment,
    data: FederatedData,
    training: LocalTraining,
    start: Float[Tensor, " d"],
    *,
    round: int = 1,
) -> Float[Tensor, "K d"]:
    """The updates that all clients of `data` send: local model minus `start`.

    Raises:
        RunFailed: a client failed.
    """
    work = experiment.built.workload
    everybody = np.arange(data.num_clients)
    cohort = Cohort(everybody, data, work.model, training, work.seed, round, {}, work.device)
    trained = train_cohort(work.behaviour, cohort, start.to(work.device))
    for number, why in trained.failures.items():
        raise RunFailed(
            f"the attacked client {data.clients[number]} failed: {why}",
            where="[client]",
            fix="Mend the experiment until `fedmodel run` goes through, then audit it.",
        )
    return trained.delta.cpu()


def final_model(experiment: Experiment) -> Float[Tensor, " d"]:
    """The global model after the last round: the run's, or trained here where there is no run yet.

    Raises:
        RunFailed: the experiment cannot be trained.
    """
    built = experiment.built
    if experiment.folder is not None and (state := experiment.folder.latest_state()) is not None:
        return state.vector
    grid = InlineGrid(CohortApp(built.workload), num_clients=built.data.num_clients)
    states: list[State] = []
    federation = replace(experiment.federation(grid), every=experiment.config.rounds)
    try:
        for _ in rounds(
            federation, State(0, built.model.initial), save=lambda state, _: states.append(state)
        ):
            del states[:-1]
    finally:
        grid.close()
    return states[-1].vector
