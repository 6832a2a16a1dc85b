"""How a learning rate goes from round to round: functions of the round to a factor of it.

Of clients (`[client] schedule`) or of the server (`[strategy] schedule`). Rounds count from 1; a
factor depends on nothing else, so it is the same on every engine and after a resume.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

__all__ = ["constant", "cosine", "exponential", "linear", "step"]

Factor = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def constant(round: int, *, warm_up: NonNegativeInt = 0) -> float:
    """The learning rate itself, after it has risen in equal parts for `warm_up` rounds.

    With w of them round t takes t / (w + 1) of it (Goyal et al. 2017, gradual warm-up). All schedules
    can begin so.

    >>> [constant(t, warm_up=3) for t in (1, 2, 3, 4, 5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, round / (warm_up + 1))


def step(
    round: int, *, every: PositiveInt, factor: Factor = 0.5, warm_up: NonNegativeInt = 0
) -> float:
    """Multiply the learning rate by `factor` after `every` rounds, and after as many again.

    >>> [step(t, every=2) for t in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    if round <= warm_up:
        return constant(round, warm_up=warm_up)
    return float(factor ** ((round - warm_up - 1) // every))


def exponential(round: int, *, factor: Factor = 0.99, warm_up: NonNegativeInt = 0) -> float:
    """Multiply the learning rate by `factor` after every round.

    >>> [exponential(t, factor=0.5) for t in (1, 2, 3)]
    [1.0, 0.5, 0.25]
    """
    return step(round, every=1, factor=factor, warm_up=warm_up)


def linear(round: int, *, rounds: int, final: Share = 0.0, warm_up: NonNegativeInt = 0) -> float:
    """Lower the learning rate by equal amounts; `final` is the share that a round after the last had.

    >>> [linear(t, rounds=4) for t in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if round <= warm_up:
        return constant(round, warm_up=warm_up)
    return 1.0 - (1.0 - final) * _passed(round, rounds=rounds, warm_up=warm_up)


def cosine(round: int, *, rounds: int, final: Share = 0.0, warm_up: NonNegativeInt = 0) -> float:
    """Lower the learning rate along half a cosine wave (Loshchilov and Hutter, ICLR 2017, equation 5).

    `final` is the share that a round after the last one had.

    >>> [round(cosine(t, rounds=4), 4) for t in (1, 2, 3, 4)]
    [1.0, 0.8536, 0.5, 0.1464]
    """
    if round <= warm_up:
        return constant(round, warm_up=warm_up)
    wave = math.cos(math.pi * _passed(round, rounds=rounds, warm_up=warm_up))
    return final + (1.0 - final) * (1.0 + wave) / 2


def _passed(round: int, *, rounds: int, warm_up: int) -> float:
    """The share of the rounds after warming up that is over before this one."""
    return (round - warm_up - 1) / max(1, rounds - warm_up)
