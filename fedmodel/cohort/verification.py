"""Before a kernel is trusted with a model: a few records against one backward pass each."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmodel.cohort.clipping import ClippingStyle
from fedmodel.cohort.cohort import Batch
from fedmodel.cohort.dropout import dropout_keys
from fedmodel.cohort.leaves import NotStacked
from fedmodel.cohort.model import FlatModel
from fedmodel.cohort.precision import exact

__all__ = ["Kernel", "verify"]

TOLERANCE = 1e-3  # relative; what goes wrong in a model's structure is no matter of rounding


@runtime_checkable
class Kernel(Protocol):
    """What computes the gradients of a cohort."""

    def loss_sum_gradient(
        self,
        local: Float[Tensor, "K d"],
        batch: Batch,
        *,
        weight: Float[Tensor, " K"] | None = None,
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]: ...

    def clipped_gradient_sum(
        self, local: Float[Tensor, "K d"], batch: Batch, *, clip: float, style: ClippingStyle
    ) -> Float[Tensor, "K d"]: ...


@exact()
def verify(kernel: Kernel, model: FlatModel, local: Float[Tensor, "K d"], batch: Batch) -> None:
    """Compare the sum of gradients and of clipped gradients of two clients with three records.

    The clients' parameters are moved apart, so that no client can pass for the other.

    Raises:
        NotStacked: they differ; the parameter is named.
    """
    clients, slots = [0, -1], [0, min(1, batch.y.shape[1] - 1)]
    draw = torch.Generator().manual_seed(0)
    moved = torch.randn(2, model.size, generator=draw).to(local).mul_(0.01)
    moved += local[clients]
    few = Batch(
        batch.x[clients][:, slots],
        batch.y[clients][:, slots],
        present=torch.tensor([[True, True], [True, False]], device=local.device),
        keys=batch.keys[clients][:, slots],
        active=batch.active[clients],
    )
    gradients = torch.stack(
        [_one_backward(model, moved[k], few, k, slot) for k, slot in ((0, 0), (0, 1), (1, 0))]
    )
    norms = gradients.norm(dim=1)
    _compare(model, kernel.loss_sum_gradient(moved, few)[0], gradients)
    clip = float(norms.nan_to_num(posinf=0.0).max()) / 2
    if clip > 0:
        clipped = gradients * (clip / norms.clamp(min=clip))[:, None]
        _compare(model, kernel.clipped_gradient_sum(moved, few, clip=clip, style="flat"), clipped)


def _one_backward(
    model: FlatModel, vector: Float[Tensor, " d"], batch: Batch, client: int, slot: int
) -> Float[Tensor, " d"]:
    parameters = {n: p.clone().requires_grad_() for n, p in model.split(vector).items()}
    x, y = batch.x[client, slot][None], batch.y[client, slot][None]
    with dropout_keys(model.module, batch.keys[client, slot][None]):
        logits = model.logits(parameters, x.to(vector.dtype) if x.is_floating_point() else x)
    leaves = list(parameters.values())
    found = torch.autograd.grad(cross_entropy(logits, y), leaves, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def _compare(model: FlatModel, found: Float[Tensor, "K d"], records: Float[Tensor, "n d"]) -> None:
    """The three records are the first client's two and the second's one."""
    expected = torch.stack([records[:2].sum(0), records[2]])
    scale = expected.norm(dim=1)
    for name, right in model.split(expected).items():
        right, other = right.flatten(1), model.split(found)[name].flatten(1)
        off = (other - right).norm(dim=1)
        close = off <= TOLERANCE * right.norm(dim=1) + TOLERANCE**2 * scale
        if (~close & scale.isfinite()).any():
            raise NotStacked(f"the gradient of {name} differs from one backward pass a record")
