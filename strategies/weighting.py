"""How much each client's update counts: functions of the clients' reports to weights [K]."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["by_records", "equal"]


def by_records(reports: Mapping[str, Tensor]) -> Float[Tensor, " K"]:
    """In proportion to the training records (FedAvg: McMahan et al., AISTATS 2017).

    The number of records is public; a dishonest client can claim many.
    """
    return reports["num_records"].float()


def equal(reports: Mapping[str, Tensor]) -> Float[Tensor, " K"]:
    """Every client counts the same, however many records it has."""
    return torch.ones_like(reports["num_records"], dtype=torch.float32)
