"""From a configuration to its parts: data, model, behaviour, plan, strategy. No loop, no arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.serverapp.strategy import Strategy

from fedmodel._flower import Layout
from fedmodel.apps import Workload
from fedmodel.catalogue import KINDS, Component, nearest
from fedmodel.cohort import FlatModel, LocalTraining
from fedmodel.config import Config, Source
from fedmodel.data.federate import federate
from fedmodel.errors import FedmodelError, plugin_fault
from fedmodel.privacy.budget import Budget, ClientPlans, plan, steps_per_round
from fedmodel.randomness import SERVER, stream
from fedmodel.types import FederatedData, Split

__all__ = ["Built", "Components", "bind", "build"]


@dataclass(frozen=True)
class Components:
    """Every component of an experiment with its options checked; no data loaded yet."""

    data: Component
    partition: Component
    model: Component
    client: Component
    strategy: Component
    attack: Component | None
    metrics: dict[str, Component]


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

    @property
    def layout(self) -> Layout:
        return Layout(self.model.names, self.model.shapes)


def bind(config: Config, source: Source) -> Components:
    """Find every component and check its options against its signature.

    Raises:
        FedmodelError: an unknown name or option, a wrong type, or a combination without effect.
    """

    def place(*section: str) -> Callable[[str | None], str]:
        return lambda key: source.where(*section, *(key.split(".") if key else ()))

    def one(kind: str, spec: Any, *section: str) -> Component:
        return KINDS[kind].bind(spec, base=source.base, where=place(*section))

    bound = Components(
        data=one("dataset", config.data.spec, "data"),
        partition=one("partitioner", config.partition.spec, "partition"),
        model=one("model", config.model.spec, "model"),
        client=one("client", config.client.spec, "client"),
        strategy=one("strategy", config.strategy.spec, "strategy"),
        attack=one("attack", config.attack.spec, "attack") if config.attack else None,
        metrics={
            component.name.rpartition(":")[2]: component
            for component in (
                one("metric", spec, "evaluation", "metrics") for spec in config.evaluation.metrics
            )
        },
    )
    _check_combinations(config, bound, source)
    return bound


def _check_combinations(config: Config, bound: Components, source: Source) -> None:
    private = getattr(bound.client.function, "private", False)
    if config.privacy and not private:
        raise FedmodelError(
            f"{config.client.name} adds no noise, so [privacy] has no effect",
            where=source.where("privacy"),
            fix='Use [client] name = "dp_sgd", or drop [privacy].',
        )
    if private and not config.privacy:
        raise FedmodelError(
            f"{config.client.name} needs to know what is promised, and there is no [privacy]",
            where=source.where("client", "name"),
            fix='Add [privacy] with e.g. epsilon = 3.0, or use [client] name = "sgd".',
        )
    if config.privacy and (config.privacy.epsilon is None) == (
        config.privacy.noise_multiplier is None
    ):
        both = config.privacy.epsilon is not None
        raise FedmodelError(
            f"[privacy] needs one of `epsilon` and `noise_multiplier`, not {'both' if both else 'none'}",
            where=source.where("privacy", *(["noise_multiplier"] if both else [])),
            fix="`epsilon` calibrates each client's noise; `noise_multiplier` sets it.",
        )
    if "non_private" in config.evaluation.references and not config.privacy:
        raise FedmodelError(
            "the reference `non_private` is this run itself: there is no [privacy]",
            where=source.where("evaluation", "references"),
            fix="Drop it from `references`.",
        )
    if config.engine.address and config.engine.name != "ray":
        raise FedmodelError(
            f"`address` has no effect on engine {config.engine.name!r}",
            where=source.where("engine", "address"),
            fix='Use [engine] name = "ray", or drop it.',
        )
    if config.engine.workers and config.engine.name == "inline":
        raise FedmodelError(
            "`workers` has no effect on engine 'inline', which is one process",
            where=source.where("engine", "workers"),
            fix='Use [engine] name = "ray", or drop it.',
        )
    if config.engine.device != "cpu" and not torch.cuda.is_available():
        raise FedmodelError(
            f"this machine has no device {config.engine.device!r}",
            where=source.where("engine", "device"),
            fix='Use device = "cpu".',
        )
    function = bound.strategy.function
    if config.privacy and "train_loss_key" in KINDS["strategy"].schema(function):
        raise FedmodelError(
            f"{config.strategy.name} weighs clients by their training loss, which a private client "
            "keeps to itself",
            where=source.where("strategy", "name"),
            fix="Use another strategy, or drop [privacy].",
        )
    if isinstance(function, type) and getattr(function, "start", None) is not Strategy.start:
        raise FedmodelError(
            f"{config.strategy.name} brings a round loop of its own (`start`)"
            if issubclass(function, Strategy)
            else f"{config.strategy.name} is no flwr.serverapp.strategy.Strategy",
            where=source.where("strategy", "name"),
            fix="Run it with fedmodel.run_app(server_app, client_app, ...).",
        )


def build(config: Config, source: Source) -> Built:
    """Load, partition, split and encode the data; make the model; plan the privacy.

    Raises:
        FedmodelError: what the user must mend, before anything runs.
    """
    bound = bind(config, source)
    records = _supplied(bound.data)
    assignment = _supplied(bound.partition, records, seed=config.seed)
    clean = federate(
        records,
        assignment,
        encode=config.data.encode,
        ranges=config.data.ranges,
        test=config.data.test,
        validation=config.data.validation,
        seed=config.seed,
    )
    dishonest = _dishonest(config, clean, source)
    data = _poisoned(bound.attack, clean, dishonest, config.seed)
    model = FlatModel(_model(bound.model, clean, config.seed))
    _check_model(model, clean, source)
    behaviour = bound.client()
    training, plans = _plan(config, behaviour, data)
    splits: tuple[Split, ...] = ("test",)
    if clean.sizes("validation").sum() > 0:
        splits = ("test", "validation")
    if clean.sizes("test").sum() == 0:
        raise FedmodelError(
            "no client has test records, so nothing can be evaluated",
            where=source.where("data", "test"),
            fix="Choose data.test > 0, or mark test records in the split column.",
        )
    strategy = _supplied(bound.strategy, seed=config.seed)
    _check_minimums(strategy, clean.num_clients, source)
    attack = bound.attack
    omniscient = attack if attack is not None and attack.asks_for("honest") else None
    own = attack if attack is not None and attack.asks_for("own") and omniscient is None else None
    workload = Workload(
        data=data,
        model=model,
        behaviour=behaviour,
        training=training,
        seed=config.seed,
        max_steps=np.asarray(plans.max_steps) if plans else None,
        attack=own,
        dishonest=dishonest,
        splits=splits,
        device=config.engine.device,
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
        notes=_notes(plans, strategy, clean),
    )


def _supplied(component: Component, *data: Any, **supplied: Any) -> Any:
    """Call a component; what a user's own function raises is told with its file and line."""
    try:
        return component(*data, **supplied)
    except FedmodelError:
        raise
    except Exception as error:
        raise FedmodelError(
            f"the {component.kind} {component.name} failed: {plugin_fault(error)}",
            fix="Check its options, or mend its code; `fedmodel check` tries a file of yours alone.",
        ) from error


def _model(component: Component, data: FederatedData, seed: int) -> torch.nn.Module:
    """The module with its initial parameters, drawn from the experiment's seed."""
    draw = stream(seed, SERVER, 0, "model")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(int(draw.integers(2**63)))
        made = _supplied(
            component,
            num_features=int(np.prod(data.x.shape[1:])),
            num_classes=len(data.classes),
            vocabulary=data.vocabulary,
        )
    if not isinstance(made, torch.nn.Module):
        raise FedmodelError(
            f"{component.name} returned {type(made).__name__}, not a torch.nn.Module",
            where="[model]",
        )
    return made


def _check_model(model: FlatModel, data: FederatedData, source: Source) -> None:
    try:
        answer = model.predict(model.initial, data.x[:2])
    except Exception as error:
        raise FedmodelError(
            f"the model cannot read these records {tuple(data.x.shape[1:])}: {plugin_fault(error)}",
            where=source.where("model"),
            fix="Models of tables take `num_features`, models of texts token ids and `vocabulary`.",
        ) from error
    if answer.dim() != 2 or answer.shape[1] != len(data.classes):
        raise FedmodelError(
            f"the model answers {tuple(answer.shape[1:])} numbers a record; "
            f"the data has {len(data.classes)} classes",
            where=source.where("model"),
            fix="Take `num_classes` as a keyword, or set the number of outputs.",
        )


def _plan(
    config: Config, behaviour: Any, data: FederatedData
) -> tuple[LocalTraining, ClientPlans | None]:
    sizes = data.sizes("train")
    batch_size = int(getattr(behaviour, "batch_size", 32))
    steps = getattr(behaviour, "steps", None)
    amount: dict[str, Any] = (
        {"steps": steps} if steps else {"epochs": getattr(behaviour, "epochs", 1.0)}
    )
    if config.privacy is None:
        number = steps_per_round(sizes, batch_size, **amount)
        return LocalTraining(batch_size=batch_size, num_steps=np.asarray(number)), None
    privacy = config.privacy
    budget = Budget(
        epsilon=privacy.epsilon,
        noise_multiplier=privacy.noise_multiplier,
        delta=privacy.delta,
        clip=privacy.clip,
        participations=privacy.participations or config.rounds,
        accountant=privacy.accountant,
        noise=privacy.noise,
    )
    plans = plan(budget, sizes=sizes, batch_size=batch_size, **amount)
    training = LocalTraining(
        batch_size=batch_size,
        num_steps=np.asarray(plans.steps),
        private=True,
        clip=budget.clip,
        noise_multiplier=np.asarray(plans.noise_multiplier),
        noise=budget.noise,
    )
    return training, plans


def _dishonest(config: Config, data: FederatedData, source: Source) -> np.ndarray | None:
    """The mask of attackers: the listed clients, or a share of all drawn from the seed."""
    if config.attack is None:
        return None
    chosen = config.attack.clients
    mask = np.zeros(data.num_clients, dtype=bool)
    if isinstance(chosen, list):
        for name in chosen:
            known = list(data.clients)
            if str(name) not in known:
                raise FedmodelError(
                    f"there is no client {name!r} to be an attacker",
                    where=source.where("attack", "clients"),
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
            where=source.where("attack", "clients"),
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
        y[rows] = attack(
            data.y[rows],
            num_classes=len(data.classes),
            generator=stream(seed, int(client), 0, "poison"),
        )
    return replace(data, y=y)


def _check_minimums(strategy: Strategy, num_clients: int, source: Source) -> None:
    """Flower's strategies wait for ever for clients that will never come."""
    for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes"):
        needed = getattr(strategy, name, 0)
        if needed > num_clients:
            raise FedmodelError(
                f"{type(strategy).__name__} waits for {needed} clients and there are {num_clients}",
                where=source.where("strategy", name),
                fix=f"Set {name} = {num_clients} or fewer.",
            )


def _notes(plans: ClientPlans | None, strategy: Strategy, data: FederatedData) -> tuple[str, ...]:
    notes = list(plans.warnings) if plans else []
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


def resolved_paths(raw: dict[str, Any], components: Components) -> dict[str, Any]:
    """The raw configuration with the data set's paths made absolute."""
    data = dict(raw["data"])
    for key, value in components.data.options.items():
        if isinstance(value, Path):
            data[key] = str(value.resolve())
    return {**raw, "data": data}
