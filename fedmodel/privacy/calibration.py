"""The noise that a privacy budget asks for, of one client or of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from fedmodel.errors import FedmodelError
from fedmodel.privacy.accounting import (
    EXACT_SETTINGS,
    History,
    account,
    check_accountant,
    epsilon_of_history,
    merge,
)
from fedmodel.privacy.checks import check_delta, check_epsilon, check_setting
from fedmodel.privacy.prv import EPSILON_ERROR

__all__ = ["noise_for", "noise_for_clients"]

# Noise multipliers are rungs of a ladder, 1.0005^j: a budget has one answer, whatever the search
# starts from, and a smaller budget never gets less noise.
RUNG = 1.0005
LOWEST, HIGHEST = round(math.log(0.01, RUNG)), round(math.log(1e6, RUNG))
GRID = (
    1.03  # beyond 256 distinct settings, they are rounded to powers of this, or of its square, ...
)
MOST_SETTINGS = 600  # ... so that no more than these are left


def noise_for(
    *,
    epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    accountant: str = "prv",
    released: History = (),
) -> float:
    """The smallest noise multiplier (of a ladder in steps of 0.05 %) that keeps to epsilon.

    What was `released` of the same records otherwise is composed with the steps, under the same
    epsilon and delta. 0 where there are no steps. Raises FedmodelError for a value out of range, or where no noise
    is enough.

    >>> noise_for(epsilon=3.0, sample_rate=0.05, steps=400, delta=1e-5)
    1.62479
    """
    check_delta(delta)
    check_accountant(accountant)
    check_setting(sample_rate=sample_rate, steps=steps)
    check_epsilon(epsilon)
    return calibrate(
        float(epsilon),
        float(sample_rate),
        int(steps),
        float(delta),
        accountant,
        released=tuple(map(tuple, released)),
    )


def noise_for_clients(
    *,
    epsilon: float | Sequence[float],
    sample_rates: Sequence[float],
    steps: Sequence[int],
    delta: float,
    accountant: str = "prv",
    released: History = (),
) -> list[float]:
    """The noise multiplier of each of K clients, so that each keeps to epsilon, or to its own.

    What was `released` of every client's records otherwise is composed with its steps.

    Up to 256 distinct clients get `noise_for` their own settings. Of more, sample rate and steps
    are rounded up to a grid of 3 %, and a client's own epsilon down. As epsilon grows with both,
    the noise is enough, and at most about 5 % more than needed. Where that leaves more than 600
    settings the grid is coarser: 6 %, 12 %, ...
    """
    targets = np.asarray(epsilon).tolist()
    if not isinstance(targets, list):  # one number for all
        targets = [targets] * len(steps)
    if not len(targets) == len(sample_rates) == len(steps):
        raise FedmodelError(
            f"there are {len(targets)} epsilons, {len(sample_rates)} sample rates and {len(steps)} "
            "numbers of steps",
            fix="Give one of each for each client; one epsilon may stand for all.",
        )
    given = list(zip(targets, sample_rates, steps, strict=True))
    for target, rate, count in set(given):
        check_epsilon(target)
        check_setting(sample_rate=rate, steps=count)
    settings = [(float(target), float(rate), int(count)) for target, rate, count in given]
    check_delta(delta)
    check_accountant(accountant)
    quick, grid, exact = False, GRID, settings
    others = tuple(map(tuple, released))  # to be remembered by `calibrate`
    own = len({target for target, _, _ in settings}) > 1
    while len(set(settings)) > (MOST_SETTINGS if quick else EXACT_SETTINGS):
        settings = [on_grid(*setting, grid=grid, own=own) for setting in exact]
        quick, grid = True, grid**2
    noise = {
        (target, rate, count): calibrate(
            target, rate, count, float(delta), accountant, quick, others
        )
        for target, rate, count in sorted(set(settings))
    }
    return [noise[setting] for setting in settings]


def on_grid(
    epsilon: float, sample_rate: float, steps: int, *, grid: float, own: bool
) -> tuple[float, float, int]:
    """A stricter setting of powers of `grid`: rate (at most 1) and steps go up, an own epsilon down."""
    if not steps:
        return 1.0, 1.0, 0
    rate = grid ** math.ceil(math.log(sample_rate, grid) - 1e-9)
    count = math.ceil(grid ** math.ceil(math.log(steps, grid) - 1e-9) - 1e-9)
    target = grid ** math.floor(math.log(epsilon, grid) + 1e-9) if own else epsilon
    return min(target, epsilon), min(1.0, max(rate, sample_rate)), max(count, steps)


@lru_cache(maxsize=10_000)
def calibrate(
    epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    accountant: str,
    quick: bool = False,
    released: History = (),
) -> float:
    """The lowest rung's noise; `quick` as in `account`. Raises FedmodelError where none is enough."""
    if steps == 0:
        return 0.0
    others, counts = merge(released)

    def by(name: str) -> Callable[[int], float]:
        def epsilon_at(rung: int) -> float:
            settings = ((noise_at(rung), sample_rate), *others)
            return account(settings, [(steps, *counts)], delta, name, quick=quick)[0].epsilon

        return epsilon_at

    start, slope = 0, -1.5
    if accountant == "prv":
        # RDP is quick and close: PRV's answer is some 6 % below its, and falls off alike.
        by_rdp = by("rdp")
        safe = lowest_rung(by_rdp, epsilon, start=start, slope=slope)
        start = max(LOWEST, min(safe, HIGHEST) - 120)
        slope = slope_between(start, by_rdp(start), safe, epsilon) or slope
    rung = lowest_rung(by(accountant), epsilon, start=start, slope=slope)
    if rung > HIGHEST:
        raise _out_of_reach(epsilon, sample_rate, steps, delta, accountant, released)
    return noise_at(rung)


def _out_of_reach(
    epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    accountant: str,
    released: History,
) -> FedmodelError:
    """No noise is enough: because of what was released otherwise, of PRV's error bound, or the steps."""
    problem = (
        f"no noise keeps {steps} steps at sample rate {sample_rate:g} to epsilon={epsilon:g} "
        f"with delta={delta:g} by the accountant {accountant!r}"
    )
    if released:
        others = epsilon_of_history(released, delta=delta, accountant=accountant).epsilon
        problem += f", beside what is released otherwise, which alone costs {others:.3g}"
    if released and others > epsilon:
        fix = "Choose a larger epsilon or delta, or more noise for what is released otherwise."
    elif accountant == "prv":
        fix = (
            f"Its figures include an error bound of {EPSILON_ERROR}: choose a larger epsilon, "
            'or accountant = "rdp".'
        )
    else:
        fix = "Choose a larger epsilon or delta, or fewer steps."
    return FedmodelError(problem, fix=fix)


def noise_at(rung: int) -> float:
    return round(RUNG**rung, 6)


def lowest_rung(
    epsilon_at: Callable[[int], float], target: float, *, start: int, slope: float
) -> int:
    """The lowest rung whose epsilon is at most the target; HIGHEST + 1 where none is.

    Epsilon falls from rung to rung; nearly along a straight line in logarithms, of which `slope`
    is a first guess. Each probe narrows the rungs between one that fails and one that meets.
    """
    fails, meets = LOWEST - 1, HIGHEST + 1
    rung, last = start, None
    probes = 0
    while meets - fails > 1:
        epsilon = epsilon_at(rung)
        if epsilon <= target:
            meets = rung
        else:
            fails = rung
        if last:
            slope = slope_between(*last, rung, epsilon) or slope
        last = rung, epsilon
        probes += 1
        if probes > 15:
            rung = (fails + meets) // 2
        elif epsilon == 0 or math.isinf(epsilon):
            rung += 1400 if epsilon else -1400  # twice or half the noise
        else:
            rung = math.ceil(rung - math.log(epsilon / target) / math.log(RUNG) / slope)
        rung = min(max(rung, fails + 1), meets - 1)
    return meets


def slope_between(rung: int, epsilon: float, other: int, other_epsilon: float) -> float | None:
    """Change of log epsilon with log noise; None where it cannot be told."""
    if rung == other or not (0 < epsilon < math.inf and 0 < other_epsilon < math.inf):
        return None
    slope = math.log(other_epsilon / epsilon) / ((other - rung) * math.log(RUNG))
    return slope if slope < -0.01 else None
