"""From a module to the tables that the compiled loops read, if it is a chain of layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from torch import Size, nn

from fedmodel.cohort.activation_loops import NONE, RELU, SIGMOID, TANH
from fedmodel.cohort.chain_loops import Row
from fedmodel.cohort.image_loops import Shape
from fedmodel.cohort.leaves import NotStacked
from fedmodel.cohort.model import FlatModel

__all__ = ["Layers"]

_ACTIVATIONS: dict[type[nn.Module], int] = {nn.ReLU: RELU, nn.Tanh: TANH, nn.Sigmoid: SIGMOID}
_LINEAR = Shape(*[0] * len(Shape._fields))


@dataclass
class _Layer:
    weight: int
    bias: int
    shape: Shape
    inputs: int
    outputs: int
    activation: int = NONE


class Layers:
    """The layers of a chain: convolutions of images, then linear layers, activations between them.

    Raises:
        NotStacked: the module is something else.
    """

    def __init__(self, model: FlatModel, record: Size) -> None:
        starts = np.cumsum([0, *model.counts])[:-1].tolist()
        self._free = {id(model.module.get_parameter(n)): at for n, at in zip(model.names, starts)}
        self._layers: list[_Layer] = []
        self._image: tuple[int, ...] = tuple(record)  # what one record is, after the layers so far
        for module in _flattened(model.module):
            self._append(module)
        if not self._layers or self._free or self._layers[-1].shape != _LINEAR:
            raise NotStacked("its parameters are not those of its layers")
        if len(self._image) != 1 or self._layers[-1].activation != NONE:
            raise NotStacked("its last layer is not linear")
        names = dict(zip(starts, model.names))
        self.weights = [names[layer.weight] for layer in self._layers]
        self.biases = [names.get(layer.bias) for layer in self._layers]

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def form(self) -> tuple[np.ndarray, np.ndarray | None, int, int, int]:
        """What `chain_loops` calls a chain's form."""
        rows, place, single, work = [], 0, 0, 0
        before = -1
        for number, layer in enumerate(self._layers):
            if before < 0:
                before, place = place, place + layer.inputs
            row = Row(
                layer.inputs,
                layer.outputs,
                layer.weight,
                layer.bias,
                layer.activation,
                before,
                place,
                back=place,
            )
            place += layer.outputs
            before = -1
            if layer.shape != _LINEAR:
                shape, given = layer.shape, self._layers[number + 1].inputs
                row = row._replace(pooled=place, back=place + given, single=single)
                place += 2 * given
                patch = shape.kh * shape.kw * shape.c
                single += shape.o * patch
                work = max(work, (shape.ho * shape.wo + 2 * shape.o) * patch, given)
                if self._layers[number + 1].shape != _LINEAR:
                    before = row.pooled
            rows.append(row)
        shapes = np.array([layer.shape for layer in self._layers], np.int64)
        # All linear: what is for convolutions need not be compiled, which takes most of a minute.
        held = shapes if shapes.any() else None
        return np.array(rows, np.int64), held, place, single, work

    def _append(self, module: nn.Module) -> None:
        kind: Any = type(module)
        if kind is nn.Linear and len(self._image) == 1:
            self._linear(module)
        elif kind is nn.Conv2d and len(self._image) == 3:
            self._convolution(module)
        elif kind is nn.MaxPool2d and len(self._image) == 3 and self._layers:
            self._pool(module)
        elif kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            self._image = (prod(self._image),)
        elif kind is nn.Unflatten and module.dim == 1 and not self._layers:
            self._unflatten(module)
        elif kind in _ACTIVATIONS and self._layers and self._layers[-1].activation == NONE:
            self._layers[-1].activation = _ACTIVATIONS[kind]
        else:
            raise NotStacked(f"{kind.__name__} is no link of a chain")

    def _parameters(self, module: nn.Linear | nn.Conv2d) -> tuple[int, int]:
        """Where its weight and its bias start."""
        weight = self._free.pop(id(module.weight), None)
        bias = -1 if module.bias is None else self._free.pop(id(module.bias), None)
        if weight is None or bias is None:
            raise NotStacked("a weight or a bias is frozen or used twice")
        return weight, bias

    def _linear(self, module: Any) -> None:
        if self._image != (module.in_features,):
            raise NotStacked("a layer takes records of another width")
        inputs, outputs = module.in_features, module.out_features
        self._layers.append(_Layer(*self._parameters(module), _LINEAR, inputs, outputs))
        self._image = (outputs,)

    def _convolution(self, module: Any) -> None:
        if any(layer.shape == _LINEAR for layer in self._layers):
            raise NotStacked("a convolution follows a linear layer")
        if module.groups != 1 or module.dilation != (1, 1) or module.padding_mode != "zeros":
            raise NotStacked("a convolution has groups, dilation or padding of another kind")
        c, h, w = self._image
        if isinstance(module.padding, str) or c != module.in_channels:
            raise NotStacked("a convolution's padding is a word, or it takes other channels")
        (kh, kw), (sh, sw), (ph, pw) = module.kernel_size, module.stride, module.padding
        ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        if min(ho, wo) < 1 or ph >= kh or pw >= kw:
            raise NotStacked("a convolution's kernel does not fit its images")
        o = module.out_channels
        shape = Shape(c, h, w, kh, kw, sh, sw, ph, pw, o, ho, wo, 1, 1, ho, wo)
        self._layers.append(_Layer(*self._parameters(module), shape, c * h * w, o * ho * wo))
        self._image = (o, ho, wo)

    def _pool(self, module: Any) -> None:
        layer = self._layers[-1]
        size, stride = (
            value if isinstance(value, tuple) else (value, value)
            for value in (module.kernel_size, module.stride)
        )
        plain = module.padding in (0, (0, 0)) and module.dilation in (1, (1, 1))
        if size != stride or not plain or layer.shape == _LINEAR:
            raise NotStacked("a pooling's windows overlap, leave gaps, or reach beyond the image")
        if (layer.shape.qh, layer.shape.qw) != (1, 1):
            raise NotStacked("two poolings follow each other")
        o, *image = self._image
        rounded = [
            -(-length // step) if module.ceil_mode else length // step
            for length, step in zip(image, size)
        ]
        if min(rounded) < 1:
            raise NotStacked("a pooling's window does not fit its images")
        layer.shape = layer.shape._replace(qh=size[0], qw=size[1], hq=rounded[0], wq=rounded[1])
        self._image = (o, *rounded)

    def _unflatten(self, module: Any) -> None:
        shape = tuple(module.unflattened_size)
        if self._image != (prod(shape),):
            raise NotStacked("its records have another size")
        self._image = shape


def _flattened(module: nn.Module) -> list[nn.Module]:
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks)
    if any(hooks):
        raise NotStacked("a layer has hooks")
    if type(module) is nn.Sequential:
        return [layer for child in module for layer in _flattened(child)]
    return [] if type(module) is nn.Identity else [module]
