"""Everything that was released of a record, added up: training, scales, evaluations, several runs, tuning.

What was released is a table with one row for each client and kind of release:

- ``client``: its name; ``what``: "training", "feature scales" or "evaluation counts";
- ``records``: whose privacy it costs. "training" and "evaluation" records have ledgers apart, as each
  record is one or the other; with ``unit = "client"`` training costs the whole "client".
- ``noise_multiplier`` (standard deviation over sensitivity), ``sample_rate``, ``steps``: a history, as
  the accountants take it.

Histories are composed by one accountant; epsilons are never added. That is sound however later
releases depend on earlier ones, if the noise and the sample rate of each were fixed beforehand.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from fedmodel.errors import FedmodelError
from fedmodel.privacy.accounting import (
    Figure,
    History,
    epsilon_of_clients,
    epsilon_of_history,
    merge,
)
from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.checks import check_delta
from fedmodel.privacy.client_level import sensitivity
from fedmodel.privacy.rdp import ORDERS, convert, divergences
from fedmodel.privacy.wording import count, finite

__all__ = [
    "COLUMNS",
    "Sum",
    "add_up",
    "epsilon_of_tuning",
    "histories_of",
    "release_table",
    "sum_at",
]

COLUMNS = ("client", "records", "what", "noise_multiplier", "sample_rate", "steps")
COUNTED = {"training": "step", "evaluation counts": "time"}


def release_table(
    plans: ClientPlans | None,
    steps: Sequence[int],
    *,
    names: Sequence[str],
    evaluations: History = (),
) -> pd.DataFrame:
    """What K clients released: `steps` [K] of training by their plans, and the same `evaluations` each."""
    rows: list[tuple[str, str, str, float, float, int]] = []
    for client, name in enumerate(names):
        if plans is not None:
            whose = "client" if plans.budget.unit == "client" else "training"
            noise = float(plans.noise_multiplier[client]) / sensitivity(plans.budget)
            rows += [(name, whose, "feature scales", *entry) for entry in plans.released]
            if steps[client]:
                rate = float(plans.sample_rate[client])
                rows.append((name, whose, "training", noise, rate, int(steps[client])))
        rows += [(name, "evaluation", "evaluation counts", *entry) for entry in evaluations]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def histories_of(tables: Sequence[pd.DataFrame]) -> dict[str, list[tuple[float, float, int]]]:
    """The history of each client over all that these tables say was released of it."""
    histories: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for table in tables:
        columns = (table[column] for column in ("client", *COLUMNS[3:]))
        for client, noise, rate, steps in zip(*columns, strict=True):
            histories[client].append((float(noise), float(rate), int(steps)))
    return dict(histories)


def add_up(
    tables: Sequence[pd.DataFrame], *, delta: float, accountant: str = "prv"
) -> dict[str, Figure]:
    """Epsilon of each client over everything that these tables say was released of it.

    Select the rows that cost the same record first. Clients are told apart by their names.
    """
    histories = histories_of(tables)
    figures = epsilon_of_clients(list(histories.values()), delta=delta, accountant=accountant)
    return dict(zip(histories, figures, strict=True))


class Sum(NamedTuple):
    """Everything that was released of one client's records: each kind with what it costs alone, in JSON's
    values, and what they cost together, in sentences."""

    releases: tuple[dict[str, object], ...]
    sentences: tuple[str, ...]


def sum_at(table: pd.DataFrame, client: str, *, delta: float, accountant: str = "prv") -> Sum:
    """The sum for the records of one client, at one delta.

    A person with both a training and an evaluation record there loses what both ledgers cost
    together, which is said too; where whole clients are protected, counts that are noised for
    single records are not part of their sum.
    """
    own = table[table.client == client]
    histories: dict[tuple[str, str], list[tuple[float, float, int]]] = defaultdict(list)
    for row in own.itertuples(index=False):
        noise, rate, steps = map(float, row[3:])
        histories[str(row.records), str(row.what)].append((noise, rate, int(steps)))

    def cost(*kinds: tuple[str, str]) -> float:
        history = [entry for kind in kinds for entry in histories[kind]]
        return epsilon_of_history(history, delta=delta, accountant=accountant).epsilon

    releases: tuple[dict[str, object], ...] = tuple(
        {
            "records": records,
            "what": what,
            "history": [list(entry) for entry in history],
            "epsilon_alone": finite(cost((records, what))),
            "delta": delta,
        }
        for (records, what), history in histories.items()
    )
    sentences = []
    training = [kind for kind in histories if kind[0] == "training"]
    if len(training) > 1:
        told = " and ".join(
            f"{cost(kind):.3g} for {_named(kind, histories[kind])}" for kind in training
        )
        sentences.append(
            f"Released of a training record at client {client}, which spent most: epsilon would be "
            f"{told}, each alone; together it is {cost(*training):.3g}."
        )
    if training and (evaluated := [kind for kind in histories if kind[0] == "evaluation"]):
        sentences.append(
            f"A person with a training and an evaluation record at client {client} loses epsilon = "
            f"{cost(*training, *evaluated):.3g} at delta = {delta:g}, as both ledgers add up."
        )
    return Sum(releases, tuple(sentences))


def _named(kind: tuple[str, str], history: History) -> str:
    number = sum(steps for _, _, steps in history)
    return (
        kind[1]
        if kind[1] == "feature scales"
        else f"{count(number, COUNTED[kind[1]])} of {kind[1]}"
    )


def epsilon_of_tuning(
    history: History, *, trials: float, delta: float, shape: float = 1.0
) -> float:
    """Epsilon of the best of a random number of runs, each with this history; only it is published.

    Before anything runs the number of runs K is drawn from the truncated negative binomial distribution
    of that `shape` (1: geometric; 0: logarithmic) with mean `trials`; which run is best is judged by what
    each released. For Renyi divergence e(a) of one run, that of the best is at most

        e(a) + (1 + shape) min_b [(1 - 1 / b) e(b) + log(1 / gamma) / b] + log(trials) / (a - 1).

    Papernot and Steinke, "Hyperparameter tuning with Renyi differential privacy", ICLR 2022, Theorem 2.
    A fixed number of runs, all of them told, costs their composition: `add_up`.

    Raises:
        FedmodelError: fewer than one trial, a negative shape, or a value out of range.

    >>> round(epsilon_of_tuning([(2.0, 0.1, 100)], trials=10, delta=1e-5), 2)
    4.96
    """
    check_delta(delta)
    if not (trials >= 1 and shape >= 0 and math.isfinite(trials) and math.isfinite(shape)):
        raise FedmodelError(
            f"trials={trials} of shape={shape} are no distribution",
            fix="Give the mean number of runs, 1 or more, and a shape of 0 or more (1: geometric).",
        )
    settings, counts = merge(history)
    if not settings:
        return 0.0
    if any(noise == 0 for noise, _ in settings):
        return math.inf
    divergence = np.array([counts]) @ divergences(settings, ORDERS)
    gamma = _gamma(trials, shape)
    chosen = ((1 - 1 / ORDERS) * divergence - math.log(gamma) / ORDERS).min()
    best = divergence + (1 + shape) * chosen + math.log(trials) / (ORDERS - 1)
    return float(convert(best, delta=delta, orders=ORDERS)[0][0])


def _gamma(trials: float, shape: float) -> float:
    """The parameter with which the truncated negative binomial distribution has this mean."""
    if trials == 1:
        return 1.0

    def mean(log_gamma: float) -> float:
        gamma = math.exp(log_gamma)
        if shape == 0:
            return (1 / gamma - 1) / -log_gamma
        return shape * (1 - gamma) / (gamma * -math.expm1(shape * log_gamma))

    return math.exp(brentq(lambda x: math.log(mean(x) / trials), -700, -1e-12))
