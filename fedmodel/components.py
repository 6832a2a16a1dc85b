"""The components that an experiment names, with their options checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from fedmodel.catalogue import KINDS, Catalogue, Component
from fedmodel.combinations import check_class_weights, check_combinations
from fedmodel.config import Config, Open, Targets
from fedmodel.errors import FedmodelError
from fedmodel.privacy.targets import check_targets
from fedmodel.scheduling import check_schedule
from fedmodel.source import Source
from fedmodel.summable import check_mode, check_summable

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
    schedule: Component | None = None  # of the clients' learning rate


def bind(config: Config, source: Source) -> Components:
    """Find every component and check its options against its signature.

    Raises:
        FedmodelError: an unknown name or option, a wrong type, or a combination without effect.
    """
    check_class_weights(config, source)

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
    check_combinations(config, source, client=bound.client, strategy=bound.strategy)
    bound = replace(bound, schedule=_schedules(config, bound, source))
    if config.secure_aggregation:
        check_summable(config, bound.strategy, bound.attack, source)
    check_mode(config, bound.strategy, source)
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
    rules = Catalogue("rule for epsilon", data=("sizes",))
    return rules.bind(spec.rule, base=source.base, where=where)


def _schedules(config: Config, bound: Components, source: Source) -> Component | None:
    """The schedule of the clients' learning rate; the server's is checked on the way."""
    rounds, specs = config.rounds, (config.strategy.spec.get("schedule"), config.client.schedule)
    if specs[0] is not None and "schedule" in bound.strategy.options:
        check_schedule(specs[0], "strategy", bound.strategy, source, rounds=rounds)
    if specs[1] is None:
        return None
    return check_schedule(specs[1], "client", bound.client, source, rounds=rounds)
