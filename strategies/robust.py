"""Aggregators that survive some dishonest clients. Each is a function of the updates [K, d]."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fedmodel.errors import FedmodelError

__all__ = ["coordinate_median", "trimmed_mean"]


def trimmed_mean(
    delta: Float[Tensor, "K d"], *, fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
) -> Float[Tensor, " d"]:
    """Average each coordinate without its extremes (Yin et al., ICML 2018, Definition 2).

    1. Sort the K values of each coordinate.
    2. Drop ``floor(fraction * K)`` values at both ends.
    3. Average the rest. Record counts play no part: a liar could claim many.

    Holds while fewer than ``fraction * K`` clients are dishonest.

    Raises:
        FedmodelError: `fraction` is outside [0, 0.5), or nothing would be left.

    >>> import torch
    >>> trimmed_mean(torch.tensor([[1.0], [2.0], [900.0]]), fraction=0.34)
    tensor([2.])
    """
    num_clients = len(delta)
    # 0.3 * 10 is 2.9999999999999996 in floats and means three.
    cut = int(fraction * num_clients + 1e-9)
    if not (0 <= fraction < 0.5 and 2 * cut < num_clients):
        raise FedmodelError(
            f"trimmed_mean with fraction = {fraction} drops {2 * cut} of {num_clients} clients",
            where="[strategy] combine",
            fix="Choose 0 <= fraction < 0.5.",
        )
    return delta.sort(dim=0).values[cut : num_clients - cut].mean(dim=0)


def coordinate_median(delta: Float[Tensor, "K d"]) -> Float[Tensor, " d"]:
    """Median of each coordinate; the mean of the middle two for even K (Yin et al., ICML 2018, Definition 1).

    Holds while fewer than half of the clients are dishonest.

    >>> import torch
    >>> coordinate_median(torch.tensor([[1.0], [2.0], [3.0], [900.0]]))
    tensor([2.5000])
    """
    ordered = delta.sort(dim=0).values
    num_clients = len(delta)
    return (ordered[(num_clients - 1) // 2] + ordered[num_clients // 2]) / 2
