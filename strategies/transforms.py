"""What is done to the updates before they are combined: functions from [K, d] to [K, d]."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from fedmodel.errors import FedmodelError
from fedmodel.privacy.updates import clip_rows

__all__ = ["clip_norm"]


def clip_norm(delta: Float[Tensor, "K d"], *, bound: PositiveFloat) -> Float[Tensor, "K d"]:
    """Scale down every update that is longer than `bound` (Sun et al., 2019, norm thresholding).

    Limits what one client can do to the mean to ``bound / K`` times its weight.

    Raises:
        FedmodelError: `bound` is not positive.

    >>> import torch
    >>> clip_norm(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), bound=1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    if not bound > 0:
        raise FedmodelError(
            f"clip_norm cannot clip to {bound}", where="[strategy] before", fix="Choose bound > 0."
        )
    return clip_rows(delta, bound=bound)
