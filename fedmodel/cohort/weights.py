"""Class weights: how much a record's loss counts, by its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.cohort.cohort import Batch, Cohort
from fedmodel.errors import FedmodelError
from fedmodel.types import FederatedData

__all__ = ["ClassWeights", "balanced", "check_class_weights", "class_weights_of", "weighted"]

ClassWeights = Sequence[float] | Literal["balanced"] | None


def weighted(batch: Batch, weights: Float[Tensor, " C"] | None) -> Batch:
    """The batch whose records' losses count as much as the weights of their classes say.

    A record's gradient is scaled before it is clipped, so what it adds to a clipped sum has the same
    bound as without weights. Losses that clients report stay without weights.
    """
    return batch if weights is None else replace(batch, weight=weights[batch.y])


def class_weights_of(cohort: Cohort, weights: ClassWeights) -> Float[Tensor, " C"] | None:
    """A behaviour's class weights, in the order of the data's classes."""
    if weights is None:
        return None
    if weights == "balanced":
        return balanced(cohort.data).to(cohort.device)
    return torch.tensor([float(weight) for weight in weights], device=cohort.device)


def balanced(data: FederatedData) -> Float[Tensor, " C"]:
    """n / (C n_c) from the n training records of all clients, n_c of them of class c.

    Scikit-learn's ``class_weight = "balanced"`` (King and Zeng, Political Analysis 2001). Clients
    tell how many records of each class they hold.
    """
    begins, ends = data.bounds[:, 0], data.bounds[:, 1]
    change = torch.zeros(len(data.y) + 1, dtype=torch.int64)
    change.index_add_(0, begins.cpu(), torch.ones_like(begins.cpu()))
    change.index_add_(0, ends.cpu(), -torch.ones_like(ends.cpu()))
    labels = data.y.cpu()[change.cumsum(0)[:-1] > 0]
    number = torch.bincount(labels, minlength=len(data.classes))
    return len(labels) / (len(number) * number.clamp(min=1).float())


def check_class_weights(weights: ClassWeights, data: FederatedData) -> None:
    """Whether there is a weight for each class.

    Raises:
        FedmodelError: there are more or fewer.
    """
    if weights is None or weights == "balanced" or len(weights) == len(data.classes):
        return
    raise FedmodelError(
        f"{len(weights)} class weights do not fit the {len(data.classes)} classes of {data.card.name}",
        where="[client] class_weights",
        fix=f"Give one number for each of {', '.join(data.classes)}, in this order.",
    )
