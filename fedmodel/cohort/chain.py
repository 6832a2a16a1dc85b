"""Gradients of chains of linear layers, in compiled code: client by client, where all fits a cache.

A small model spends its time on the way to its arithmetic. Here a client's whole pass is one stretch
of machine code, with a BLAS product for each layer, and no row is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedmodel.cohort import chain_loops as loops
from fedmodel.cohort.clipping import ClippingStyle, record_factors
from fedmodel.cohort.cohort import Batch
from fedmodel.cohort.leaves import NotStacked
from fedmodel.cohort.model import FlatModel

__all__ = ["Chain"]

# Beyond this many parameters the arithmetic rules, and torch's products are as good.
MOST_PARAMETERS = 200_000
BUFFER_BYTES = 16 << 20  # for what the layers give out: so many clients go together
_ACTIVATIONS: dict[type[nn.Module], int] = {
    nn.ReLU: loops.RELU,
    nn.Tanh: loops.TANH,
    nn.Sigmoid: loops.SIGMOID,
}

Scale = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # squared norms of records to factors


class _Layer(NamedTuple):
    inputs: int
    outputs: int
    weight: int  # where it starts in the vector
    bias: int  # or -1
    activation: int  # after it


class Chain:
    """A flat model that is nothing but linear layers with activations between them.

    Raises:
        NotStacked: the module is something else.
    """

    def __init__(self, model: FlatModel, example: Tensor, like: Tensor) -> None:
        if like.device.type != "cpu" or not example.is_floating_point() or example.dim() != 2:
            raise NotStacked("its records are no rows of numbers in this machine's memory")
        if model.precision != "float32":
            raise NotStacked("it is computed in another precision")
        if model.size > MOST_PARAMETERS:
            raise NotStacked("it is too large to gain from compiled code")
        self.layers = _layers(model)
        if example.shape[1] != self.layers[0].inputs:
            raise NotStacked("its first layer takes records of another width")
        numbers = [(layer.inputs, layer.outputs) for layer in self.layers]
        places = np.cumsum([0, *sum(numbers, ())])[:-1].reshape(-1, 2)
        self.table = np.column_stack([np.array(self.layers), places]).astype(np.int64)
        names = {offset: name for name, offset in zip(model.names, _starts(model))}
        self.weights = [names[layer.weight] for layer in self.layers]
        self.biases = [names.get(layer.bias) for layer in self.layers]
        self.width = sum(layer.inputs + layer.outputs for layer in self.layers)

    def loss_sum_gradient(
        self,
        local: Float[Tensor, "K d"],
        batch: Batch,
        *,
        weight: Float[Tensor, " K"] | None = None,
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        """Gradient, times each client's `weight`, and value of the summed loss over its records."""
        return self._gradient(local, batch, weight, None)

    def clipped_gradient_sum(
        self,
        local: Float[Tensor, "K d"],
        batch: Batch,
        *,
        clip: float,
        style: ClippingStyle = "flat",
    ) -> Float[Tensor, "K d"]:
        """Sum over a client's records of the gradient, each scaled to the bound."""
        return self._gradient(local, batch, None, partial(record_factors, clip=clip, style=style))[
            0
        ]

    def _gradient(
        self, local: Tensor, batch: Batch, weight: Tensor | None, scale: Scale | None
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        parameters = local.detach().contiguous().numpy()
        total, loss = np.empty_like(parameters), np.empty(len(parameters), parameters.dtype)
        x = batch.x.flatten(0, 1).to(local.dtype).contiguous().numpy()
        y, present = batch.y.flatten().contiguous().numpy(), batch.present.contiguous().numpy()
        row = parameters.itemsize * self.width * max(1, present.shape[1])
        size = max(1, BUFFER_BYTES // row)
        for first in range(0, len(parameters), size):
            some = slice(first, first + size)
            rows = np.flatnonzero(present[some])
            counts = np.count_nonzero(present[some], axis=1)
            starts = np.concatenate([[0], np.cumsum(counts)])
            kept = np.empty(len(rows) * self.width, parameters.dtype)
            rows += first * present.shape[1]
            form = starts, self.table, self.width, kept
            loops.run(parameters[some], x, y, rows, *form, loss[some])
            counted = np.ones((len(rows), 1), parameters.dtype)
            if batch.weight is not None:
                counted[:, 0] = batch.weight.flatten().numpy()[rows]
            factors = np.repeat(counted, len(self.layers), axis=1)
            if scale is not None:
                squared = np.empty((len(rows), 2, len(self.layers)), parameters.dtype)
                loops.square(*form, squared)
                factors = counted * self._factors(squared * counted[:, :, None] ** 2, scale)
            if weight is not None:
                factors = factors * np.repeat(weight[some].to(local.dtype).numpy(), counts)[:, None]
            loops.add(*form, factors, total[some])
        return torch.from_numpy(total), torch.from_numpy(loss)

    def _factors(self, squared: np.ndarray, scale: Scale) -> np.ndarray:
        """From the squared norms of each record's gradients to a factor a layer, ``[R, L]``."""
        of_biases, of_weights = torch.from_numpy(squared).unbind(1)
        named = dict(zip(self.weights, of_weights.unbind(1)))
        biases = zip(self.biases, of_biases.unbind(1))
        found = scale({**named, **{name: own for name, own in biases if name is not None}})
        return torch.stack([found[name] for name in self.weights], 1).numpy()


def _layers(model: FlatModel) -> list[_Layer]:
    """The module as a list of layers."""
    trained = {id(model.module.get_parameter(n)): at for n, at in zip(model.names, _starts(model))}
    layers: list[_Layer] = []
    for module in _flattened(model.module):
        activation = _ACTIVATIONS.get(type(module))
        if type(module) is nn.Linear and id(module.weight) in trained:
            weight = trained.pop(id(module.weight))
            bias = -1 if module.bias is None else trained.pop(id(module.bias), None)
            if bias is None:
                raise NotStacked("a bias is frozen")
            layers.append(_Layer(module.in_features, module.out_features, weight, bias, loops.NONE))
        elif activation is not None and layers and layers[-1].activation == loops.NONE:
            layers[-1] = layers[-1]._replace(activation=activation)
        else:
            raise NotStacked(f"{type(module).__name__} is no link of a chain")
    if not layers or trained or layers[-1].activation != loops.NONE:
        raise NotStacked("its parameters are not those of its linear layers")
    return layers


def _flattened(module: nn.Module) -> list[nn.Module]:
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks)
    if any(hooks):
        raise NotStacked("a layer has hooks")
    if type(module) is nn.Sequential:
        return [layer for child in module for layer in _flattened(child)]
    return [] if type(module) is nn.Identity else [module]


def _starts(model: FlatModel) -> list[int]:
    return np.cumsum([0, *model.counts])[:-1].tolist()
