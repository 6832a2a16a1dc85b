"""From a configuration to its parts: data, model, behaviour, plan, strategy. No loop, no arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from flwr.serverapp.strategy import Strategy

from fedmodel._flower import Layout
from fedmodel.apps import Workload
from fedmodel.attackers import dishonest_clients, poisoned, views
from fedmodel.catalogue import Component
from fedmodel.cohort import FlatModel
from fedmodel.cohort.weights import check_class_weights
from fedmodel.components import Components, bind
from fedmodel.config import Config
from fedmodel.data.federate import federate
from fedmodel.data.records import Records
from fedmodel.dealing import load_records, reading_of
from fedmodel.deciding import check_threshold, threshold_notes
from fedmodel.errors import FedmodelError
from fedmodel.fitting import check_clients, check_model, slower_kernel
from fedmodel.folded import Fold, fold_plan
from fedmodel.models.drawing import initial_draws
from fedmodel.models.start import put_in, read_parameters
from fedmodel.planning import (
    plan_encoding,
    plan_evaluation,
    plan_severity,
    plan_training,
    protect_sums,
)
from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.targets import client_targets
from fedmodel.privacy.updates import local_release
from fedmodel.scheduling import scheduled_client
from fedmodel.secured import secure_plan, what_is_seen
from fedmodel.source import Source
from fedmodel.stopping import check_stop
from fedmodel.supplied import supplied
from fedmodel.types import FederatedData, Split

__all__ = ["Built", "Components", "bind", "build"]


@dataclass(frozen=True)
class Built:
    """All parts of an experiment, ready to run."""

    data: FederatedData  # as the clients hold it, poisoned labels and all
    clean: FederatedData  # as it was loaded
    model: FlatModel
    workload: Workload
    strategy: Strategy
    plans: ClientPlans | None
    omniscient: Component | None
    dishonest: np.ndarray | None
    metrics: dict[str, Component]
    splits: tuple[Split, ...]
    notes: tuple[str, ...]
    fold: Fold | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.model.names, self.model.shapes)


def build(config: Config, source: Source, records: Callable[[], Records] | None = None) -> Built:
    """Load, partition, split and encode the data; make the model; plan the privacy.

    `records` gives what `dealing.load_records` does, where several experiments share it.

    Raises:
        FedmodelError: what the user must mend, before anything runs.
    """
    try:
        return _build(config, source, records)
    except FedmodelError as error:
        error.where = source.place(error.where)
        raise


def _build(config: Config, source: Source, shared: Callable[[], Records] | None) -> Built:
    bound = bind(config, source)
    start = read_parameters(source.base / config.model.init) if config.model.init else None
    behaviour = _behaviour(config, bound)
    told = {"seed": config.seed, "num_rounds": config.rounds}
    strategy = supplied(bound.strategy, "strategy", returns=Strategy, **told)
    asked = protect_sums(strategy, config)
    reading = reading_of(config, source)
    records = shared() if shared else load_records(config, bound, reading)
    assignment = supplied(bound.partition, "partition", records, seed=config.seed)
    clean = federate(
        records,
        assignment,
        encode=config.data.encode,
        ranges=config.data.ranges,
        test=config.data.test,
        validation=config.data.validation,
        reading=reading,
        only_test=config.rounds == 0 and "test" not in config.data.model_fields_set,
        seed=config.seed,
        release=plan_encoding(config),
    )
    check_threshold(config, clean)
    check_stop(config, clean)
    check_class_weights(getattr(behaviour, "class_weights", None), clean)
    dishonest = dishonest_clients(config, clean)
    data = poisoned(bound.attack, clean, dishonest, config.seed)
    module = _model(bound.model, clean, config.seed)
    if start is not None:
        put_in(module, start)
    model = FlatModel(module, precision=config.engine.precision)
    check_model(model, clean)
    targets = None
    if config.privacy:
        rule = partial(supplied, bound.target, "privacy") if bound.target else None
        targets = client_targets(
            config.privacy, records, assignment, clean, rule=rule, seed=config.seed
        )
    training, plans = plan_training(config, behaviour, data, asked=asked, targets=targets)
    check_clients(config, strategy, clean, marked=records.split is not None)
    splits: tuple[Split, ...] = ("test",)
    if clean.sizes("validation").sum() > 0:
        splits = ("test", "validation")
    omniscient, own = views(bound.attack)
    secure = secure_plan(config, bound, data, size=model.size, strategy=strategy, plans=plans)
    count, threshold = data.num_clients, config.evaluation.threshold
    fold = fold_plan(config, bound, size=model.size, strategy=strategy, num_clients=count)
    workload = Workload(
        data=data,
        model=model,
        behaviour=behaviour,
        training=training,
        seed=config.seed,
        max_steps=np.asarray(plans.max_steps) if plans else None,
        release=(secure.noise if secure else None)
        or (local_release(plans, seed=config.seed) if plans else None),
        tells_loss=config.privacy is None,
        attack=own,
        dishonest=dishonest,
        splits=splits,
        device=config.engine.device,
        count_noise=plan_evaluation(config),
        severity=plan_severity(config, clean),
        threshold=threshold if isinstance(threshold, float) else None,
        secure=secure,
    )
    return Built(
        data=data,
        clean=clean,
        model=model,
        workload=workload,
        strategy=strategy,
        plans=plans,
        omniscient=omniscient,
        dishonest=dishonest,
        metrics=bound.metrics,
        splits=splits,
        notes=(
            *slower_kernel(workload),
            *_notes(plans, strategy, clean),
            *threshold_notes(config),
            *what_is_seen(config, attacked=dishonest is not None),
            *([fold.note] if fold else []),
        ),
        fold=fold,
    )


def _behaviour(config: Config, bound: Components) -> Any:
    """What the clients do, at the rates of their schedule."""
    training_itself = bound.client.asks_for("cohort")  # a function in place of a class
    behaviour = None if training_itself else supplied(bound.client, "client")
    if not callable(getattr(behaviour, "train", None)):
        raise FedmodelError(
            f"{config.client.name} has no method `train`",
            where="[client] name",
            fix="A behaviour has train(self, cohort, start), which returns the updates [K, d].",
        )
    return scheduled_client(behaviour, bound.client, bound.schedule, rounds=config.rounds)


def _model(component: Component, data: FederatedData, seed: int) -> torch.nn.Module:
    """The module with its initial parameters, drawn from the experiment's seed."""
    if component.needs("vocabulary") and not data.vocabulary:
        raise FedmodelError(
            f"{component.name} reads texts, and {data.card.name} has none",
            where="[model] name",
            fix='Use a model of tables, e.g. name = "logistic".',
        )
    with initial_draws(seed):
        return supplied(
            component,
            "model",
            returns=torch.nn.Module,
            num_features=int(np.prod(data.x.shape[1:])),
            num_classes=len(data.classes),
            vocabulary=data.vocabulary,
        )


def _notes(plans: ClientPlans | None, strategy: Strategy, data: FederatedData) -> tuple[str, ...]:
    notes = [*(plans.warnings if plans else ()), *data.card.notes]
    if drowned := getattr(data.encoder, "drowned", ()):
        notes.append(
            f"{len(drowned)} numeric columns keep their public limits, as noise drowned what clients "
            f"told of their scale: {', '.join(drowned[:5])}{', ...' if len(drowned) > 5 else ''}."
        )
    if not hasattr(strategy, "state"):
        notes.append(
            f"The state of {type(strategy).__name__} is saved as best effort: what it keeps outside "
            "its attributes is lost on resume."
        )
    without = [n for n, k in zip(data.clients, data.sizes("test").tolist()) if k == 0]
    if without:
        shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        have = "1 client has" if len(without) == 1 else f"{len(without)} clients have"
        notes.append(f"{have} no test records: {shown}.")
    return tuple(notes)
