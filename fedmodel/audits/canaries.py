"""The canary audit: one run says how private training is at best."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pandas import DataFrame, concat
from pydantic import Field, PositiveFloat, PositiveInt

from fedmodel.audits.canaries_section import section
from fedmodel.audits.finding import Finding
from fedmodel.audits.guessing import Bound, Scored, best_bound
from fedmodel.audits.record_canaries import black_box, white_box
from fedmodel.audits.scope import check_record_level
from fedmodel.experiment import Experiment

__all__ = ["canaries"]

DELTA = 1e-5  # at most, by default: it leaves room for 10,000 canaries
Share = Annotated[float, Field(gt=0, lt=1)]


def canaries(
    experiment: Experiment,
    *,
    gradients: PositiveInt = 10_000,
    records: Share = 0.2,
    significance: Share = 0.05,
    delta: Share | None = None,
    claimed: PositiveFloat | None = None,
) -> Finding:
    """Plant canaries by fair coins, train once, guess the coins: a lower bound on epsilon.

    1. White-box: at most `gradients` canaries at each client, a gradient along one coordinate
       each. The server sees every update, subtracts what the client's records would do without
       noise, and scores a canary by the update along its coordinate.
    2. Black-box: mislabelled records, `records` times as many as training records, scored by the
       final model's loss on them, less that of a federation trained without canaries or noise.
    3. The most confident guesses of all clients bound epsilon from below (`epsilon_lower_bound`);
       both bounds hold together with a chance of at least 1 - `significance`.

    A delta lets that share of canaries be given away outright, so there are at most 1 / (10 delta)
    canaries in all. So the test is at a small `delta` (default 1e-5, or the experiment's where
    that is smaller), for which the accountant gives an epsilon as for any other. A figure that is
    `claimed` holds at the experiment's delta, unless another is given.

    Each client trains in as many rounds as it planned for. Plain averaging stands in for the
    strategy: what a server does with updates changes no guarantee. The bound is held against
    `claimed`, by default the accountant's epsilon of the client that spent most. Clients' records
    are disjoint, so what holds for each holds for the canaries of all.

    Steinke, Nasr and Jagielski, NeurIPS 2023, Algorithm 1.

    Raises:
        FedmodelError: no client has room for a canary.
    """
    check_record_level(experiment)
    built, config = experiment.built, experiment.config
    rounds = config.rounds
    if config.privacy is not None:
        rounds = config.privacy.participations or config.rounds
    stated = config.privacy.delta if config.privacy else DELTA
    delta = delta or (stated if claimed else min(DELTA, stated))
    most = max(1, int(1 / (10 * delta)) // built.data.num_clients)  # canaries at each client
    accountant = config.privacy.accountant if config.privacy else "prv"
    found: dict[str, Scored] = {}
    notes = []
    experiment.say("canaries: in gradients")
    white = white_box(built.workload, rounds=rounds, number=min(gradients, most))
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
    experiment.say("canaries: in records")
    found["black-box"] = black_box(built.workload, rounds=rounds, share=records, most=most)
    bounds = {
        name: best_bound(s.score, s.inside, delta=delta, significance=significance / len(found))
        for name, s in found.items()
    }
    upper = max(scored.epsilon(delta, accountant) for scored in found.values())
    limit = claimed or upper
    lower = max(bound.epsilon for bound in bounds.values())
    notes += _notes(lower, limit, bounds, delta)
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
                for name in ("white-box", "black-box")
            },
            "delta": delta,
            "refuted": float(lower > limit),
        },
        section=section(
            bounds,
            {name: (s.score, s.inside) for name, s in found.items()},
            upper=upper,
            claimed=limit,
            delta=delta,
            significance=significance,
            notes=notes,
        ),
        tables={"canaries": concat([_table(n, s) for n, s in found.items()], ignore_index=True)},
        notes=notes,
    )


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
