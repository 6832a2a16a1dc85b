"""Weighted averages of the updates: what a server does that trusts its clients."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["mean"]


def mean(delta: Float[Tensor, "K d"], *, weights: Float[Tensor, " K"]) -> Float[Tensor, " d"]:
    """Average the updates by weight (FedAvg: McMahan et al., AISTATS 2017, Algorithm 1).

    No bound on what one dishonest client can do.

    >>> import torch
    >>> mean(torch.tensor([[1.0], [4.0]]), weights=torch.tensor([2.0, 1.0]))
    tensor([2.])
    """
    return (weights / weights.sum()) @ delta
