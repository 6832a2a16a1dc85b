"""The decision threshold of a finished run, chosen on validation records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fedmodel.config import Config
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.threshold import Score, best_threshold
from fedmodel.rounds import Federation, counted
from fedmodel.types import Counts, FederatedData

__all__ = ["check_threshold", "decide", "threshold_notes"]


def decide(
    federation: Federation, number: int, vector: Float[Tensor, " d"], *, by: Score
) -> tuple[dict[str, Any], Mapping[str, Counts]]:
    """Choose the threshold by the sum of all clients' histograms of validation scores.

    1. Clients count the final model's scores; the best threshold is that of the sum.
    2. They count once more, with it. What was chosen, and these counts.
    """
    _, counts = counted(federation, number, vector)
    threshold, score = best_threshold(counts["validation"].total().histogram[0], by=by)
    _, at_threshold = counted(federation, number, vector, threshold=threshold)
    return {"value": threshold, "by": by, "validation_score": score}, at_threshold


def check_threshold(config: Config, data: FederatedData) -> None:
    """Whether the data have what a decision threshold needs.

    Raises:
        FedmodelError: more than two classes, or no validation records of both.
    """
    if config.evaluation.threshold is None:
        return
    if len(data.classes) != 2:
        raise FedmodelError(
            f"a threshold decides between two classes, and {data.card.name} has {len(data.classes)}",
            where="[evaluation] threshold",
            fix="Drop it: of several classes the most probable one is predicted.",
        )
    if config.evaluation.threshold != "validation":
        return
    clients = range(data.num_clients)
    held = {label for k in clients for label in data.y[data.rows(k, "validation")].tolist()}
    if len(held) < 2:
        raise FedmodelError(
            "there are no validation records of both classes to choose a threshold on",
            where="[evaluation] threshold",
            fix="Set e.g. data.validation = 0.2, or give a number.",
        )


def threshold_notes(config: Config) -> list[str]:
    """From which probability on records are predicted positive, if that is set."""
    threshold = config.evaluation.threshold
    if not isinstance(threshold, float):
        return []
    return [f"Records are predicted positive from a probability of {threshold:g} on."]
