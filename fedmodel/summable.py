"""What can do with the sum of the updates, and what needs every single one."""

from __future__ import annotations

from typing import Any

from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi

from fedmodel.catalogue import Component
from fedmodel.config import Config
from fedmodel.errors import FedmodelError
from fedmodel.source import Source
from fedmodel.strategies.averaging import mean
from fedmodel.strategies.compose import compose
from fedmodel.strategies.weighting import by_records, equal

__all__ = ["check_mode", "check_summable", "needs_sums_only", "weighs_by_records"]

# Flower's strategies that do nothing with replies but average them by `num-examples`.
AVERAGING = (FedAvg, FedAvgM, FedProx, FedAdam, FedYogi, FedAdagrad)
SEEN = "secure aggregation lets the server see the sum of the updates only"


def check_summable(
    config: Config, strategy: Component, attack: Component | None, source: Source
) -> None:
    """Refuse what would need to see single updates.

    Raises:
        FedmodelError: an order statistic, a transform or a weighting of single updates, a strategy
            that is not known to average, an omniscient attack, or a second question to a client.
    """
    _check_strategy(config, strategy, source)
    if attack is not None and attack.asks_for("honest"):
        raise FedmodelError(
            f"{SEEN}, and {attack.name} replaces updates after it has seen the honest ones",
            where=source.where("attack", "name"),
            fix='Use an attack that each attacker makes alone, e.g. name = "sign_flip".',
        )
    if config.engine.on_failure == "retry" and "on_failure" in config.engine.model_fields_set:
        raise FedmodelError(
            "under secure aggregation no client is asked twice in a round: the difference of two "
            "vectors under the same masks would be seen",
            where=source.where("engine", "on_failure"),
            fix='Use "drop", which is what happens without `on_failure`, or "abort".',
        )


def needs_sums_only(config: Config, strategy: Component, attack: Component | None) -> bool:
    """Whether a round needs no more of the updates than their weighted sum."""
    if config.privacy is not None and config.privacy.mode == "central":
        return False
    try:
        _check_strategy(config, strategy, Source(None, ""))
    except FedmodelError:
        return False
    return attack is None or not attack.asks_for("honest")


def check_mode(config: Config, strategy: Component, source: Source) -> None:
    """Refuse a mode of client-level privacy and a way of gathering that do not go together.

    Raises:
        FedmodelError: noise for a sum that is not the only thing seen, or by who sees no updates.
    """
    privacy, secure = config.privacy, config.secure_aggregation
    if privacy is None or privacy.mode is None:
        return
    if privacy.mode == "central" and secure is not None:
        raise FedmodelError(
            f'{SEEN}, and mode = "central" lets the server clip every single one',
            where=source.where("privacy", "mode"),
            fix='Use mode = "distributed", or drop [secure_aggregation].',
        )
    if privacy.mode != "distributed":
        return
    if secure is None:
        raise FedmodelError(
            'mode = "distributed" protects sums, and without secure aggregation the server sees every '
            "single update",
            where=source.where("privacy", "mode"),
            fix='Add a table [secure_aggregation], or use mode = "local".',
        )
    if privacy.accountant != "rdp":
        raise FedmodelError(
            f"{privacy.accountant.upper()} has no bound for the sum of discrete Gaussians",
            where=source.where("privacy", "accountant"),
            fix='Add accountant = "rdp" to [privacy].',
        )
    for key in ("bound", "bits"):
        if key in secure.model_fields_set:
            raise FedmodelError(
                f'`{key}` follows from clip and noise under mode = "distributed"',
                where=source.where("secure_aggregation", key),
                fix="Drop it.",
            )
    if strategy.function is compose and weighs_by_records(strategy):
        raise FedmodelError(
            "the number of a client's records is protected as well, so it cannot weigh its update",
            where=source.where("strategy", "weigh"),
            fix='Use [strategy] weigh = "equal".',
        )
    if strategy.options.get("sampling") == "poisson":
        raise FedmodelError(
            "each client's noise is made for a number of clients, which Poisson sampling leaves open",
            where=source.where("strategy", "sampling"),
            fix='Drop `sampling`: mode = "distributed" gains nothing by it.',
        )


def weighs_by_records(strategy: Component) -> bool:
    """Whether a client counts by its records (else all the same), as the strategy would have it."""
    return _function(strategy.options.get("weigh")) is not equal


def _check_strategy(config: Config, strategy: Component, source: Source) -> None:
    function, options = strategy.function, dict(strategy.options)
    if function is compose:
        _check_compose(options, source)
    elif function not in AVERAGING:
        raise FedmodelError(
            f"{SEEN}, and {config.strategy.name} is not known to do with that",
            where=source.where("strategy", "name"),
            fix='Use name = "compose", or Flower\'s '
            f"{', '.join(kind.__name__ for kind in AVERAGING)}.",
        )
    elif options.get("weighted_by_key", "num-examples") != "num-examples":
        raise FedmodelError(
            f"{SEEN}, weighted by records, so `weighted_by_key` has no effect",
            where=source.where("strategy", "weighted_by_key"),
            fix="Drop it.",
        )


def _check_compose(options: dict[str, Any], source: Source) -> None:
    combine = options.get("combine")
    if combine is not None and _function(combine) is not mean:
        raise FedmodelError(
            f"{SEEN}, and {_name(combine)} needs every single one",
            where=source.where("strategy", "combine"),
            fix='Use combine = "mean", or drop [secure_aggregation].',
        )
    if options.get("before"):
        raise FedmodelError(
            f"{SEEN}, and {_name(options['before'][0])} acts on every single one",
            where=source.where("strategy", "before"),
            fix="Drop `before`: clients cut their own values to [secure_aggregation] bound.",
        )
    weigh = options.get("weigh")
    if weigh is not None and _function(weigh) not in (by_records, equal):
        raise FedmodelError(
            f"{SEEN}, and {_name(weigh)} weighs clients by what each reports",
            where=source.where("strategy", "weigh"),
            fix='Use weigh = "by_records" or "equal".',
        )


def _function(part: Any) -> Any:
    return getattr(part, "function", part)


def _name(part: Any) -> str:
    return getattr(part, "name", getattr(part, "__name__", repr(part)))
