"""Attacks on records: what dishonest clients do to their training labels before they train honestly."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from fedmodel.errors import FedmodelError

__all__ = ["label_flip"]


def label_flip(
    labels: Int[Tensor, " n"],
    *,
    num_classes: int,
    generator: np.random.Generator,
    share: Annotated[float, Field(gt=0, le=1)] = 1.0,
) -> Int[Tensor, " n"]:
    """Give a share of the records the opposite class: class c becomes C - 1 - c.

    Biggio et al., ICML 2012 (label flips); as a federated attack Tolpegin et al., ESORICS 2020.

    Raises:
        FedmodelError: `share` is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise FedmodelError(
            f"label_flip cannot flip a share of {share}", fix="Choose 0 < share <= 1."
        )
    chosen = torch.from_numpy(generator.random(len(labels)) < share)
    return torch.where(chosen, num_classes - 1 - labels, labels)
