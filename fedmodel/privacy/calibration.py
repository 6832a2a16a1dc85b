"""The noise that a privacy budget asks for, of one client or of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from fedmodel.errors import FedmodelError
from fedmodel.privacy.accounting import (
    check_accountant,
    check_delta,
    check_setting,
    epsilon_of,
)
from fedmodel.privacy.prv import EPSILON_ERROR

__all__ = ["noise_for", "noise_for_clients"]

# Noise multipliers are rungs of a ladder, 1.0005^j: a budget has one answer, whatever the search
# starts from, and a smaller budget never gets less noise.
RUNG = 1.0005
LOWEST, HIGHEST = round(math.log(0.01, RUNG)), round(math.log(1e6, RUNG))
EXACT_SETTINGS = 256  # up to so many distinct clients each get their own noise
GRID = 1.03  # beyond, sample rates and steps are rounded up to powers of this


def noise_for(
    *, epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str = "prv"
) -> float:
    """The smallest noise multiplier (of a ladder in steps of 0.05 %) that keeps to epsilon.

    0 where there are no steps. Raises FedmodelError for a value out of range, or where no noise
    is enough.

    >>> noise_for(epsilon=3.0, sample_rate=0.05, steps=400, delta=1e-5)
    1.62479
    """
    check_delta(delta)
    check_accountant(accountant)
    check_setting(sample_rate=sample_rate, steps=steps)
    if not epsilon > 0:
        raise FedmodelError(
            f"epsilon={epsilon} is not above 0",
            fix="Choose an epsilon above 0: 1 is strict, 10 is loose.",
        )
    return calibrate(float(epsilon), float(sample_rate), int(steps), float(delta), accountant)


def noise_for_clients(
    *,
    epsilon: float,
    sample_rates: Sequence[float],
    steps: Sequence[int],
    delta: float,
    accountant: str = "prv",
) -> list[float]:
    """The noise multiplier of each of K clients, so that each keeps to epsilon.

    Up to 256 distinct clients get `noise_for` their own settings. Of more, sample rate and steps
    are rounded up to a grid of 3 %; as epsilon grows with both, the noise is enough, and at most
    about 5 % more than needed.
    """
    settings = list(zip(map(float, sample_rates), map(int, steps), strict=True))
    if len(set(settings)) > EXACT_SETTINGS:
        settings = [
            (rate, count) if not (0 < rate <= 1 and count > 0) else round_up(rate, count)
            for rate, count in settings
        ]
    noise = {
        (rate, count): noise_for(
            epsilon=epsilon, sample_rate=rate, steps=count, delta=delta, accountant=accountant
        )
        for rate, count in set(settings)
    }
    return [noise[setting] for setting in settings]


def round_up(sample_rate: float, steps: int) -> tuple[float, int]:
    """The next point of the grid at or above a setting: powers of 1.03, at most 1 for the rate."""
    rate = GRID ** math.ceil(math.log(sample_rate, GRID) - 1e-9)
    count = math.ceil(GRID ** math.ceil(math.log(steps, GRID) - 1e-9) - 1e-9)
    return min(1.0, max(rate, sample_rate)), max(count, steps)


@lru_cache(maxsize=10_000)
def calibrate(
    epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str
) -> float:
    if steps == 0:
        return 0.0

    def by(name: str) -> Callable[[int], float]:
        return lambda rung: epsilon_of(
            sample_rate=sample_rate,
            noise_multiplier=noise_at(rung),
            steps=steps,
            delta=delta,
            accountant=name,
        )

    start, slope = 0, -1.5
    if accountant == "prv":
        # RDP is quick and close: PRV's answer is some 6 % below its, and falls off alike.
        by_rdp = by("rdp")
        safe = lowest_rung(by_rdp, epsilon, start=start, slope=slope)
        start = max(LOWEST, min(safe, HIGHEST) - 120)
        slope = slope_between(start, by_rdp(start), safe, epsilon) or slope
    rung = lowest_rung(by(accountant), epsilon, start=start, slope=slope)
    if rung > HIGHEST:
        raise FedmodelError(
            f"no noise keeps {steps} steps at sample rate {sample_rate:g} to epsilon={epsilon:g} "
            f"with delta={delta:g} by the accountant {accountant!r}",
            fix=(
                f"Its figures include an error bound of {EPSILON_ERROR}: choose a larger epsilon, "
                'or accountant = "rdp".'
                if accountant == "prv"
                else "Choose a larger epsilon or delta, or fewer steps."
            ),
        )
    return noise_at(rung)


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
