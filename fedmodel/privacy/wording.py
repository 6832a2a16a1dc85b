"""Sentences and figures that all privacy statements share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

__all__ = ["NOISE", "accounted", "amount", "count", "finite", "spread_of"]

NOISE = {
    "seeded": (
        "Simulated: the noise comes from the experiment's seed, so that the run can be repeated; "
        "whoever holds the seed can subtract it."
    ),
    "secure": "The noise comes from a cryptographic source and cannot be drawn again.",
}


def amount(spent: Sequence[float], *, idle: int, delta: float, did: str = "trained") -> str:
    """How much was spent, over the clients that trained (or whatever they did)."""
    if not spent:
        return "No client trained: nothing was spent."
    if math.isinf(max(spent)):
        unprotected = sum(map(math.isinf, spent))
        return f"There is no guarantee for {count(unprotected, 'client')}: epsilon is infinite."
    said = (
        f"At delta = {delta:g}, epsilon is {max(spent):.3g} at the client that spent most, "
        f"{median(spent):.3g} at the median and {min(spent):.3g} at the least, of "
        f"{count(len(spent), 'client')} that {did}."
    )
    return f"{said} {count(idle, 'client')} never {did} and spent nothing." if idle else said


def accounted(accountants: Mapping[str, int], *, asked: str) -> str:
    """By which accountant, and where another one had to answer."""
    said = f"Accounted by {asked.upper()}, over all rounds that a client took part in."
    if asked == "gdp":
        said += " It is an approximation and can understate epsilon."
    for other, clients in accountants.items():
        if other != asked:
            said += (
                f" For {count(clients, 'client')} it had no answer: there the looser bound of "
                f"{other.upper()} stands."
            )
    return said


def spread_of(values: Sequence[float]) -> dict[str, float] | None:
    """Least, median and largest; None of nothing."""
    if not values:
        return None
    return {"min": min(values), "median": median(values), "max": max(values)}


def count(number: int, noun: str) -> str:
    """The number and its noun, with an s but for 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def finite(value: float) -> float | None:
    """The value as JSON can hold it: None where it is infinite."""
    return float(value) if math.isfinite(value) else None
