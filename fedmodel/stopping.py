"""When a run ends early: validation records say that it gets no better."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from fedmodel.config import Config, Stop
from fedmodel.errors import FedmodelError
from fedmodel.types import FederatedData

__all__ = ["Stopping", "better", "check_stop", "measured"]


class Stopping:
    """Watches one metric of the global model on all clients' validation records.

    Made of the metrics of the rounds so far, so that a run that is resumed stops where it would have
    stopped (Prechelt, "Early stopping - but when?", 1998: no improvement for so many evaluations).
    """

    def __init__(self, stop: Stop | None, metrics: pd.DataFrame) -> None:
        self.stop, self.best, self.best_round, self.waited = stop, math.nan, 0, 0
        self.reason = ""
        for number in sorted(set(metrics["round"])) if stop is not None else ():
            self.see(metrics[metrics["round"] == number])

    def see(self, metrics: pd.DataFrame) -> None:
        """Take a round's metrics in; `reason` says why the run is over, once it is."""
        if self.stop is None or self.reason or not len(metrics):
            return
        number, value = int(metrics["round"].iloc[0]), measured(metrics, self.stop.metric)
        if number == 0:
            return
        if better(value, self.best, self.stop.metric, by=self.stop.min_delta):
            self.best, self.best_round, self.waited = value, number, 0
            return
        self.waited += 1
        if self.waited >= self.stop.patience:
            self.reason = (
                f"stopped after round {number}: the {self.stop.metric.replace('_', ' ')} on validation "
                f"records is no better than {self.best:.4f} in round {self.best_round}"
            )

    def as_found(self, number: int) -> dict[str, Any]:
        """What a manifest tells of it."""
        assert self.stop is not None
        return {
            "round": number,
            "metric": self.stop.metric,
            "best_round": self.best_round,
            "best": None if math.isnan(self.best) else self.best,
            "reason": self.reason,
        }


def measured(metrics: pd.DataFrame, metric: str) -> float:
    """A metric of the global model on all validation records; NaN where it was not measured."""
    rows = metrics[(metrics.split == "validation") & (metrics.scope == "global")]
    found = rows[(rows.metric == metric) & (rows.model == "global")].value
    return float(found.iloc[0]) if len(found) else math.nan


def better(value: float, best: float, metric: str, *, by: float = 0.0) -> bool:
    """Whether a value improves the best so far, NaN if there is none, by more than so much."""
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return (best - value if metric == "loss" else value - best) > by


def check_stop(config: Config, data: FederatedData) -> None:
    """Whether there are validation records to stop by, and the metric is known of them.

    Raises:
        FedmodelError: there are none, or only of several classes or noised where that does not do.
    """
    stop = config.evaluation.stop
    if stop is None:
        return
    if data.sizes("validation").sum() == 0:
        raise FedmodelError(
            "there are no validation records to stop by",
            where="[evaluation] stop",
            fix="Set e.g. data.validation = 0.2, or drop [evaluation.stop].",
        )
    if config.evaluation.private and stop.metric in ("loss", "roc_auc"):
        raise FedmodelError(
            f"noised counts tell no {stop.metric}",
            where="[evaluation] stop",
            fix='Use metric = "accuracy" or "balanced_accuracy".',
        )
    if stop.metric == "roc_auc" and len(data.classes) != 2:
        raise FedmodelError(
            f"roc_auc is for two classes, and {data.card.name} has {len(data.classes)}",
            where="[evaluation] stop",
            fix='Use metric = "loss", "accuracy" or "balanced_accuracy".',
        )
