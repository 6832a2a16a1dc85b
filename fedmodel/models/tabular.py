"""Models of tables: a row of features in, a logit a class out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

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
) -> nn.Module:
    """Linear layers with ReLU between them; dropout after each hidden layer where asked for."""
    layers: list[nn.Module] = []
    width = num_features
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
