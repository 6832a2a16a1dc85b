"""Gradients of all clients of a cohort at once, by `torch.func`: one vmap over clients, one over records.

The kernel works for any module that `torch.func` can trace, so it is also the oracle of faster ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torch.nn.functional import cross_entropy

from fedmodel.cohort.dropout import dropout_keys
from fedmodel.cohort.model import FlatModel

if TYPE_CHECKING:
    from fedmodel.cohort.cohort import Batch, Cohort

__all__ = ["clipped_gradient_sum", "loss_sum_gradient", "mean_gradient"]

# Per-record gradients held at once. Small enough to stay near the caches, large enough that
# Python's share is small (measured on two cores with an MLP of 4,000 parameters).
RECORD_GRADIENT_BYTES = 64 << 20


def mean_gradient(
    cohort: Cohort, local: Float[Tensor, "K d"], batch: Batch
) -> Float[Tensor, "K d"]:
    """Gradient of each client's mean loss over its records in the batch; zero for an empty batch.

    The losses are noted in the cohort as the clients' training loss.
    """
    total, loss = loss_sum_gradient(cohort.model, local, batch)
    number = batch.present.sum(1)
    cohort.note_loss(loss, number)
    return total / number.clamp(min=1)[:, None]


def clipped_gradient_sum(
    cohort: Cohort, local: Float[Tensor, "K d"], batch: Batch, *, clip: float
) -> Float[Tensor, "K d"]:
    """Sum over a client's records of the gradient, each scaled to a norm of at most `clip`.

    The sensitivity of the sum to one record, added or removed, is `clip` (Abadi et al., CCS 2016,
    Algorithm 1). An infinite `clip` gives the plain sum.
    """
    if clip == float("inf"):
        return loss_sum_gradient(cohort.model, local, batch)[0]
    model = cohort.model
    num_clients, batch_size = batch.y.shape
    total = torch.zeros_like(local)
    clients = max(1, RECORD_GRADIENT_BYTES // (4 * model.size * max(1, batch_size)))
    records = max(1, RECORD_GRADIENT_BYTES // (4 * model.size))
    for first in range(0, num_clients, clients):
        rows = slice(first, first + clients)
        for begin in range(0, batch_size, records):
            columns = slice(begin, begin + records)
            total[rows] += _clipped(model, local[rows], batch.part(rows, columns), clip)
    return total


def loss_sum_gradient(
    model: FlatModel, local: Float[Tensor, "K d"], batch: Batch
) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
    """Gradient and value of each client's summed loss over its records in the batch."""

    def client_loss(parameters, x, y, present, keys):
        with dropout_keys(model.module, keys):
            losses = cross_entropy(model.logits(parameters, x), y, reduction="none")
        return (losses * present).sum()

    gradients, loss = vmap(grad_and_value(client_loss))(
        model.split(local), batch.x, batch.y, batch.present, batch.keys
    )
    return _rows(model, gradients, len(local)), loss


def _clipped(model: FlatModel, local: Tensor, batch: Batch, clip: float) -> Tensor:
    def record_loss(parameters, x, y, key):
        with dropout_keys(model.module, key[None]):
            return cross_entropy(model.logits(parameters, x[None]), y[None])

    per_record = vmap(vmap(grad(record_loss), in_dims=(None, 0, 0, 0)))
    gradients = per_record(model.split(local), batch.x, batch.y, batch.keys)
    flat = {name: gradient.flatten(2) for name, gradient in gradients.items()}  # [K, B, size]
    norm = sum((g.square().sum(2) for g in flat.values()), torch.zeros(())).sqrt()
    # Absent slots may hold anything (their gradient is of a padding record): factor 0.
    factor = torch.where(batch.present, (clip / norm.clamp(min=1e-12)).clamp(max=1.0), 0.0)
    summed = {n: torch.bmm(factor[:, None], g).squeeze(1) for n, g in flat.items()}
    return _rows(model, summed, len(local))


def _rows(model: FlatModel, gradients: dict[str, Tensor], num_clients: int) -> Tensor:
    return torch.cat([gradients[name].reshape(num_clients, -1) for name in model.names], dim=1)
