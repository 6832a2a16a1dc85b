"""Gradients of all clients of a cohort at once, by the fastest kernel that can compute the model.

In this order: `Chain` (compiled, for linear layers in a row), `StackedModel` (one batch of rows for
layers of many kinds), `fedmodel.cohort.functional` (whatever `torch.func` can trace).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.cohort import functional
from fedmodel.cohort.chain import Chain
from fedmodel.cohort.clipping import ClippingStyle
from fedmodel.cohort.model import FlatModel
from fedmodel.cohort.stacked import NotStacked, StackedModel
from fedmodel.cohort.verification import Kernel, verify
from fedmodel.errors import what_failed

if TYPE_CHECKING:
    from fedmodel.cohort.cohort import Batch, Cohort

__all__ = [
    "chain_of",
    "clipped_gradient_sum",
    "loss_sum_gradient",
    "mean_gradient",
    "why_functional",
]

# Per-record gradients that `torch.func` holds at once. Small enough to stay near the caches, large
# enough that Python's share is small (measured on two cores with an MLP of 4,000 parameters).
RECORD_GRADIENT_BYTES = 64 << 20


def mean_gradient(
    cohort: Cohort, local: Float[Tensor, "K d"], batch: Batch
) -> Float[Tensor, "K d"]:
    """Gradient of each client's mean loss over its records in the batch; zero for an empty batch.

    The losses are noted in the cohort as the clients' training loss.
    """
    number = batch.present.sum(1)
    weight = number.clamp(min=1).to(local.dtype).reciprocal_()
    mean, loss = loss_sum_gradient(cohort.model, local, batch, weight=weight)
    if batch.planted is not None:
        mean.addcmul_(batch.planted(), weight[:, None])
    cohort.note_loss(loss, number)
    return mean


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
    with _kernel(model, local, batch) as kernel:
        try:
            return kernel.clipped_gradient_sum(local, batch, clip=clip, style=style)
        except NotStacked as reason:
            _give_up(model, local, reason)
    return _clipped_gradient_sum(model, local, batch, clip, style)


def loss_sum_gradient(
    model: FlatModel,
    local: Float[Tensor, "K d"],
    batch: Batch,
    *,
    weight: Float[Tensor, " K"] | None = None,
) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
    """Gradient, times each client's `weight`, and value of the summed loss over its records."""
    with _kernel(model, local, batch) as kernel:
        try:
            return kernel.loss_sum_gradient(local, batch, weight=weight)
        except NotStacked as reason:
            _give_up(model, local, reason)
    return loss_sum_gradient(model, local, batch, weight=weight)


@dataclass(frozen=True)
class _Functional:
    """`torch.func`, for one thread at a time: it puts each client's parameters into the one module."""

    model: FlatModel

    def loss_sum_gradient(
        self, local: Tensor, batch: Batch, *, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        with _PREPARING:
            gradient, loss = functional.loss_sum_gradient(self.model, local, batch)
        return gradient if weight is None else gradient.mul_(weight[:, None]), loss

    def clipped_gradient_sum(
        self, local: Tensor, batch: Batch, *, clip: float, style: ClippingStyle
    ) -> Tensor:
        with _PREPARING:
            return functional.clipped_gradient_sum(
                self.model, local, batch, clip=clip, style=style, budget=RECORD_GRADIENT_BYTES
            )


@dataclass
class _Kernels:
    """Kernels of one kind for one model: a thread that trains has one to itself."""

    first: Kernel
    make: Callable[[FlatModel], Kernel]
    free: list[Kernel]


# The models made ready so far, beside them so that a model travels to other processes without; None
# for those that only `torch.func` can compute.
_Ready = dict[tuple[torch.dtype, torch.device], _Kernels | None]
_READY: WeakKeyDictionary[FlatModel, _Ready] = WeakKeyDictionary()
_WHY: WeakKeyDictionary[FlatModel, str] = WeakKeyDictionary()
_PREPARING = RLock()  # held where the module itself is run


def why_functional(model: FlatModel) -> str:
    """Why a model is computed by `torch.func`; "" as long as it is not."""
    return _WHY.get(model, "")


@contextmanager
def _kernel(model: FlatModel, local: Tensor, batch: Batch) -> Iterator[Kernel]:
    """A kernel for this model: chosen and tried out at its first batch, then lent to one at a time."""
    kind, ready = (local.dtype, local.device), _READY.get(model, {})
    if kind not in ready:
        with _PREPARING:
            ready = _READY.setdefault(model, {})
            if kind not in ready:
                ready[kind] = _prepared(model, local, batch)
    kernels = ready[kind]
    if kernels is None:
        yield _Functional(model)
        return
    try:
        kernel = kernels.free.pop()
    except IndexError:  # other threads have the others
        with _PREPARING:
            kernel = kernels.make(model)
    yield kernel
    kernels.free.append(kernel)


def chain_of(cohort: Cohort, local: Float[Tensor, "K d"]) -> Chain | None:
    """The compiled kernel of the cohort's model, tried out; None where it has another."""
    kind = local.dtype, local.device
    if kind not in _READY.get(cohort.model, {}):
        with _kernel(cohort.model, local, cohort.shuffled_batch(0)):
            pass
    kernels = _READY[cohort.model][kind]
    return kernels.first if kernels and isinstance(kernels.first, Chain) else None


def _prepared(model: FlatModel, local: Tensor, batch: Batch) -> _Kernels | None:
    """Kernels of the first kind that computes this model as one backward pass a record does."""
    example, like = batch.x.flatten(0, 1)[[0, -1]], local.new_empty(0)
    for kind in (Chain, StackedModel):
        try:
            kernel = kind(model, example, like)
            verify(kernel, model, local, batch)
        except Exception as reason:  # whatever a user's module raises where its layers are replaced
            if kind is StackedModel:
                _tell(model, reason)
        else:
            return _Kernels(kernel, partial(kind, example=example, like=like), [kernel])
    return None


def _give_up(model: FlatModel, local: Tensor, reason: Exception) -> None:
    """From now on by `torch.func`: a batch has come that the chosen kernel cannot compute."""
    _READY[model][local.dtype, local.device] = None
    _tell(model, reason)


def _tell(model: FlatModel, reason: Exception) -> None:
    told = _WHY[model] = str(reason) if isinstance(reason, NotStacked) else what_failed(reason)
    warnings.warn(
        f"{type(model.module).__name__} trains by torch.func, correct but slower: {told}",
        stacklevel=2,
    )
