"""The components that an experiment names, with their options checked; combinations without effect refused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from flwr.serverapp.strategy import Strategy

from fedmodel.catalogue import KINDS, Catalogue, Component
from fedmodel.config import Config, Open, Targets
from fedmodel.errors import FedmodelError, say, shown
from fedmodel.privacy.targets import check_targets
from fedmodel.source import Source

__all__ = ["Components", "bind"]


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
    target: Component | None = None  # a rule for each client's epsilon


def bind(config: Config, source: Source) -> Components:
    """Find every component and check its options against its signature.

    Raises:
        FedmodelError: an unknown name or option, a wrong type, or a combination without effect.
    """

    def one(kind: str, section: Open, name: str) -> Component:
        fixed = set(type(section).model_fields) - {"name"}
        where = partial(source.where, name)
        return KINDS[kind].bind(section.spec, base=source.base, where=where, fixed=fixed)

    metrics = [
        KINDS["metric"].bind(
            spec, base=source.base, where=partial(source.where, "evaluation", "metrics", number)
        )
        for number, spec in enumerate(config.evaluation.metrics)
    ]
    bound = Components(
        data=one("dataset", config.data, "data"),
        partition=one("partitioner", config.partition, "partition"),
        model=one("model", config.model, "model"),
        client=one("client", config.client, "client"),
        strategy=one("strategy", config.strategy, "strategy"),
        attack=one("attack", config.attack, "attack") if config.attack else None,
        metrics={metric.name.rpartition(":")[2]: metric for metric in metrics},
        target=_target(config, source),
    )
    _check_combinations(config, bound, source)
    return bound


def _target(config: Config, source: Source) -> Component | None:
    """The rule for each client's epsilon, and whether the table that holds it makes sense."""
    spec = config.privacy.epsilon if config.privacy else None
    if not isinstance(spec, Targets):
        return None
    try:
        check_targets(spec)
    except FedmodelError as error:
        error.where = source.place(error.where)
        raise
    if spec.rule is None:
        return None
    where = partial(source.where, "privacy", "epsilon", "rule")
    rules = Catalogue("rule for epsilon", reserved=("sizes",))
    return rules.bind(spec.rule, base=source.base, where=where)


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
    if config.privacy:
        ways = ("epsilon", "epsilon_column", "noise_multiplier")
        given = [way for way in ways if getattr(config.privacy, way) is not None]
        if len(given) != 1:
            have = ("none", "", "both", "all")[len(given)]
            raise FedmodelError(
                f"[privacy] needs one of {say(ways)}, not {have}",
                where=source.where("privacy", *given[-1:]),
                fix=("Drop one of them" if given else "Add e.g. epsilon = 3.0")
                + ": `epsilon` calibrates each client's noise, `noise_multiplier` sets it.",
            )
    references = config.evaluation.references
    if "non_private" in references and not config.privacy:
        raise FedmodelError(
            "the reference `non_private` is this run itself: there is no [privacy]",
            where=source.where("evaluation", "references", references.index("non_private")),
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
    if config.engine.device not in ("cpu", *_cuda_devices()):
        raise FedmodelError(
            f"this machine has no device {shown(config.engine.device)}",
            where=source.where("engine", "device"),
            fix=f'Use device = "cpu"{"".join(f" or {shown(d)}" for d in _cuda_devices())}.',
        )
    function = bound.strategy.function
    if config.privacy and "train_loss_key" in KINDS["strategy"].schema(function):
        raise FedmodelError(
            f"{config.strategy.name} weighs clients by their training loss, which a private client "
            "keeps to itself",
            where=source.where("strategy", "name"),
            fix="Use another strategy, or drop [privacy].",
        )
    if not isinstance(function, type):
        return
    if not issubclass(function, Strategy):
        raise FedmodelError(
            f"{config.strategy.name} is not a flwr.serverapp.strategy.Strategy",
            where=source.where("strategy", "name"),
            fix='Use e.g. name = "compose", or a class that inherits from Flower\'s Strategy.',
        )
    if function.start is not Strategy.start:
        raise FedmodelError(
            f"{config.strategy.name} brings a round loop of its own (`start`)",
            where=source.where("strategy", "name"),
            fix="Run it with fedmodel.run_app(server_app, client_app, ...).",
        )


def _cuda_devices() -> tuple[str, ...]:
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ("cuda", *(f"cuda:{n}" for n in range(number))) if number else ()
