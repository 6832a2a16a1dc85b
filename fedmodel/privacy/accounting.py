"""Epsilon of DP-SGD from its history: noise, sample rate and steps, of one client or of many.

A history is a sequence of (noise multiplier, sample rate, steps), as Opacus keeps it. Records are
drawn by Poisson sampling, neighbours differ by one record added or removed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from fedmodel.errors import FedmodelError
from fedmodel.privacy.checks import check_delta, check_setting
from fedmodel.privacy.contour import contour_epsilons
from fedmodel.privacy.gdp import gdp_epsilons
from fedmodel.privacy.prv import OutOfReachError, prv_epsilons
from fedmodel.privacy.rdp import rdp_epsilons

__all__ = [
    "ACCOUNTANTS",
    "Figure",
    "History",
    "check_accountant",
    "epsilon_curve",
    "epsilon_of",
    "epsilon_of_clients",
    "epsilon_of_history",
]

ACCOUNTANTS = {
    "prv": "privacy loss random variables: tight, an upper bound",
    "rdp": "Renyi divergences: an upper bound, 10 to 15 % looser",
    "gdp": "central limit theorem: an approximation that can understate epsilon",
}

EXACT_SETTINGS = 256  # for more distinct ones, PRV takes the quicker way of `contour`
MOST_NOISE = 1e12  # beyond it more noise changes no figure: this much is charged
COURSE = 4  # step counts at one setting, beyond which they are a course over rounds
History = Sequence[tuple[float, float, int]]  # (noise multiplier, sample rate, steps)
Settings = tuple[tuple[float, float], ...]  # (noise multiplier, sample rate), sorted


class Figure(NamedTuple):
    """An epsilon, and the accountant that really gave it."""

    epsilon: float
    accountant: str


def epsilon_of(
    *,
    sample_rate: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    accountant: str = "prv",
) -> float:
    """Epsilon of some steps of DP-SGD at one setting; infinite without noise, 0 without steps.

    ``accountant`` is "prv", "rdp" or "gdp". Where PRV cannot answer, RDP does: use
    `epsilon_of_history` to learn which it was. Raises FedmodelError for a value out of range.

    >>> round(epsilon_of(sample_rate=0.2, noise_multiplier=1.0, steps=100, delta=1e-5), 2)
    14.54
    """
    history = [(noise_multiplier, sample_rate, steps)]
    return epsilon_of_history(history, delta=delta, accountant=accountant).epsilon


def epsilon_of_history(history: History, *, delta: float, accountant: str = "prv") -> Figure:
    """Epsilon of a whole history, whose noise and sample rate may change on the way."""
    return epsilon_of_clients([history], delta=delta, accountant=accountant)[0]


def epsilon_curve(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: Sequence[int],
    delta: float,
    accountant: str = "prv",
) -> list[Figure]:
    """Epsilon after each of several numbers of steps, for little more than the price of one."""
    histories = [[(noise_multiplier, sample_rate, n)] for n in steps]
    return epsilon_of_clients(histories, delta=delta, accountant=accountant)


def epsilon_of_clients(
    histories: Sequence[History],
    *,
    delta: float,
    accountant: str = "prv",
    quick: bool | None = None,
) -> list[Figure]:
    """Epsilon of each client's history, in their order.

    Clients with equal histories share a figure, and those with equal noise and sample rate share
    all but its last step; so the histories of all clients after all rounds can come in one call.
    Where more than 256 settings are distinct, or `quick` says so, PRV's figures come by `contour`,
    equal to 0.003; the first rounds of a course may have RDP's bound.
    """
    check_delta(delta)
    check_accountant(accountant)
    merged = [merge(history) for history in histories]
    together: dict[Settings, set[tuple[int, ...]]] = defaultdict(set)
    for settings, counts in merged:
        together[settings].add(counts)
    quick = len(together) > EXACT_SETTINGS if quick is None else quick
    figures: dict[tuple[Settings, tuple[int, ...]], Figure] = {}
    for settings, distinct in together.items():
        rows = sorted(distinct)
        found = account(settings, rows, delta, accountant, quick=quick)
        figures.update(zip([(settings, row) for row in rows], found, strict=True))
    return [figures[key] for key in merged]


def merge(history: History) -> tuple[Settings, tuple[int, ...]]:
    """The settings of a history in sorted order, and the steps at each: their order is no matter."""
    steps_at: Counter[tuple[float, float]] = Counter()
    for entry in history:
        try:
            noise, rate, steps = entry
        except (TypeError, ValueError):
            raise FedmodelError(
                f"{entry!r} is no entry of a history",
                fix="Give each entry as (noise multiplier, sample rate, steps).",
            ) from None
        check_setting(sample_rate=rate, steps=steps, noise_multiplier=noise)
        if steps:
            steps_at[min(float(noise), MOST_NOISE), float(rate)] += int(steps)
    settings = tuple(sorted(steps_at))
    return settings, tuple(steps_at[setting] for setting in settings)


def account(
    settings: Settings,
    rows: Sequence[tuple[int, ...]],
    delta: float,
    accountant: str,
    *,
    quick: bool = False,
) -> list[Figure]:
    """A figure for each row of step counts at the settings; RDP's where PRV is out of reach."""
    if not settings:
        return [Figure(0.0, accountant) for _ in rows]
    if any(noise == 0 for noise, _ in settings):
        return [Figure(math.inf, accountant) for _ in rows]
    counts: Int[np.ndarray, "R M"] = np.array(rows)
    if accountant == "gdp":
        epsilons = gdp_epsilons(settings, counts, delta=delta)
    elif accountant == "rdp":
        epsilons = rdp_epsilons(settings, counts, delta=delta)
    elif quick:
        epsilons = contour_epsilons(settings, counts, delta=delta)
        missing = [row for row, epsilon in zip(rows, epsilons) if math.isnan(epsilon)]
        # In a long course these are the first rounds, for which RDP's bound will do.
        other = "prv" if len(rows) <= COURSE else "rdp"
        found = iter(account(settings, missing, delta, other) if missing else [])
        return [
            next(found) if math.isnan(epsilon) else Figure(max(0.0, epsilon), "prv")
            for epsilon in epsilons
        ]
    else:
        try:
            epsilons = prv_epsilons(settings, counts, delta=delta)
        except OutOfReachError:
            if len(rows) == 1:
                return account(settings, rows, delta, "rdp")
            return [account(settings, [row], delta, "prv")[0] for row in rows]
    return [Figure(max(0.0, epsilon), accountant) for epsilon in epsilons]


def check_accountant(accountant: str) -> None:
    """Raise FedmodelError, with the accountants there are, for another name."""
    if accountant not in ACCOUNTANTS:
        known = "; ".join(f'"{name}" ({meaning})' for name, meaning in ACCOUNTANTS.items())
        raise FedmodelError(f"no accountant is called {accountant!r}", fix=f"Choose from {known}.")
