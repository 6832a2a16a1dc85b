"""The canary audit: one run says how private training is at best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pandas import DataFrame, concat
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from fedmodel.apps import Workload
from fedmodel.audits.canaries_section import section
from fedmodel.audits.finding import Finding
from fedmodel.audits.guessing import Bound, best_bound, standardised
from fedmodel.audits.planting import GradientCanaries, RecordCanaries, coins, mislabelled
from fedmodel.audits.watching import log_odds
from fedmodel.cohort import Cohort
from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.experiment import Experiment
from fedmodel.privacy.accounting import epsilon_of_clients
from fedmodel.randomness import SERVER, stream
from fedmodel.training import Trained, train_cohort

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


@dataclass(frozen=True)
class Scored:
    """M canaries of all clients: their scores, coins and clients; and what each client spent."""

    score: Float[np.ndarray, " M"]
    inside: Bool[np.ndarray, " M"]
    client: Int[np.ndarray, " M"]
    histories: list[list[tuple[float, float, int]]]

    def epsilon(self, delta: float, accountant: str) -> float:
        """What the accountant says of the client that spent most; infinite without noise."""
        if not any(self.histories):
            return math.inf
        figures = epsilon_of_clients(self.histories, delta=delta, accountant=accountant)
        return max(figure.epsilon for figure in figures)


def white_box(work: Workload, *, rounds: int, number: int) -> Scored | None:
    """Gradient canaries at all clients, scored by the updates; None where none was taken up."""
    width = min(number, work.model.size)
    everybody = np.arange(work.data.num_clients)
    places = stream(work.seed, SERVER, 0, "canary coordinates").permutation(work.model.size)
    inside = np.stack([coins(work.seed, int(k), width, "gradient coins") for k in everybody])
    planted: dict[str, Any] = {
        "inside": inside,
        "coordinates": np.sort(places[:width]),
        "used": np.zeros(len(everybody), dtype=np.int64),
    }

    def cohort(round: int) -> Cohort:
        return GradientCanaries(*_cohort(work, everybody, round), **planted)

    quiet = replace(work, training=_quiet(work), seed=work.seed ^ 1)
    score = np.zeros((len(everybody), width))
    steps = np.zeros(len(everybody), dtype=np.int64)
    for start, trained, round in _train(work, cohort, rounds):
        expected = train_cohort(work.behaviour, Cohort(*_cohort(quiet, everybody, round)), start)
        update = (trained.delta - expected.delta)[:, planted["coordinates"]]
        score -= update.double().cpu().numpy()  # training goes against gradients
        steps += trained.noise_steps
    planned = rounds * work.training.num_steps
    if (planted["used"] < planned).any():
        return None
    trains = np.flatnonzero(planned)
    client = np.repeat(trains, width)
    return Scored(
        standardised(score[trains].ravel(), client),
        inside[trains].ravel(),
        client,
        _histories(work, steps),
    )


def black_box(work: Workload, *, rounds: int, share: float, most: int) -> Scored:
    """Mislabelled records at all clients, scored by the final model's loss on them.

    Raises:
        FedmodelError: no client has room for a canary.
    """
    data, rows, client = mislabelled(work.data, share=share, most=most, seed=work.seed)
    if not len(rows):
        raise FedmodelError(
            f"no client has {math.ceil(1 / share)} training records and a test record to mislabel",
            where="audit canaries, records",
            fix="Choose a larger share `records`, or keep more test records (data.test).",
        )
    inside = np.concatenate(
        [
            coins(work.seed, k, int((client == k).sum()), "record coins")
            for k in range(data.num_clients)
        ]
    )
    everybody = np.arange(data.num_clients)
    planted = replace(work, data=data)
    quiet = replace(planted, training=_quiet(work))

    def final(work: Workload, absent: np.ndarray) -> tuple[Tensor, np.ndarray]:
        out = np.zeros(len(data.y), dtype=bool)
        out[rows[absent]] = True
        steps = np.zeros(data.num_clients, dtype=np.int64)

        def cohort(round: int) -> Cohort:
            return RecordCanaries(*_cohort(work, everybody, round), absent=out)

        vector = work.model.initial
        for start, trained, _ in _train(work, cohort, rounds):
            steps += trained.noise_steps
            vector = _averaged(start, trained, work)
        vector = vector.cpu()
        return log_odds(work.model.predict(vector, data.x[rows]), data.y[rows]), steps

    with_canaries, steps = final(planted, ~inside)
    without, _ = final(quiet, np.ones(len(rows), dtype=bool))
    score = (with_canaries - without).double().numpy()
    histories = _histories(planted, steps)
    return Scored(standardised(score, client), inside, client, histories)


def _cohort(work: Workload, clients: np.ndarray, round: int) -> tuple[Any, ...]:
    return clients, work.data, work.model, work.training, work.seed, round, {}, work.device


def _quiet(work: Workload) -> Any:
    """The same training with the clip and without noise."""
    plan = work.training.noise_multiplier
    none = None if plan is None else np.zeros_like(plan)
    return replace(work.training, private=False, noise_multiplier=none)


def _train(
    work: Workload, cohort: Callable[[int], Cohort], rounds: int
) -> Iterator[tuple[Tensor, Trained, int]]:
    """Federated averaging over all clients: where each round started, and what came of it."""
    start = work.model.initial.to(work.device)
    for round in range(1, rounds + 1):
        trained = train_cohort(work.behaviour, cohort(round), start)
        for client, why in trained.failures.items():
            raise RunFailed(
                f"a client failed in round {round} of the audit",
                where=f"client {work.data.clients[client]}: {why}",
                fix="Mend the cause: an audit needs every client.",
            )
        yield start, trained, round
        start = _averaged(start, trained, work)


def _averaged(start: Tensor, trained: Trained, work: Workload) -> Tensor:
    weights = work.data.sizes("train").to(trained.delta)
    return start + (weights / weights.sum()) @ trained.delta


def _histories(work: Workload, steps: np.ndarray) -> list[list[tuple[float, float, int]]]:
    """What was drawn, client by client, as the accountants want it; empty without noise."""
    noise = work.training.noise_multiplier
    if not work.training.private or noise is None:
        return []
    sizes = work.data.sizes("train").numpy()
    rate = np.minimum(1.0, work.training.batch_size / np.maximum(sizes, 1))
    return [
        [(float(noise[k]), float(rate[k]), int(steps[k]))] for k in range(len(steps)) if steps[k]
    ]


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
