"""Gradients of all clients of a cohort at once: by stacked layers, or by `torch.func` where need be."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.cohort import functional
from fedmodel.cohort.clipping import ClippingStyle
from fedmodel.cohort.model import FlatModel
from fedmodel.cohort.stacked import NotStacked, StackedModel
from fedmodel.cohort.verification import verify

if TYPE_CHECKING:
    from fedmodel.cohort.cohort import Batch, Cohort

__all__ = ["clipped_gradient_sum", "loss_sum_gradient", "mean_gradient"]

# Per-record gradients that `torch.func` holds at once. Small enough to stay near the caches, large
# enough that Python's share is small (measured on two cores with an MLP of 4,000 parameters).
RECORD_GRADIENT_BYTES = 64 << 20


def mean_gradient(
    cohort: Cohort, local: Float[Tensor, "K d"], batch: Batch
) -> Float[Tensor, "K d"]:
    """Gradient of each client's mean loss over its records in the batch; zero for an empty batch.

    The losses are noted in the cohort as the clients' training loss.
    """
    total, loss = loss_sum_gradient(cohort.model, local, batch)
    if batch.planted is not None:
        total.add_(batch.planted())
    number = batch.present.sum(1)
    cohort.note_loss(loss, number)
    return total.div_(number.clamp(min=1)[:, None])


def clipped_gradient_sum(
    cohort: Cohort,
    local: Float[Tensor, "K d"],
    batch: Batch,
    *,
    clip: float,
    style: ClippingStyle = "flat",
) -> Float[Tensor, "K d"]:
    """Sum over a client's records of the gradient, each scaled to a norm of at most `clip`.

    The sensitivity of the sum to one record, added or removed, is `clip` (Abadi et al., CCS 2016,
    Algorithm 1), in every `style` of `record_factors`. An infinite `clip` gives the plain sum.
    """
    total = _clipped_gradient_sum(cohort.model, local, batch, clip, style)
    return total if batch.planted is None else total.add_(batch.planted(), alpha=clip)


def _clipped_gradient_sum(
    model: FlatModel, local: Tensor, batch: Batch, clip: float, style: ClippingStyle
) -> Tensor:
    if clip == float("inf"):
        return loss_sum_gradient(model, local, batch)[0]
    stacked = _stacked(model, local, batch)
    if stacked is not None:
        try:
            return stacked.clipped_gradient_sum(local, batch, clip=clip, style=style)
        except NotStacked as reason:
            _give_up(model, local, reason)
    return functional.clipped_gradient_sum(
        model, local, batch, clip=clip, style=style, budget=RECORD_GRADIENT_BYTES
    )


def loss_sum_gradient(
    model: FlatModel, local: Float[Tensor, "K d"], batch: Batch
) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
    """Gradient and value of each client's summed loss over its records in the batch."""
    stacked = _stacked(model, local, batch)
    if stacked is not None:
        try:
            return stacked.loss_sum_gradient(local, batch)
        except NotStacked as reason:
            _give_up(model, local, reason)
    return functional.loss_sum_gradient(model, local, batch)


# The models made ready so far, beside them so that a model travels to other processes without.
_Ready = dict[tuple[torch.dtype, torch.device], StackedModel | None]
_READY: WeakKeyDictionary[FlatModel, _Ready] = WeakKeyDictionary()


def _stacked(model: FlatModel, local: Tensor, batch: Batch) -> StackedModel | None:
    """The model on stacked layers, made at its first batch and tried out; None where that failed."""
    ready = _READY.setdefault(model, {})
    kind = local.dtype, local.device
    if kind not in ready:
        try:
            stacked = StackedModel(model, batch.x.flatten(0, 1), local)
            verify(stacked, model, local, batch)
            ready[kind] = stacked
        except Exception as reason:  # whatever a user's module raises where its layers are replaced
            _give_up(model, local, reason)
    return ready[kind]


def _give_up(model: FlatModel, local: Tensor, reason: Exception) -> None:
    _READY[model][local.dtype, local.device] = None
    told = str(reason) if isinstance(reason, NotStacked) else f"{type(reason).__name__}: {reason}"
    warnings.warn(
        f"{type(model.module).__name__} trains by torch.func, correct but slower: {told}",
        stacklevel=3,
    )
