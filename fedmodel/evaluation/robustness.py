"""What dishonest clients achieved: the others' accuracy, and the attackers' share of an aggregate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedmodel.errors import FedmodelError
from fedmodel.evaluation.performance import accuracy_score
from fedmodel.evaluation.spread import worst_decile
from fedmodel.evaluation.tables import rows
from fedmodel.types import Counts

__all__ = ["aggregate_share", "honest_rows"]


def honest_rows(
    counts: Counts, dishonest: Bool[Tensor, " K"], *, round: int, split: str, model: str
) -> pd.DataFrame:
    """The model as the honest clients have it: two global rows of the tidy table.

    ``honest_accuracy`` is the accuracy on their pooled records, ``honest_accuracy_worst_decile``
    the mean over the worst off tenth of them (`spread.worst_decile`); NaN where they have no
    records. Raises `FedmodelError` where the mask is not of these clients.
    """
    if len(dishonest) != len(counts.loss):
        raise FedmodelError(
            f"a mask of {len(dishonest)} clients does not fit counts of {len(counts.loss)}",
            fix="Say of every client whether it is dishonest.",
        )
    confusion = counts.confusion[~dishonest].sum(1)
    noise = counts.noise * counts.confusion.shape[1] ** 0.5  # of the sum over the groups
    worst = worst_decile(accuracy_score(confusion, noise=noise))
    together = accuracy_score(confusion.sum(0), noise=noise * len(confusion) ** 0.5)
    values = {
        "honest_accuracy": together[None],
        "honest_accuracy_worst_decile": torch.tensor([worst], dtype=torch.float64),
    }
    return rows(values, scope="global", keys=[""], round=round, split=split, model=model)


def aggregate_share(
    aggregate: Callable[[Bool[Tensor, " K"]], Float[Tensor, " d"]], dishonest: Bool[Tensor, " K"]
) -> Float[Tensor, " M"]:
    """Each attacker's share of an aggregate, in the order of the M dishonest clients, in float64.

    ``aggregate(keep)`` aggregates the updates of the clients in the mask ``keep [K]``. Attacker
    k's share is ``|A - A_k| / |A|`` with the aggregate A of all clients and A_k of all but k, in
    Euclidean norms. It can exceed 1. NaN where A is zero, and where the others are too few for the
    aggregator; 1 for a client that is alone, without which there is no update. For a mean with weights v of updates x it is
    ``v_k |x_k - A| / ((sum v - v_k) |A|)``.

    >>> updates = torch.tensor([[1.0], [1.0], [4.0]])
    >>> attackers = torch.tensor([False, False, True])
    >>> aggregate_share(lambda keep: updates[keep].mean(0), attackers).tolist()
    [0.5]
    """
    everybody = torch.ones_like(dishonest)
    whole = aggregate(everybody).double()
    shares = []
    for attacker in dishonest.nonzero().flatten().tolist():
        keep = everybody.clone()
        keep[attacker] = False
        try:
            without = aggregate(keep).double() if keep.any() else torch.zeros_like(whole)
        except FedmodelError:  # an aggregator that needs as many as there are
            without = torch.full_like(whole, torch.nan)
        shares.append(torch.linalg.vector_norm(whole - without))
    norm = torch.linalg.vector_norm(whole).item() or math.nan  # a share of nothing is undefined
    return torch.stack(shares) / norm if shares else whole.new_zeros(0)
