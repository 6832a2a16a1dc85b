"""What the parts of a strategy return, checked: a user's function may return anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmodel.errors import RunFailed

__all__ = ["returned", "weights_returned"]


def returned(made: Any, like: Tensor, *, part: str, key: str, shape: str) -> Tensor:
    """What a part made, if it has the numbers and the shape of `like`; a NumPy array may stand for it.

    `part` and `key` are what the experiment calls it and where; `shape` is in letters, e.g. "[d]".

    Raises:
        RunFailed: it is no tensor, of another shape, or of whole numbers, which would cut a step to 0.
    """
    if isinstance(made, np.ndarray):
        made = torch.from_numpy(made)
    if isinstance(made, Tensor) and made.shape == like.shape and made.is_floating_point():
        return made.to(like)
    got: object = type(made).__name__
    if isinstance(made, Tensor):
        got = f"numbers of type {made.dtype}" if made.shape == like.shape else tuple(made.shape)
    raise RunFailed(
        f"{part} returned {got}",
        where=f"[strategy] {key}",
        fix=f"It must return a tensor {shape} = {tuple(like.shape)} of floating-point numbers.",
    )


def weights_returned(made: Any, like: Tensor, *, part: str) -> Tensor:
    """Weights of K clients, of the kind of `like` [K].

    Raises:
        RunFailed: they are no weights: another shape, a negative one or NaN, or 0 for everybody.
    """
    if isinstance(made, Tensor) and not made.is_floating_point():
        made = made.to(like)  # numbers of records
    weights = returned(made, like, part=part, key="weigh", shape="[K]")
    if not (bool((weights >= 0).all()) and 0 < float(weights.sum()) < float("inf")):
        raise RunFailed(
            f"{part} returned the weights {weights.tolist()[:10]}",
            where="[strategy] weigh",
            fix="Weights are finite numbers of 0 or more, not all of them 0.",
        )
    return weights
