"""Gradients of chains of linear layers, in compiled code: client by client, where all fits a cache.

A small model spends its time on the way to its arithmetic. Here a client's whole pass is one stretch
of machine code, with a BLAS product for each layer, and no row is padding.
"""

from __future__ import annotations

from collections.abc import Mapping
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
BUFFER_BYTES = 8 << 20  # for what the layers give out: so many clients go together
_ACTIVATIONS: dict[type[nn.Module], int] = {
    nn.ReLU: loops.RELU,
    nn.Tanh: loops.TANH,
    nn.Sigmoid: loops.SIGMOID,
}


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
        self, local: Float[Tensor, "K d"], batch: Batch
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        """Gradient and value of each client's summed loss over its records in the batch."""
        return self._gradient(local, batch, None, "flat")

    def clipped_gradient_sum(
        self,
        local: Float[Tensor, "K d"],
        batch: Batch,
        *,
        clip: float,
        style: ClippingStyle = "flat",
    ) -> Float[Tensor, "K d"]:
        """Sum over a client's records of the gradient, each scaled to the bound."""
        return self._gradient(local, batch, clip, style)[0]

    def _gradient(
        self, local: Tensor, batch: Batch, clip: float | None, style: ClippingStyle
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        parameters = local.detach().contiguous().numpy()
        x = batch.x.to(local.dtype).flatten(0, 1).contiguous().numpy()
        y, present = batch.y.flatten().contiguous().numpy(), batch.present.contiguous().numpy()
        total, loss = np.empty_like(parameters), np.empty(len(parameters), parameters.dtype)
        record = parameters.itemsize * self.width * max(1, present.shape[1])
        size = max(1, BUFFER_BYTES // record)
        for first in range(0, len(parameters), size):
            some = slice(first, first + size)
            rows = np.flatnonzero(present[some])
            ends = np.cumsum(np.count_nonzero(present[some], axis=1))
            kept = np.empty(len(rows) * self.width, parameters.dtype)
            loops.run(
                parameters[some],
                x,
                y,
                rows + first * present.shape[1],
                ends,
                self.table,
                kept,
                loss[some],
            )
            factors = np.ones((len(self.layers), len(rows)), parameters.dtype)
            if clip is not None:
                squared = np.empty((2, *factors.shape), parameters.dtype)
                loops.square(self.table, kept, squared)
                found = record_factors(self._by_name(squared), clip=clip, style=style)
                factors = torch.stack([found[name] for name in self.weights]).numpy()
            loops.sum_up(ends, self.table, kept, factors, total[some])
        return torch.from_numpy(total), torch.from_numpy(loss)

    def _by_name(self, squared: np.ndarray) -> Mapping[str, Float[Tensor, " R"]]:
        """The squared norms of each record's gradient, parameter by parameter."""
        outputs, both = torch.from_numpy(squared)
        named = dict(zip(self.weights, both))
        named.update((name, own) for name, own in zip(self.biases, outputs) if name is not None)
        return named


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
