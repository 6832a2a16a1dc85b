"""Convolutions over one, two or three dimensions, each client by itself (faster than grouped ones)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.rows import Rows
from fedmodel.cohort.leaves.uses import Outer, Summed, Use, parts

__all__ = ["Convolution"]


class Convolution(Leaf):
    """Conv1d, Conv2d and Conv3d with stride, padding, dilation and groups."""

    own_row_dim = 0

    @cached_property
    def pads_first(self) -> bool:
        """Whether the input is padded by itself: otherwise than by zeros, or unevenly."""
        return self.layer.padding_mode != "zeros" or isinstance(self.layer.padding, str)

    @cached_property
    def geometry(self) -> Geometry:
        layer = self.layer
        none = (0,) * len(layer.kernel_size)
        padding = none if self.pads_first else layer.padding
        return Geometry(layer.kernel_size, layer.stride, padding, layer.dilation, layer.groups)

    def answer(self, x: Tensor) -> Tensor:
        if self.pads_first:
            mode = self.layer.padding_mode
            sizes = self.layer._reversed_padding_repeated_twice
            x = functional.pad(x, sizes, mode="constant" if mode == "zeros" else mode)
        return super().answer(x)

    def value(self, x: Tensor) -> Tensor:
        weights, bias = self.parameter("weight"), self.optional("bias")
        biases = [None] * len(weights) if bias is None else bias
        answers = [
            torch.convolution(channels_last(own), weight, bias, *self.geometry.arguments)
            for own, weight, bias in zip(self.rows.split(x), weights, biases)
        ]
        return torch.cat(answers)

    def pull(self, g: Tensor, x: Tensor, *, wanted: bool) -> Tensor | None:
        self.note("weight", Windows(g, x, self.geometry, len(x) // self.rows.number))
        self.note("bias", Summed(self.rows.over_time(g.flatten(2).sum(2))))
        if not wanted:
            return None
        gradients = [
            self.geometry.backward(back, own, weight, (True, False, False))[0]
            for back, own, weight in zip(
                self.rows.split(g), self.rows.split(x), self.parameter("weight")
            )
        ]
        return torch.cat(gradients)


@dataclass(frozen=True)
class Geometry:
    """What a convolution does besides its weights."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of torch.convolution, from the stride on."""
        none = (0,) * len(self.size)
        return self.stride, self.padding, self.dilation, False, none, self.groups

    def backward(self, g: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, ...]) -> Any:
        """The gradients of the input, the weight and the bias that are wanted."""
        return torch.ops.aten.convolution_backward(
            channels_last(g), channels_last(x), weight, None, *self.arguments, wanted
        )

    def windows(self, x: Float[Tensor, "N C *in"]) -> Float[Tensor, "N groups T m"]:
        """What each output position sees (im2col), channels last. Laid out so that what is copied at
        once is long: either a window's row with its channels, or a row of positions."""
        x = functional.pad(x, [side for p in reversed(self.padding) for side in (p, p)])
        places, channels = len(self.size), x.shape[1] // self.groups
        by_window = self.size[-1] * channels >= x.shape[-1] // self.stride[-1]
        x = x.movedim(1, -1).contiguous().movedim(-1, 1) if by_window else x.contiguous()
        for dim, (size, stride, dilation) in enumerate(zip(self.size, self.stride, self.dilation)):
            x = x.unfold(2 + dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
        x = x.unflatten(1, (self.groups, channels)).movedim(2, -1)  # [N, groups, *out, *size, c]
        if by_window:
            return x.flatten(2 + places).flatten(2, 1 + places)
        out = list(range(2, 2 + places))
        behind = x.movedim(out, list(range(-places, 0)))  # [N, groups, *size, c, *out]
        return behind.flatten(-places).flatten(2, -2).mT


@dataclass(slots=True)
class Windows(Use):
    """A kernel that convolves: a matrix that multiplies every window of the input."""

    g: Float[Tensor, "N O *out"]
    x: Float[Tensor, "N C *in"]
    geometry: Geometry
    times: int = 1  # inputs of a row

    def squared_norm(self) -> Float[Tensor, " R"]:
        number = len(self.x) // self.times
        elements = self.times * prod(self.g.shape[2:]) * self.x.shape[1] * prod(self.geometry.size)
        norms = [
            self.outer(part).squared_norm().view(-1, self.geometry.groups).sum(1)
            for part in parts(self.x[:number], elements)
        ]
        return torch.cat(norms)

    def row_gradients(self, part: slice) -> Float[Tensor, " r *shape"]:
        flat = self.outer(part).row_gradients(slice(None))
        return flat.view(
            -1, self.g.shape[1], *self.geometry.size, flat.shape[-1] // prod(self.geometry.size)
        ).movedim(-1, 2)

    def outer(self, part: slice) -> Outer:
        """Some rows' use as that of a matrix, a row for each of its groups."""
        some = slice(part.start * self.times, part.stop * self.times)
        g = self.g[some].flatten(2).unflatten(1, (self.geometry.groups, -1)).mT
        return Outer(self._by_row(g), self._by_row(self.geometry.windows(self.x[some])))

    def _by_row(self, values: Float[Tensor, "N groups T n"]) -> Float[Tensor, "r times n"]:
        return values.unflatten(0, (-1, self.times)).transpose(1, 2).flatten(0, 1).flatten(1, 2)

    def total(
        self, rows: Rows, out: Float[Tensor, " K *shape"], factor: Tensor | None = None
    ) -> None:
        g, x, geometry = self.g, self.x, self.geometry
        if factor is not None:  # the gradient is linear in both: scale the smaller
            scale = factor.repeat_interleave(self.times).view(-1, *(1,) * (g.dim() - 1))
            g, x = (g * scale, x) if g.numel() <= x.numel() else (g, x * scale)
        # Only its shape matters where the weight's own gradient is wanted.
        weight = g.new_empty(g.shape[1], x.shape[1] // geometry.groups, *geometry.size)
        for total, back, own in zip(out, rows.split(g), rows.split(x)):
            total.copy_(geometry.backward(back, own, weight, (False, True, False))[1])


def channels_last(x: Tensor) -> Tensor:
    """Images with their channels as the last dimension in memory, which pooling and convolutions like
    best. With a single channel both orders are the same memory, and only the strides tell."""
    if x.dim() != 4:
        return x
    if x.shape[1] == 1:
        _, _, height, width = x.shape
        return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return x.contiguous(memory_format=torch.channels_last)
