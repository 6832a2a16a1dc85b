"""Metrics of the user's own: functions of summed confusion counts, so the server needs no record."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.errors import FedmodelError

__all__ = ["Metric", "evaluate_each"]

# From confusion counts [G, true, predicted], int64, to a number; NaN where it is not defined.
# Divide `confusion.double()`: torch divides whole numbers in float32.
Metric = Callable[[Tensor], float]


def evaluate_each(
    metrics: Mapping[str, Metric], confusion: Int[Tensor, "K G C C"], *, places: tuple[str, ...]
) -> dict[str, Float[Tensor, " K"]]:
    """Each metric at each of K places (the federation, or clients), NaN where there is no record.

    Raises `FedmodelError` naming metric, function and place where a function raises, or returns
    what is no number.
    """
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
        function = getattr(metric, "__qualname__", repr(metric))
        raise FedmodelError(
            f"The metric {name!r} failed: {type(error).__name__}: {error}",
            where=f"{getattr(metric, '__module__', '')}.{function}, evaluated for {place}",
            fix="It gets counts [group, true, predicted] and must return one number (NaN: undefined)",
        ) from error
