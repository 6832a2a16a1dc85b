"""Layers that normalise each record by itself, then scale and shift by parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.step import NotStacked, Step
from fedmodel.cohort.leaves.uses import Summed

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]


class _Norm(Leaf):
    """``w n + b`` with `n` the normalised input, and `w` and `b` of the shape of its last dimensions."""

    def normalise(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def answer(self, x: Tensor) -> Tensor:
        return super().answer(self.normalise(x))

    def value(self, x: Tensor) -> Tensor:
        weight, bias = self.beside(x, "weight"), self.optional("bias")
        return x * weight if bias is None else torch.addcmul(self.beside(x, "bias"), x, weight)

    def pull(self, g: Tensor, x: Tensor, *, wanted: bool) -> Tensor | None:
        self.note("weight", Summed(self.over_time(g * x)))
        self.note("bias", Summed(self.over_time(g)))
        return g * self.beside(x, "weight") if wanted else None

    def beside(self, x: Tensor, name: str) -> Tensor:
        """Each row's parameter, of a shape to go with `x`."""
        own = self.rows.spread(self.parameter(name), times=len(x) // self.rows.number)
        return self.aligned(own, x.dim())

    def aligned(self, own: Float[Tensor, "rows ..."], dims: int) -> Tensor:
        return own.view(len(own), *(1,) * (dims - own.dim()), *own.shape[1:])

    def over_time(self, g: Tensor) -> Float[Tensor, "R T ..."]:
        return self.rows.over_time(g, kept=self.layer.weight.dim())


class LayerNorm(_Norm):
    """Over the last dimensions (Ba et al. 2016)."""

    def normalise(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.layer.normalized_shape, eps=self.layer.eps)


class RMSNorm(_Norm):
    """By the root mean square of the last dimensions (Zhang and Sennrich 2019)."""

    def normalise(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.layer.normalized_shape, eps=self.layer.eps)


class _ChannelNorm(_Norm):
    """With a parameter for each channel, which is the first dimension of a record."""

    own_row_dim = 0

    def aligned(self, own: Float[Tensor, "rows C"], dims: int) -> Tensor:
        return own.view(*own.shape, *(1,) * (dims - 2))

    def over_time(self, g: Tensor) -> Float[Tensor, "R T C"]:
        return self.rows.over_time(g.flatten(2).sum(2) if g.dim() > 2 else g)


class GroupNorm(_ChannelNorm):
    """Over groups of channels (Wu and He 2018)."""

    def normalise(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, self.layer.num_groups, eps=self.layer.eps)


class InstanceNorm(_ChannelNorm):
    """Over each channel's positions (Ulyanov et al. 2016)."""

    def __init__(self, layer: nn.Module, step: Step, names: Mapping[str, str]) -> None:
        if layer.track_running_stats:
            raise NotStacked("it keeps running statistics")
        super().__init__(layer, step, names)

    def normalise(self, x: Tensor) -> Tensor:
        return functional.instance_norm(x, eps=self.layer.eps)
