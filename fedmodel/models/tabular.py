"""Models of tables: a row of features in, a logit a class out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import nn

from fedmodel.errors import FedmodelError

__all__ = ["logistic", "mlp"]


def logistic(*, num_features: int, num_classes: int) -> nn.Module:
    """Multinomial logistic regression: one linear layer."""
    return nn.Linear(num_features, num_classes)


def mlp(
    *,
    num_features: int,
    num_classes: int,
    hidden: Sequence[PositiveInt] = (64, 32),
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    normalise: Literal["none", "layer", "group"] = "none",
    groups: PositiveInt = 8,
) -> nn.Module:
    """Linear layers with ReLU between them; dropout after each hidden layer where asked for.

    `normalise` brings what each linear layer gives out to mean 0 and variance 1 before ReLU, over all
    its numbers ("layer": Ba et al. 2016) or in `groups` of equal size ("group": Wu and He, ECCV 2018).
    Each record by itself, so that DP-SGD and clients with other records can train it, unlike
    BatchNorm. Raises FedmodelError where `groups` do not divide a layer, or leave one number a group.
    """
    layers: list[nn.Module] = []
    width = num_features
    for size in hidden:
        layers.append(nn.Linear(width, size))
        if normalise == "layer":
            layers.append(nn.LayerNorm(size))
        elif normalise == "group":
            layers.append(_group_norm(size, groups))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def _group_norm(size: int, groups: int) -> nn.GroupNorm:
    if size % groups or size == groups:
        possible = ", ".join(str(n) for n in range(1, size // 2 + 1) if size % n == 0)
        raise FedmodelError(
            f"{groups} groups of two numbers or more cannot be made of a layer of {size}",
            where="[model] groups",
            fix=f"Choose one of {possible}, or other sizes in `hidden`."
            if possible
            else "Choose larger sizes in `hidden`.",
        )
    return nn.GroupNorm(groups, size)
