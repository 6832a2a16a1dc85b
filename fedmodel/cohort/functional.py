"""Gradients of all clients of a cohort at once, by `torch.func`: one vmap over clients, one over records.

The kernel works for any module that `torch.func` can trace, so it is also the oracle of faster ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torch.nn.functional import cross_entropy

from fedmodel.cohort.clipping import ClippingStyle, record_factors
from fedmodel.cohort.cohort import Batch
from fedmodel.cohort.dropout import dropout_keys
from fedmodel.cohort.model import FlatModel
from fedmodel.cohort.precision import Precision, products

__all__ = ["clipped_gradient_sum", "loss_sum_gradient"]


def loss_sum_gradient(
    model: FlatModel, local: Float[Tensor, "K d"], batch: Batch
) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
    """Gradient and value of each client's summed loss over its records in the batch."""

    def client_loss(parameters, x, y, present, keys, weight):
        with dropout_keys(model.module, keys):
            losses = cross_entropy(model.logits(parameters, x), y, reduction="none")
        losses = torch.where(present, losses, 0.0)
        return (losses * weight).sum(), losses.sum()

    model.shared(local.device)  # copied here, not among what `torch.func` keeps track of
    with products(_precision(model), local.device):
        gradients, (_, loss) = vmap(grad_and_value(client_loss, has_aux=True))(
            model.split(local),
            _like(batch.x, local),
            batch.y,
            batch.present,
            batch.keys,
            _weight(batch, local),
        )
    return _rows(model, gradients, len(local)), loss


def clipped_gradient_sum(
    model: FlatModel,
    local: Float[Tensor, "K d"],
    batch: Batch,
    *,
    clip: float,
    style: ClippingStyle = "flat",
    budget: int,
) -> Float[Tensor, "K d"]:
    """Sum over a client's records of the gradient, each scaled to the bound; so many bytes at once."""
    num_clients, batch_size = batch.y.shape
    total = torch.zeros_like(local)
    row = local.element_size() * model.size
    clients = max(1, budget // (row * max(1, batch_size)))
    records = max(1, budget // row)
    for first in range(0, num_clients, clients):
        rows = slice(first, first + clients)
        for begin in range(0, batch_size, records):
            part = batch.part(rows, slice(begin, begin + records))
            with products("float32", local.device):  # norms and sums bound what a record adds
                total[rows] += _clipped(model, local[rows], part, clip, style)
    return total


def _clipped(
    model: FlatModel, local: Tensor, batch: Batch, clip: float, style: ClippingStyle
) -> Float[Tensor, "K d"]:
    def record_loss(parameters, x, y, key, weight):
        with dropout_keys(model.module, key[None]):
            return weight * cross_entropy(model.logits(parameters, x[None]), y[None])

    per_record = vmap(vmap(grad(record_loss), in_dims=(None, 0, 0, 0, 0)))
    model.shared(local.device)
    with products(_precision(model), local.device):
        x, weight = _like(batch.x, local), _weight(batch, local)
        gradients = per_record(model.split(local), x, batch.y, batch.keys, weight)
    flat = {name: gradient.flatten(2) for name, gradient in gradients.items()}  # [K, B, size]
    squared = {name: gradient.square().sum(2) for name, gradient in flat.items()}
    factors = record_factors(squared, clip=clip, style=style)
    # Absent slots may hold anything (their gradient is of a padding record): factor 0.
    summed = {
        name: torch.bmm(torch.where(batch.present, factors[name], 0.0)[:, None], gradient)
        for name, gradient in flat.items()
    }
    return _rows(model, summed, len(local))


def _precision(model: FlatModel) -> Precision:
    """Not bf16: `torch.func` takes no mixture of dtypes (`fedmodel.cohort.trial` refuses it before)."""
    return "float32" if model.precision == "bf16" else model.precision


def _like(x: Tensor, local: Tensor) -> Tensor:
    return x.to(local.dtype) if x.is_floating_point() else x


def _weight(batch: Batch, local: Tensor) -> Float[Tensor, "K B"]:
    if batch.weight is not None:
        return batch.weight.to(local.dtype)
    return torch.ones(batch.y.shape, dtype=local.dtype, device=local.device)


def _rows(model: FlatModel, gradients: Mapping[str, Tensor], num_clients: int) -> Tensor:
    return torch.cat([gradients[name].reshape(num_clients, -1) for name in model.names], dim=1)
