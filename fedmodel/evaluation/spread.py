"""How evenly a quantity, such as accuracy, is spread over clients.

Values are one a client, ``[K]``; clients whose value is NaN (no records) are left out, and
without any client, or where a quotient has nothing below the line, the result is NaN.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

__all__ = ["gini", "jain_index", "mean", "spread", "standard_deviation", "worst_decile"]


def spread(values: Float[Tensor, " K"]) -> dict[str, float]:
    """All measures of this module, by the names they have in a run's table."""
    return {
        "mean": mean(values),
        "std": standard_deviation(values),
        "worst_decile": worst_decile(values),
        "jain": jain_index(values),
        "gini": gini(values),
    }


def mean(values: Float[Tensor, " K"]) -> float:
    """The mean in which every client counts the same, however many records it has."""
    return _defined(values).mean().item()


def standard_deviation(values: Float[Tensor, " K"]) -> float:
    """Root of the mean squared deviation of these K clients (divided by K, not K - 1)."""
    return _defined(values).std(correction=0).item() if len(_defined(values)) else math.nan


def worst_decile(values: Float[Tensor, " K"]) -> float:
    """The mean of the ``ceil(K / 10)`` smallest values: the worst off tenth, never nobody.

    >>> worst_decile(Tensor([0.5, 0.9, 0.7]))
    0.5
    """
    kept = _defined(values)
    return kept.sort().values[: -(-len(kept) // 10)].mean().item()


def jain_index(values: Float[Tensor, " K"]) -> float:
    """``(sum x)^2 / (K sum x^2)``: 1 where all are equal, 1/K where one has everything.

    Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination for resource
    allocation in shared computer systems", DEC report TR-301, 1984.

    >>> jain_index(Tensor([1.0, 0.0, 0.0, 0.0]))
    0.25
    """
    kept = _defined(values)
    return (kept.sum().square() / (len(kept) * kept.square().sum())).item()


def gini(values: Float[Tensor, " K"]) -> float:
    """Half the mean difference of all pairs, relative to the mean; 0 where all are equal.

    With the values in rising order ``sum_i (2 i - K - 1) x_i / (K sum x)``, from which the
    pairs' sum of differences (Gini 1912) follows. For values of at least 0.

    >>> gini(Tensor([0.0, 1.0]))
    0.5
    """
    kept = _defined(values).sort().values
    rank = 2 * kept.new_ones(len(kept)).cumsum(0) - len(kept) - 1
    return ((rank * kept).sum() / (len(kept) * kept.sum())).item()


def _defined(values: Float[Tensor, " K"]) -> Float[Tensor, " defined"]:
    return values[~values.isnan()].double()
