"""Metrics of the user's own: functions of summed confusion counts, so the server needs no record."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.errors import RunFailed, user_place, what_failed

__all__ = ["Metric", "evaluate_each"]

# From confusion counts [G, true, predicted], int64, to a number; NaN where it is not defined.
# Divide `confusion.double()`: torch divides whole numbers in float32.
Metric = Callable[[Tensor], float]


def evaluate_each(
    metrics: Mapping[str, Metric], confusion: Int[Tensor, "K G C C"], *, places: tuple[str, ...]
) -> dict[str, Float[Tensor, " K"]]:
    """Each metric at each of K places (the federation, or clients), NaN where there is no record.

    Of noised counts the negative ones are given as 0.

    Raises `RunFailed` naming metric, place and line where a function raises, or returns what is no
    number.
    """
    confusion = confusion.clamp(min=0)
    empty = (confusion.sum((1, 2, 3)) == 0).tolist()
    return {
        name: torch.tensor(
            [
                torch.nan if empty[k] else _evaluate(name, metric, confusion[k], places[k])
                for k in range(len(places))
            ],
            dtype=torch.float64,
        )
        for name, metric in metrics.items()
    }


def _evaluate(name: str, metric: Metric, confusion: Int[Tensor, "G C C"], place: str) -> float:
    try:
        return float(metric(confusion.clone()))  # a copy: what it changes is nobody else's
    except Exception as error:
        raise RunFailed(
            f"the metric {name} failed for {place}: {what_failed(error)}",
            where=user_place(error) or "[evaluation] metrics",
            fix="It gets counts [group, true, predicted] and has to return one number, NaN where it "
            "is not defined.",
        ) from error
