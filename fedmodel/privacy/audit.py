"""What an attack's hits say about epsilon: a lower bound, from a single training run."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import binom

from fedmodel.errors import FedmodelError
from fedmodel.privacy.checks import check_count, number

__all__ = ["epsilon_lower_bound", "p_value"]

PRECISION = 1e-9  # of the bound


def epsilon_lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, significance: float = 0.05
) -> float:
    """The largest epsilon that so many correct guesses refute; 0 where they refute none.

    Each of m `canaries` was put into the training data by a fair coin of its own. From what was
    released an auditor guesses some of the coins; of r `guesses`, v were `correct`. Training that
    is (epsilon, delta) private for each record allows that with a chance of at most `p_value`; where
    this is below `significance`, epsilon is refuted, and every smaller one with it.

    The bound fails with a chance of at most `significance`, whatever model and attack. It holds
    for coins that are independent and fair, and for numbers chosen before the coins are seen.

    Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023,
    Theorem 5.2. Raises FedmodelError for counts, a delta or a significance out of range.

    >>> round(epsilon_lower_bound(canaries=1000, guesses=1000, correct=750, delta=1e-5), 3)
    0.976
    """
    _check(canaries=canaries, guesses=guesses, correct=correct, delta=delta)
    if not 0 < number("significance", significance) < 1:
        raise FedmodelError(
            f"significance={significance} is not between 0 and 1",
            fix="Give the chance that the bound may be wrong, for example 0.05.",
        )

    def refuted(epsilon: float) -> bool:
        return (
            p_value(epsilon, canaries=canaries, guesses=guesses, correct=correct, delta=delta)
            < significance
        )

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > PRECISION * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def p_value(epsilon: float, *, canaries: int, guesses: int, correct: int, delta: float) -> float:
    """A bound on the chance of so many correct guesses, if training is (epsilon, delta) private.

    With X binomial of r `guesses` at chance e^epsilon / (1 + e^epsilon), and v `correct`:
    P[X >= v] + 2 m delta max_i P[v - i <= X < v] / i over i = 1, ..., v, at most 1 (Theorem 5.2).
    """
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, chance))
    if delta == 0 or correct == 0:
        return tail
    # The mean of i neighbours of a unimodal sequence, below v and downwards, grows up to the mode and
    # falls once a term is below it: the largest is met within 12 deviations of the mean, or at i = 1.
    mean, far = guesses * chance, 12 * math.sqrt(guesses * chance * (1 - chance)) + 1
    top = min(correct - 1, math.ceil(mean + far))
    lowest = min(top, max(0, math.floor(mean - far)))
    value = np.arange(top, lowest - 1, -1)
    beyond = binom.sf(top, guesses, chance) - tail
    within = beyond + np.cumsum(binom.pmf(value, guesses, chance))
    most = float((within / (correct - value)).max())
    return min(1.0, tail + 2 * canaries * delta * most)


def _check(*, canaries: int, guesses: int, correct: int, delta: float) -> None:
    check_count("canaries", canaries, "canaries")
    check_count("guesses", guesses, "guesses")
    check_count("correct", correct, "correct guesses")
    if not correct <= guesses <= canaries:
        raise FedmodelError(
            f"{correct} correct of {guesses} guesses on {canaries} canaries cannot be",
            fix="Give correct <= guesses <= canaries: each canary is guessed once, or left out.",
        )
    if not 0 <= number("delta", delta) < 1:
        raise FedmodelError(
            f"delta={delta} is not a probability below 1",
            fix="Give the delta of the claim, for example 1e-5; 0 for pure differential privacy.",
        )
