"""How much each client trains in a round, and what that may cost: from sizes and configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.serverapp.strategy import Strategy

from fedmodel.cohort import LocalTraining
from fedmodel.config import AdaptiveClip, Config, Targets
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.severity import KINDS, Severity
from fedmodel.privacy.budget import Budget, ClientPlans, plan, steps_per_round
from fedmodel.privacy.client_level import plan_clients
from fedmodel.privacy.counts import CountNoise, count_noise
from fedmodel.privacy.encoding import EncodingNoise, encoding_noise
from fedmodel.strategies.client_privacy import protect
from fedmodel.types import FederatedData

__all__ = [
    "plan_encoding",
    "plan_evaluation",
    "plan_severity",
    "plan_training",
    "planned_evaluations",
    "protect_sums",
]


def plan_training(
    config: Config,
    behaviour: Any,
    data: FederatedData,
    *,
    asked: float = 1.0,
    targets: np.ndarray | None = None,
) -> tuple[LocalTraining, ClientPlans | None]:
    """How much each client trains, from its number of records, and within which privacy plan.

    `asked` is each client's chance to be asked in a round, where that counts as protection; `targets
    [K]` is each one's own epsilon.
    """
    sizes = data.sizes("train")
    batch_size = int(getattr(behaviour, "batch_size", 32))
    steps = getattr(behaviour, "steps", None)
    amount: dict[str, Any] = (
        {"steps": steps} if steps else {"epochs": getattr(behaviour, "epochs", 1.0)}
    )
    if config.privacy is None or config.privacy.unit == "client":
        number = steps_per_round(sizes, batch_size, **amount)
        training = LocalTraining(batch_size=batch_size, num_steps=np.asarray(number))
        if config.privacy is None:
            return training, None
        budget = _budget(config)
        return training, plan_clients(budget, num_clients=data.num_clients, sample_rate=asked)
    budget, privacy = _budget(config, targets), config.privacy
    limit = None if budget.epsilon is None or targets is None else float(targets.min())
    encoding = plan_encoding(config, limit=limit)
    try:
        plans = plan(
            budget,
            sizes=sizes,
            batch_size=batch_size,
            targets=targets,
            released=encoding.history if encoding else (),
            **amount,
        )
    except FedmodelError as error:
        error.where = (
            error.where or f"[privacy] epsilon{'_column' if privacy.epsilon_column else ''}"
        )
        raise
    training = LocalTraining(
        batch_size=batch_size,
        num_steps=np.asarray(plans.steps),
        private=True,
        clip=budget.clip,
        noise_multiplier=np.asarray(plans.noise_multiplier),
        noise=budget.noise,
    )
    return training, plans


def _budget(config: Config, targets: np.ndarray | None = None) -> Budget:
    privacy = config.privacy
    assert privacy is not None
    clip = privacy.clip
    epsilon = privacy.epsilon if targets is None else float(targets.max())
    assert not isinstance(epsilon, Targets)  # there are targets then
    return Budget(
        epsilon=epsilon,
        noise_multiplier=privacy.noise_multiplier,
        delta=privacy.delta,
        clip=clip.initial if isinstance(clip, AdaptiveClip) else clip,
        participations=privacy.participations or config.rounds,
        accountant=privacy.accountant,
        noise=privacy.noise,
        unit=privacy.unit,
        mode=privacy.mode,
    )


def plan_encoding(config: Config, *, limit: float | None = None) -> EncodingNoise | None:
    """The noise on the sums that scale features; `limit` is the smallest of the clients' own epsilons."""
    privacy = config.privacy
    if privacy is None or privacy.encoding_epsilon is None:
        return None
    one = None if isinstance(privacy.epsilon, Targets) else privacy.epsilon
    return encoding_noise(
        epsilon=privacy.encoding_epsilon,
        limit=one if limit is None else limit,
        delta=privacy.delta,
        accountant=privacy.accountant,
        seed=config.seed,
    )


def plan_evaluation(config: Config) -> CountNoise | None:
    """The noise on evaluation counts, for as many evaluations as the run will make."""
    evaluation = config.evaluation
    if not evaluation.private:
        return None
    try:
        return count_noise(
            epsilon=evaluation.epsilon,
            noise_multiplier=evaluation.noise_multiplier,
            delta=evaluation.delta or 1e-5,
            evaluations=planned_evaluations(config),
            seed=config.seed,
            noise=evaluation.noise or "seeded",
        )
    except FedmodelError as error:
        error.where = error.where or "[evaluation] epsilon"
        raise


def planned_evaluations(config: Config) -> int:
    """How often a run evaluates: after every so many rounds, before the first and after the last."""
    return 1 + -(-config.rounds // config.evaluation.every)


def plan_severity(config: Config, data: FederatedData) -> Severity | None:
    """What is done to test records, when; refused where it has no effect on these."""
    table = config.evaluation.severity
    if table is None:
        return None
    levels = {kind: tuple(given) for kind in KINDS if (given := getattr(table, kind))}
    severity = Severity(levels=levels, last=config.rounds, seed=config.seed, every=table.every)
    severity.check(data)
    return severity


def protect_sums(strategy: Strategy, config: Config) -> float:
    """Let the strategy noise its sums, where the server is to; each client's chance to be asked."""
    if config.privacy is None or config.privacy.mode != "central":
        return 1.0
    clip = config.privacy.clip
    adaptive = clip if isinstance(clip, AdaptiveClip) else None
    name = config.strategy.name
    return protect(strategy, _budget(config), name=name, adaptive=adaptive, seed=config.seed)
