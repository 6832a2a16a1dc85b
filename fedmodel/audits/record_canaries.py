"""Canaries among the records of clients: gradients that the server sees, labels that a model learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fedmodel.apps import Workload
from fedmodel.audits.guessing import Scored, standardised
from fedmodel.audits.planting import GradientCanaries, RecordCanaries, coins, mislabelled
from fedmodel.audits.retraining import averaged, parts_of, retrained, weights_of
from fedmodel.audits.watching import log_odds
from fedmodel.cohort import Cohort
from fedmodel.errors import FedmodelError
from fedmodel.randomness import SERVER, stream
from fedmodel.training import Trained, train_cohort

__all__ = ["black_box", "white_box"]


def white_box(work: Workload, *, rounds: int, number: int) -> Scored | None:
    """Gradient canaries at all clients, scored by the updates; None where none was taken up.

    Under secure aggregation they are scored by the sum of the updates: so no two clients have
    canaries along the same coordinate.
    """
    clients, size, summed = work.data.num_clients, work.model.size, work.secure is not None
    everybody, planned = np.arange(clients), rounds * work.training.num_steps
    width = min(number * clients if summed else number, size)
    places = stream(work.seed, SERVER, 0, "canary coordinates").permutation(size)[:width]
    own = np.ones((clients, width), dtype=bool)
    if summed:
        own = everybody[:, None] == np.arange(width) % clients
    drawn = [coins(work.seed, int(k), width, "gradient coins") for k in everybody]
    planted: dict[str, Any] = {
        "inside": np.stack(drawn) & own,
        "coordinates": np.sort(places),
        "used": np.zeros(clients, dtype=np.int64),
    }

    def cohort(round: int) -> Cohort:
        return GradientCanaries(*parts_of(work, everybody, round), **planted)

    quiet = replace(work, training=_quiet(work), seed=work.seed ^ 1)
    score, steps = np.zeros((clients, width)), np.zeros(clients, dtype=np.int64)
    for start, trained, round in _train(work, cohort, rounds):
        expected = train_cohort(work.behaviour, Cohort(*parts_of(quiet, everybody, round)), start)
        seen = trained.delta - expected.delta
        if summed:
            mean = averaged(start, trained.delta, work, round=round) - start
            seen = (mean - weights_of(work).to(mean) @ expected.delta)[None]
        # Training goes against gradients.
        score -= seen[:, planted["coordinates"]].double().cpu().numpy()
        steps += trained.noise_steps
    if (planted["used"] < planned).any():
        return None
    chosen = own & (planned > 0)[:, None]
    client = np.nonzero(chosen)[0]
    return Scored(
        standardised(score[chosen], client),
        planted["inside"][chosen],
        client,
        _histories(work, steps),
    )


def black_box(work: Workload, *, rounds: int, share: float, most: int) -> Scored:
    """Mislabelled records at all clients, scored by the final model's loss on them.

    Secure aggregation is left out: it only rounds what is averaged.

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
    planted = replace(work, data=data, secure=None)
    quiet = replace(planted, training=_quiet(work))

    def final(work: Workload, absent: np.ndarray) -> tuple[Tensor, np.ndarray]:
        out = np.zeros(len(data.y), dtype=bool)
        out[rows[absent]] = True
        steps = np.zeros(data.num_clients, dtype=np.int64)

        def cohort(round: int) -> Cohort:
            return RecordCanaries(*parts_of(work, everybody, round), absent=out)

        vector = work.model.initial
        for start, trained, round in _train(work, cohort, rounds):
            steps += trained.noise_steps
            vector = averaged(start, trained.delta, work, round=round)
        vector = vector.cpu()
        return log_odds(work.model.predict(vector, data.x[rows]), data.y[rows]), steps

    with_canaries, steps = final(planted, ~inside)
    without, _ = final(quiet, np.ones(len(rows), dtype=bool))
    score = (with_canaries - without).double().numpy()
    histories = _histories(planted, steps)
    return Scored(standardised(score, client), inside, client, histories)


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
        trained = retrained(work, cohort(round), start)
        yield start, trained, round
        start = averaged(start, trained.delta, work, round=round)


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
