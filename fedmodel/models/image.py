"""Models of images: a row of pixels in, a logit a class out."""

from __future__ import annotations

from math import ceil, isqrt
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from fedmodel.errors import FedmodelError

__all__ = ["cnn"]


def cnn(
    *,
    num_features: int,
    num_classes: int,
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32),
) -> nn.Module:
    """Convolutions of 3 x 3 with ReLU, each halved by maximum pooling; then one linear layer.

    For square grey images, given row by row. Raises FedmodelError where the number of pixels is
    no square.
    """
    side = isqrt(num_features)
    if side**2 != num_features:
        raise FedmodelError(
            f"cnn reads square images, and {num_features} numbers make no square",
            where="[model] name",
            fix='Use mlp; or encode = "none", which adds no columns to the pixels.',
        )
    layers: list[nn.Module] = [nn.Unflatten(1, (1, side, side))]
    depth = 1
    for width in channels:
        pool = nn.MaxPool2d(2, ceil_mode=True)
        layers += [nn.Conv2d(depth, width, 3, padding=1), nn.ReLU(), pool]
        depth, side = width, ceil(side / 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * side**2, num_classes))
