"""The canary audit: one run says how private training is at best."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pandas import DataFrame, concat
from pydantic import Field, PositiveFloat, PositiveInt

from fedmodel.audits.canaries_section import Claim, section
from fedmodel.audits.client_canaries import central, distributed, local, room
from fedmodel.audits.finding import Finding
from fedmodel.audits.guessing import Bound, Scored, best_bound
from fedmodel.audits.record_canaries import black_box, white_box
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy.updates import LocalRelease
from fedmodel.secure.server import FEWEST
from fedmodel.secured import noised_plan
from fedmodel.strategies.compose import compose

__all__ = ["canaries"]

DELTA = 1e-5  # at most, by default: it leaves room for 10,000 canaries
MOST, SHARE = 10_000, 0.2
BOXES = ("white-box", "black-box")
Share = Annotated[float, Field(gt=0, lt=1)]
Found = tuple[dict[str, Scored], list[str]]  # by what the adversary sees; notes


def canaries(
    experiment: Experiment,
    *,
    gradients: PositiveInt = MOST,
    records: Share = SHARE,
    clients: PositiveInt = MOST,
    significance: Share = 0.05,
    delta: Share | None = None,
    claimed: PositiveFloat | None = None,
) -> Finding:
    """Plant canaries by fair coins, train once, guess the coins: a lower bound on epsilon.

    Where records are protected, or nothing is:

    1. White-box: at most `gradients` canaries at each client, a gradient along one coordinate
       each. The server sees every update, subtracts what the client's records would do without
       noise, and scores a canary by the update along its coordinate.
    2. Black-box: mislabelled records, `records` times as many as training records, scored by the
       final model's loss on them, less that of a federation trained without canaries or noise.

    Where clients are protected (``unit = "client"``), at most `clients` canaries are clients
    (`fedmodel.audits.client_canaries`).

    The most confident guesses of all canaries bound epsilon from below (`epsilon_lower_bound`);
    where there are two bounds, both hold together with a chance of at least 1 - `significance`.

    A delta lets that share of canaries be given away outright, so there are at most 1 / (10 delta)
    canaries in all. So the test is at a small `delta` (default 1e-5, or the experiment's where
    that is smaller), for which the accountant gives an epsilon as for any other. A figure that is
    `claimed` holds at the experiment's delta, unless another is given.

    Each client trains in as many rounds as it planned for. For records plain averaging stands in
    for the strategy: what a server does with updates changes no guarantee. The bound is held
    against `claimed`, by default the accountant's epsilon of the client that spent most. Clients'
    records are disjoint, so what holds for each holds for the canaries of all.

    Steinke, Nasr and Jagielski, NeurIPS 2023, Algorithm 1.

    Raises:
        FedmodelError: no client has room for a canary; an option that has no effect; a mechanism
            that cannot be watched.
    """
    config = experiment.config
    private = config.privacy
    by_client = private is not None and private.unit == "client"
    _check_options(by_client, gradients=gradients, records=records, clients=clients)
    if private is None and config.secure_aggregation is not None:
        raise FedmodelError(
            "secure aggregation alone promises no epsilon: the sum may give anything away, and there "
            "is nothing to hold a bound against",
            where="[secure_aggregation]",
            fix='Add [privacy], e.g. unit = "client" with mode = "distributed"; or audit without it.',
        )
    stated = private.delta if private else DELTA
    delta = delta or (stated if claimed else min(DELTA, stated))
    most = max(1, int(1 / (10 * delta)))
    if by_client:
        found, notes = _of_clients(experiment, number=min(clients, most))
    else:
        found, notes = _of_records(experiment, gradients=gradients, records=records, most=most)
    bounds = {
        name: best_bound(s.score, s.inside, delta=delta, significance=significance / len(found))
        for name, s in found.items()
    }
    accountant = private.accountant if private else "prv"
    upper = max(scored.epsilon(delta, accountant) for scored in found.values())
    limit = claimed or upper
    lower = max(bound.epsilon for bound in bounds.values())
    notes = [*_notes(lower, limit, bounds, delta), *notes]
    return Finding(
        name="canaries",
        figures={
            "epsilon_lower": lower,
            "epsilon_upper": upper,
            "epsilon_claimed": limit,
            **{
                f"epsilon_lower_{name.replace('-', '_')}": bounds[name].epsilon
                if name in bounds
                else math.nan
                for name in (() if by_client else BOXES)
            },
            "delta": delta,
            "refuted": float(lower > limit),
        },
        section=section(
            bounds,
            {name: (s.score, s.inside) for name, s in found.items()},
            claim=Claim.of(experiment.built.plans),
            upper=upper,
            claimed=limit,
            delta=delta,
            significance=significance,
            notes=notes,
        ),
        tables={"canaries": concat([_table(n, s) for n, s in found.items()], ignore_index=True)},
        notes=notes,
    )


def _check_options(by_client: bool, *, gradients: int, records: float, clients: int) -> None:
    """Refuse canaries of a kind that is not planted."""
    given = {
        "gradients": gradients != MOST,
        "records": records != SHARE,
        "clients": clients != MOST,
    }
    for name in ("gradients", "records") if by_client else ("clients",):
        if given[name]:
            raise FedmodelError(
                f"`{name}` has no effect: "
                + ("whole clients are" if by_client else "no client is")
                + " protected here, so canaries are "
                + ("clients" if by_client else "gradients and records"),
                where=f"audit canaries, {name}",
                fix=f"Drop it, or set `{'clients' if by_client else 'gradients'}`.",
            )


def _of_records(experiment: Experiment, *, gradients: int, records: float, most: int) -> Found:
    config, work = experiment.config, experiment.built.workload
    rounds = config.rounds
    if config.privacy is not None:
        rounds = config.privacy.participations or config.rounds
    each = max(1, most // work.data.num_clients)  # canaries at each client
    found: dict[str, Scored] = {}
    notes = []
    experiment.say("canaries: in gradients")
    white = white_box(work, rounds=rounds, number=min(gradients, each))
    if white is not None:
        found["white-box"] = white
    else:
        notes.append(
            f"{config.client.name} does not take its gradients from `cohort.clipped_gradient_sum` or "
            "`cohort.mean_gradient`, so no canary could be planted among them."
        )
    if config.privacy is None:
        notes.append(
            "Without clipping no gradient is the largest: white-box canaries have the norm 1."
        )
    if work.secure is not None:
        notes.append(
            "The accountant's ε holds against a server that sees every update. Under secure "
            "aggregation it sees their sum, in which each canary has the noise of all clients around it."
        )
    experiment.say("canaries: in records")
    found["black-box"] = black_box(work, rounds=rounds, share=records, most=each)
    return found, notes


def _of_clients(experiment: Experiment, *, number: int) -> Found:
    """Canaries against the mechanism of the experiment's mode.

    Raises:
        FedmodelError: the strategy is not known to release nothing but what moves the model.
    """
    built, work = experiment.built, experiment.built.workload
    plans, strategy = built.plans, built.strategy
    assert plans is not None
    if isinstance(work.release, LocalRelease):
        experiment.say("canaries: clients that noise their own updates")
        found = {"single updates": local(work, work.release, plans, number=number)}
    elif work.secure is not None:
        experiment.say("canaries: clients whose noised updates are added up")
        fitting = room(number, work, plans)
        summed = max(FEWEST, work.data.num_clients + fitting)
        plan = noised_plan(
            experiment.config, plans, size=work.model.size, num_clients=summed, fewest=summed
        )
        found = {"sums of updates": distributed(work, plan, plans, number=fitting)}
    elif isinstance(strategy, compose):
        experiment.say("canaries: clients among those that the server draws")
        found = {"global models": central(work, strategy, plans, number=number)}
    else:
        raise FedmodelError(
            f"{type(strategy).__name__} is not known to move the model by the noised sum, from which "
            "canaries are told",
            where="[strategy] name",
            fix='Use name = "compose".',
        )
    planted = len(next(iter(found.values())).score)
    notes = []
    if planted < number:
        notes.append(
            f"There was room for {planted:,} of {number:,} canary clients: fewer show less. Parameters "
            "and rounds, and the share of clients that is asked, make room; memory limits it."
        )
    return found, notes


def _notes(lower: float, limit: float, bounds: dict[str, Bound], delta: float) -> list[str]:
    notes = []
    if lower > limit:
        notes.append(
            f"The claim is refuted: epsilon is at least {lower:.3g}, and {limit:.3g} was claimed. Look "
            "for noise that is missing, steps that are not charged, or records without clipping."
        )
    for name, bound in bounds.items():
        most = best_bound(
            np.arange(bound.canaries, 0, -1.0),
            np.arange(bound.canaries) < bound.canaries / 2,
            delta=delta,
            significance=bound.significance,
        ).epsilon
        if most < limit:
            notes.append(
                f"With {bound.canaries} canaries the {name} audit can show {most:.3g} at most, if every "
                "guess is right."
            )
    return notes


def _table(name: str, scored: Scored) -> DataFrame:
    return DataFrame(
        {"audit": name, "client": scored.client, "inside": scored.inside, "score": scored.score}
    )
