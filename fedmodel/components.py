"""The components that an experiment names, with their options checked; combinations without effect refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from flwr.serverapp.strategy import Strategy

from fedmodel.catalogue import KINDS, Catalogue, Component
from fedmodel.cohort.precision import unsupported
from fedmodel.config import AdaptiveClip, Config, Open, Targets
from fedmodel.errors import FedmodelError, say, shown
from fedmodel.evaluation.severity import KINDS as SEVERITIES
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


def _check_combinations(config: Config, bound: Components, source: Source) -> None:
    private = getattr(bound.client.function, "private", False)
    _check_unit(config, source, private=private)
    if config.privacy and config.privacy.unit == "record" and not private:
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
    if config.rounds == 0 and config.model.init is None:
        raise FedmodelError(
            "no round is trained, and there is no model to evaluate",
            where=source.where("rounds"),
            fix="Set rounds = 1 or more, or name a model: [model] init.",
        )
    if config.rounds == 0 and (config.privacy or config.evaluation.references):
        raise FedmodelError(
            "nothing is trained in 0 rounds, so neither [privacy] nor references have an effect",
            where=source.where("rounds"),
            fix="Drop them, or set rounds = 1 or more.",
        )
    fitting = {"encode", "ranges"} & config.data.model_fields_set
    if config.data.encoder is not None and fitting:
        raise FedmodelError(
            f"nothing is fitted where `encoder` names one, so `{min(fitting)}` has no effect",
            where=source.where("data", min(fitting)),
            fix="Drop one of them.",
        )
    if config.privacy and bound.client.options.get("class_weights") == "balanced":
        raise FedmodelError(
            "balanced class weights are made of the clients' label counts, which [privacy] protects",
            where=source.where("client", "class_weights"),
            fix="Give numbers that are known otherwise, e.g. class_weights = [1.0, 4.0].",
        )
    references = config.evaluation.references
    if "non_private" in references and not config.privacy:
        raise FedmodelError(
            "the reference `non_private` is this run itself: there is no [privacy]",
            where=source.where("evaluation", "references", references.index("non_private")),
            fix="Drop it from `references`.",
        )
    _check_encoding(config, source)
    _check_evaluation(config, source)
    if config.engine.address and config.engine.name != "ray":
        raise FedmodelError(
            f"`address` has no effect on engine {config.engine.name!r}",
            where=source.where("engine", "address"),
            fix='Use [engine] name = "ray", or drop it.',
        )
    _check_device(config, bound, source)
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


def _check_encoding(config: Config, source: Source) -> None:
    """Noised scales need a budget, and noise that a resumed run draws again."""
    privacy, private = config.privacy, config.data.encode == "private"
    given = privacy is not None and privacy.encoding_epsilon is not None
    if given and not private:
        raise FedmodelError(
            "`encoding_epsilon` has no effect: the scales of features are not noised",
            where=source.where("privacy", "encoding_epsilon"),
            fix='Use [data] encode = "private", or drop it.',
        )
    if not private:
        return
    where = source.where("data", "encode")
    if privacy is None or privacy.unit == "client":
        raise FedmodelError(
            'encode = "private" has no budget to be charged to: there is no [privacy]'
            if privacy is None
            else 'encode = "private" noises what single records change, and unit = "client" protects '
            "all records of a client",
            where=where,
            fix='Use encode = "public", which reads no record.',
        )
    if privacy.encoding_epsilon is None:
        raise FedmodelError(
            'encode = "private" does not say what it may cost',
            where=where,
            fix="Add to [privacy] a part of the budget, e.g. encoding_epsilon = 0.3.",
        )
    if privacy.noise == "secure":
        raise FedmodelError(
            'encode = "private" is drawn whenever the data is read, which secure noise would not repeat',
            where=source.where("privacy", "noise"),
            fix='Use encode = "public", or noise = "seeded".',
        )


def _check_evaluation(config: Config, source: Source) -> None:
    """What noised counts must not be told together with, and keys that mean nothing without noise."""
    evaluation = config.evaluation
    where = partial(source.where, "evaluation")
    if evaluation.epsilon is not None and evaluation.noise_multiplier is not None:
        raise FedmodelError(
            "[evaluation] has both epsilon and noise_multiplier",
            where=where("noise_multiplier"),
            fix="Drop one of them: `epsilon` calibrates the noise on counts, `noise_multiplier` sets it.",
        )
    severity = evaluation.severity
    if severity is not None:
        if not any(getattr(severity, kind) for kind in SEVERITIES):
            raise FedmodelError(
                "[evaluation.severity] names no levels",
                where=source.where("evaluation", "severity"),
                fix="Add e.g. feature_noise = [0.1, 0.5, 1.0], missing_features or typos.",
            )
        if severity.every is not None and severity.every % evaluation.every:
            raise FedmodelError(
                f"worse records are tried every {severity.every} rounds, and rounds are evaluated every "
                f"{evaluation.every}",
                where=source.where("evaluation", "severity", "every"),
                fix=f"Choose a multiple of {evaluation.every}.",
            )
    if evaluation.threshold_by is not None and evaluation.threshold != "validation":
        raise FedmodelError(
            "`threshold_by` has no effect: no threshold is chosen",
            where=where("threshold_by"),
            fix='Add threshold = "validation", or drop it.',
        )
    if evaluation.threshold == "validation" and evaluation.private:
        raise FedmodelError(
            "noised counts have no histogram of scores to choose a threshold on",
            where=where("threshold"),
            fix="Give a number, e.g. threshold = 0.3, or leave the evaluation without noise.",
        )
    if not evaluation.private:
        for key in ("delta", "noise"):
            if getattr(evaluation, key) is not None:
                raise FedmodelError(
                    f"`{key}` has no effect: the evaluation counts are not noised",
                    where=where(key),
                    fix="Add e.g. epsilon = 1.0 to [evaluation], or drop it.",
                )
    elif evaluation.severity is not None:
        raise FedmodelError(
            "counts of worse records would be answers beyond those that [evaluation] noises and counts",
            where=source.where("evaluation", "severity"),
            fix="Drop [evaluation.severity], or try it in a run of its own without noise on counts.",
        )
    elif evaluation.references:
        raise FedmodelError(
            "references would let out the exact counts of records that [evaluation] protects",
            where=where("references"),
            fix="Drop `references`, or train them in a run of their own without noise on counts.",
        )


def _check_device(config: Config, bound: Components, source: Source) -> None:
    engine, devices = config.engine, _cuda_devices()
    if engine.device not in ("cpu", *devices):
        raise FedmodelError(
            f"this machine has no device {shown(engine.device)}",
            where=source.where("engine", "device"),
            fix=f'Use device = "cpu"{"".join(f" or {shown(d)}" for d in devices)}. Supported are the '
            "CPU and the NVIDIA GPUs that torch finds.",
        )
    if engine.device not in ("cpu", "cuda") and engine.name != "inline":
        raise FedmodelError(
            f"engine {engine.name!r} gives each worker its GPU, so it cannot be {shown(engine.device)}",
            where=source.where("engine", "device"),
            fix='Use device = "cuda"; CUDA_VISIBLE_DEVICES says which GPUs there are.',
        )
    if reason := unsupported(engine.precision, engine.device):
        raise FedmodelError(
            reason,
            where=source.where("engine", "precision"),
            fix='Use precision = "float32", or another device.',
        )
    if engine.precision != "float32" and getattr(bound.client.function, "own_gradients", False):
        raise FedmodelError(
            f"`precision` has no effect on {config.client.name}, which takes gradients by itself",
            where=source.where("engine", "precision"),
            fix="Drop it, or use another client behaviour.",
        )


def _check_unit(config: Config, source: Source, *, private: bool) -> None:
    """What each unit and mode of [privacy] must not be told together with."""
    privacy = config.privacy
    if privacy is None:
        return
    where = partial(source.where, "privacy")
    if privacy.unit == "record":
        if privacy.mode is not None:
            raise FedmodelError(
                f"mode = {shown(privacy.mode)} has no effect on records: each client noises its own "
                "gradients",
                where=where("mode"),
                fix='Drop `mode`, or protect whole clients: unit = "client".',
            )
        if isinstance(privacy.clip, AdaptiveClip):
            raise FedmodelError(
                "the bound of single records does not adapt",
                where=where("clip"),
                fix="Give a number, e.g. clip = 1.0.",
            )
        return
    if isinstance(privacy.epsilon, Targets) or privacy.epsilon_column is not None:
        raise FedmodelError(
            "whole clients share one noise, so they cannot have targets of their own",
            where=where("epsilon" if privacy.epsilon_column is None else "epsilon_column"),
            fix='Give one number, e.g. epsilon = 3.0, or use unit = "record".',
        )
    if privacy.mode is None:
        raise FedmodelError(
            'unit = "client" does not say who adds the noise',
            where=where("unit"),
            fix='Add mode = "central" (a trusted server), mode = "local" (each client) or mode = '
            '"distributed" (all clients together, under secure aggregation).',
        )
    if private:
        raise FedmodelError(
            f'{config.client.name} noises gradients of records, which unit = "client" neither needs '
            "nor accounts for",
            where=source.where("client", "name"),
            fix='Use [client] name = "sgd", or unit = "record".',
        )
    if privacy.mode == "central" and privacy.participations is not None:
        raise FedmodelError(
            '`participations` has no effect on mode = "central": every round counts for every client',
            where=where("participations"),
            fix="Drop it; `rounds` says how many there are.",
        )
    if privacy.mode != "central" and isinstance(privacy.clip, AdaptiveClip):
        raise FedmodelError(
            "a client's own bound does not adapt: the norms of the others stay with them",
            where=where("clip"),
            fix='Give a number, e.g. clip = 1.0, or use mode = "central".',
        )


def _cuda_devices() -> tuple[str, ...]:
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ("cuda", *(f"cuda:{n}" for n in range(number))) if number else ()
