"""Aggregators that survive some dishonest clients. Each is a function of the updates [K, d]."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from fedmodel.errors import FedmodelError

__all__ = ["coordinate_median", "krum", "multi_krum", "trimmed_mean"]

# How many clients are assumed to be dishonest: a whole number of them, or a share.
Dishonest = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=0.5)]

_COLUMNS = 1 << 16  # coordinates that are held in float64 at a time


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

    >>> coordinate_median(torch.tensor([[1.0], [2.0], [3.0], [900.0]]))
    tensor([2.5000])
    """
    ordered = delta.sort(dim=0).values
    num_clients = len(delta)
    return (ordered[(num_clients - 1) // 2] + ordered[num_clients // 2]) / 2


def krum(delta: Float[Tensor, "K d"], *, dishonest: Dishonest = 0.2) -> Float[Tensor, " d"]:
    """The one update that lies closest to its neighbours (Blanchard et al., NeurIPS 2017, Section 4).

    1. Let f clients be `dishonest`: a number, or a share of K, rounded down.
    2. Score each update by the sum of its squared distances to the K - f - 2 nearest others.
    3. Take the one with the lowest score, of equals the first. Record counts play no part.

    Holds for K >= 2f + 3 with at most f dishonest clients, and honest updates that are drawn alike
    and scatter little compared with their mean (Proposition 1). An update with a number that is not
    finite is never taken while others are. A client that is alone gets its own update.

    Raises:
        FedmodelError: fewer than 2f + 3 clients.

    >>> krum(torch.tensor([[1.0], [1.1], [1.3], [1.6], [900.0]]), dishonest=1)
    tensor([1.1000])
    """
    return delta[_by_score("krum", delta, dishonest)[0]].clone()


def multi_krum(
    delta: Float[Tensor, "K d"], *, dishonest: Dishonest = 0.2, keep: PositiveInt | None = None
) -> Float[Tensor, " d"]:
    """The mean of the `keep` updates that `krum` scores lowest (Blanchard et al., NeurIPS 2017, Section 5).

    Without `keep` (m in the paper) all but the f dishonest are averaged. The mean of more updates
    varies less; with ``keep = 1`` it is `krum`. Assumes and scores the same.

    Raises:
        FedmodelError: fewer than 2f + 3 clients, or `keep` leaves none out that f says is dishonest.

    >>> multi_krum(torch.tensor([[1.0], [1.1], [1.3], [1.6], [900.0]]), dishonest=1)
    tensor([1.2500])
    """
    order = _by_score("multi_krum", delta, dishonest)
    most = len(delta) - _number(dishonest, len(delta))
    if keep is not None and not 1 <= keep <= most:
        raise FedmodelError(
            f"multi_krum cannot keep {keep} of {len(delta)} clients of which {len(delta) - most} are "
            "assumed dishonest",
            where="[strategy] combine",
            fix=f"Choose 1 <= keep <= {most}, or drop `keep`.",
        )
    return delta[order[: keep or most]].mean(dim=0)


def _number(dishonest: int | float, num_clients: int) -> int:
    """f: a share is rounded down, but 0.3 of 10 is three."""
    return dishonest if isinstance(dishonest, int) else int(dishonest * num_clients + 1e-9)


def _by_score(name: str, delta: Float[Tensor, "K d"], dishonest: int | float) -> list[int]:
    """The clients from the lowest to the highest Krum score; equals in their order."""
    num_clients, number = len(delta), _number(dishonest, len(delta))
    if number < 0 or (num_clients < 2 * number + 3 and (num_clients > 1 or number)):
        fewer = max(0, (num_clients - 3) // 2)
        raise FedmodelError(
            f"{name} with {number} dishonest clients needs {2 * number + 3} in a round, "
            f"and there are {num_clients}",
            where="[strategy] combine",
            fix=f"Set dishonest = {fewer}, or let more clients take part."
            if num_clients >= 3
            else "Let three clients or more take part, or combine with another aggregator.",
        )
    if num_clients == 1:
        return [0]
    nearest = _squared_distances(delta).sort(dim=1).values[:, : num_clients - number - 2]
    return nearest.sum(dim=1).argsort(stable=True).tolist()


def _squared_distances(delta: Float[Tensor, "K d"]) -> Float[Tensor, "K K"]:
    """|x_i - x_j|^2 in float64, infinite to itself and to what is not finite, from inner products.

    No block [K, K, d]: float64 leaves 16 digits for what |x_i|^2 + |x_j|^2 - 2 x_i x_j cancels.
    """
    products = delta.new_zeros(len(delta), len(delta), dtype=torch.float64)
    for columns in delta.split(_COLUMNS, dim=1):
        wide = columns.double()
        products.addmm_(wide, wide.T)
    norms = products.diagonal()
    squared = (norms[:, None] + norms - 2 * products).clamp(min=0)
    return squared.nan_to_num(nan=torch.inf, posinf=torch.inf).fill_diagonal_(torch.inf)
