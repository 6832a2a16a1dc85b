"""From a configuration to its parts: data, model, behaviour, plan, strategy. No loop, no arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from flwr.serverapp.strategy import Strategy

from fedmodel._flower import Layout
from fedmodel.apps import Workload
from fedmodel.catalogue import Component
from fedmodel.cohort import Cohort, FlatModel
from fedmodel.cohort.trial import tried
from fedmodel.cohort.weights import check_class_weights
from fedmodel.components import Components, bind
from fedmodel.config import Config
from fedmodel.data.federate import federate
from fedmodel.data.records import Records
from fedmodel.dealing import load_records, reading_of
from fedmodel.deciding import check_threshold, threshold_notes
from fedmodel.errors import FedmodelError, nearest, shown, user_place, what_failed
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
from fedmodel.randomness import SERVER, stream
from fedmodel.scheduling import scheduled_client
from fedmodel.secured import asked_clients, secure_plan, what_is_seen
from fedmodel.source import Source
from fedmodel.stopping import check_stop
from fedmodel.strategies.compose import compose
from fedmodel.supplied import supplied
from fedmodel.types import FederatedData, Split

__all__ = ["Built", "Components", "bind", "build"]


MOST_SITES = 1000  # clients whose models are tried at one another


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
    behaviour = supplied(bound.client, "client")
    if not callable(getattr(behaviour, "train", None)):
        raise FedmodelError(
            f"{config.client.name} has no method `train`",
            where="[client] name",
            fix="A behaviour has train(self, cohort, start), which returns the updates [K, d].",
        )
    behaviour = scheduled_client(behaviour, bound.client, bound.schedule, rounds=config.rounds)
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
    dishonest = _dishonest(config, clean)
    data = _poisoned(bound.attack, clean, dishonest, config.seed)
    module = _model(bound.model, clean, config.seed)
    if start is not None:
        put_in(module, start)
    model = FlatModel(module, precision=config.engine.precision)
    _check_model(model, clean)
    targets = None
    if config.privacy:
        rule = partial(supplied, bound.target, "privacy") if bound.target else None
        targets = client_targets(
            config.privacy, records, assignment, clean, rule=rule, seed=config.seed
        )
    training, plans = plan_training(config, behaviour, data, asked=asked, targets=targets)
    splits: tuple[Split, ...] = ("test",)
    if clean.sizes("validation").sum() > 0:
        splits = ("test", "validation")
    if clean.sizes("test").sum() == 0:
        raise FedmodelError(
            "no client has test records, so nothing can be evaluated",
            where="[data] test",
            fix="Choose data.test > 0, or mark test records in the split column.",
        )
    _check_minimums(strategy, clean.num_clients)
    if "cross_site" in config.evaluation.references and clean.num_clients > MOST_SITES:
        raise FedmodelError(
            f"{clean.num_clients:,} clients make {clean.num_clients**2:,} pairs of model and records",
            where="[evaluation] references",
            fix=f'Drop "cross_site", or partition into at most {MOST_SITES:,} clients.',
        )
    _check_enough(strategy, clean.num_clients, dropout=config.client.dropout)
    attack = bound.attack
    omniscient = attack if attack is not None and attack.asks_for("honest") else None
    own = attack if attack is not None and attack.asks_for("own") and omniscient is None else None
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
    slower = _slower_kernel(workload)
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
            *slower,
            *_notes(plans, strategy, clean),
            *threshold_notes(config),
            *what_is_seen(config, attacked=dishonest is not None),
            *([fold.note] if fold else []),
        ),
        fold=fold,
    )


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


def _check_model(model: FlatModel, data: FederatedData) -> None:
    number = ", ".join(map(str, data.x.shape[1:]))
    holds = f"{number} token ids" if data.vocabulary else f"{number} numbers"
    try:
        answer = model.predict(model.initial, data.x[:2])
    except Exception as error:
        raise FedmodelError(
            f"the model cannot read records of {holds} each: {what_failed(error)}",
            where=user_place(error) or "[model]",
            fix="Models of tables take `num_features`, models of texts token ids and `vocabulary`.",
        ) from error
    if answer.dim() != 2 or answer.shape[1] != len(data.classes):
        raise FedmodelError(
            f"the model answers {tuple(answer.shape[1:])} numbers a record; "
            f"the data has {len(data.classes)} classes",
            where="[model]",
            fix="Take `num_classes` as a keyword, or set the number of outputs.",
        )


def _dishonest(config: Config, data: FederatedData) -> np.ndarray | None:
    """The mask of attackers: the listed clients, or a share of all drawn from the seed."""
    if config.attack is None:
        return None
    chosen = config.attack.clients
    mask = np.zeros(data.num_clients, dtype=bool)
    if isinstance(chosen, list):
        known = list(data.clients)
        for name in chosen:
            if str(name) not in known:
                raise FedmodelError(
                    f"there is no client {shown(name)} to be an attacker",
                    where="[attack] clients",
                    fix=nearest(str(name), known, what="the clients are"),
                )
            mask[known.index(str(name))] = True
    else:
        number = max(1, round(chosen * data.num_clients))
        draw = stream(config.seed, SERVER, 0, "attackers")
        mask[draw.choice(data.num_clients, number, replace=False)] = True
    if mask.all():
        raise FedmodelError(
            "all clients are attackers",
            where="[attack] clients",
            fix="Leave at least one honest client.",
        )
    return mask


def _poisoned(
    attack: Component | None, data: FederatedData, dishonest: np.ndarray | None, seed: int
) -> FederatedData:
    """The data after an attack on records: the training labels of the dishonest clients changed."""
    if attack is None or dishonest is None or not attack.asks_for("labels"):
        return data
    y = data.y.clone()
    for client in np.flatnonzero(dishonest):
        rows = data.rows(int(client), "train")
        poisoned = supplied(
            attack,
            "attack",
            data.y[rows],
            num_classes=len(data.classes),
            generator=stream(seed, int(client), 0, "poison"),
            returns=torch.Tensor,
        )
        if poisoned.shape != data.y[rows].shape:
            raise FedmodelError(
                f"{attack.name} returned {len(poisoned)} labels for {len(data.y[rows])} records",
                where="[attack] name",
                fix="Return as many labels as were given.",
            )
        y[rows] = poisoned
    return replace(data, y=y)


def _check_minimums(strategy: Strategy, num_clients: int) -> None:
    """Flower's strategies wait for ever for clients that will never come."""
    for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes"):
        needed = getattr(strategy, name, 0)
        if needed > num_clients:
            raise FedmodelError(
                f"{type(strategy).__name__} waits for {needed} clients and there are {num_clients}",
                where=f"[strategy] {name}",
                fix=f"Set {name} = {num_clients} or fewer.",
            )
    for name in ("fraction_train", "fraction_evaluate"):
        share = getattr(strategy, name, 1.0)
        if not 0 <= share <= 1:
            raise FedmodelError(
                f"{type(strategy).__name__} cannot ask a share of {share} of the clients",
                where=f"[strategy] {name}",
                fix=f"Choose 0 <= {name} <= 1.",
            )


def _check_enough(strategy: Strategy, num_clients: int, *, dropout: float) -> None:
    """An aggregator that needs more clients than a round has says so before anything runs."""
    if not isinstance(strategy, compose) or strategy.sampling == "poisson":
        return
    asked = asked_clients(strategy, num_clients)
    there = max(1, asked - round(dropout * asked))
    weights = {"weights": torch.ones(there)} if strategy.takes_weights else {}
    try:
        strategy.combine(torch.zeros(there, 1), **weights)
    except FedmodelError:
        raise
    except Exception:  # what else is wrong, the first round tells, with its line
        return


def _slower_kernel(work: Workload) -> list[str]:
    """A note if the model trains by `torch.func`, tried on two clients: workers would not tell."""
    clients = np.flatnonzero(work.data.sizes("train").numpy())[:2]
    if getattr(work.behaviour, "own_gradients", False) or not len(clients):
        return []
    once = np.ones(work.data.num_clients, dtype=np.int64)
    few = replace(work.training, batch_size=2, num_steps=once)
    cohort = Cohort(clients, work.data, work.model, few, work.seed, 0, {}, work.device)
    name, reason = type(work.model.module).__name__, tried(cohort)
    return [f"{name} trains by torch.func, correct but slower: {reason}."] if reason else []


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
        notes.append(f"{len(without)} clients have no test records: {shown}.")
    return tuple(notes)
