"""How strongly each record's gradient is scaled, from its squared norm parameter by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Literal

from jaxtyping import Float
from torch import Tensor

__all__ = ["ClippingStyle", "record_factors"]

ClippingStyle = Literal["flat", "per_layer", "automatic"]

AUTOMATIC_STABILITY = 0.01  # gamma of Bu et al. 2023


def record_factors(
    squared: Mapping[str, Float[Tensor, "*records"]], *, clip: float, style: ClippingStyle = "flat"
) -> dict[str, Float[Tensor, "*records"]]:
    """A factor for each record and parameter; the scaled gradient's norm is at most `clip`.

    - ``flat``: min(1, clip / norm) (Abadi et al., CCS 2016, Algorithm 1).
    - ``per_layer``: the same with each layer's own norm and clip / sqrt(number of layers)
      (McMahan et al., ICLR 2018).
    - ``automatic``: clip / (norm + 0.01), which scales small gradients up (Bu et al., NeurIPS 2023,
      AUTO-S).

    >>> import torch
    >>> record_factors({"w": torch.tensor([0.09, 25.0])}, clip=1.0)["w"]
    tensor([1.0000, 0.2000])
    """
    if style == "per_layer":
        layers = {name: name.rpartition(".")[0] for name in squared}
    else:
        layers = dict.fromkeys(squared, "")
    totals: dict[str, Tensor] = {}
    for name, layer in layers.items():
        totals[layer] = totals[layer] + squared[name] if layer in totals else squared[name]
    bound = clip / sqrt(len(totals))
    factors = {layer: _factor(total.sqrt(), bound, style) for layer, total in totals.items()}
    return {name: factors[layer] for name, layer in layers.items()}


def _factor(norm: Tensor, bound: float, style: ClippingStyle) -> Tensor:
    if style == "automatic":
        return bound / (norm + AUTOMATIC_STABILITY)
    return (bound / norm.clamp(min=1e-12)).clamp(max=1.0)
