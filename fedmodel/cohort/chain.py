"""Gradients of chains of layers, in compiled code: client by client, where all fits a cache.

A small model spends its time on the way to its arithmetic, an image's on the way through memory. Here
a client's whole pass is one stretch of machine code, with a BLAS product for each layer (for each
image, of a convolution), and no row is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedmodel.cohort import chain_loops as loops
from fedmodel.cohort.chain_layers import Layers
from fedmodel.cohort.clipping import ClippingStyle, record_factors
from fedmodel.cohort.cohort import Batch
from fedmodel.cohort.leaves import NotStacked
from fedmodel.cohort.model import FlatModel

__all__ = ["Chain"]

# Beyond this many parameters the arithmetic rules, and torch's products are as good.
MOST_PARAMETERS = 200_000
BUFFER_BYTES = 16 << 20  # for what the layers give out: so many clients go together

Scale = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # squared norms of records to factors


class Chain:
    """A flat model that is nothing but convolutions of images, then linear layers, and activations.

    Raises:
        NotStacked: the module is something else.
    """

    def __init__(self, model: FlatModel, example: Tensor, like: Tensor) -> None:
        if like.device.type != "cpu" or not example.is_floating_point() or example.dim() < 2:
            raise NotStacked("its records are no rows of numbers in this machine's memory")
        if model.precision != "float32":
            raise NotStacked("it is computed in another precision")
        if model.size > MOST_PARAMETERS:
            raise NotStacked("it is too large to gain from compiled code")
        self.layers = Layers(model, example.shape[1:])
        self.form = self.layers.form

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
        x = batch.x.flatten(0, 1).flatten(1).to(local.dtype).contiguous().numpy()
        y, present = batch.y.flatten().contiguous().numpy(), batch.present.contiguous().numpy()
        _, _, width, single, _ = self.form
        single = 0 if scale is None else single
        row = parameters.itemsize * (width + single) * max(1, present.shape[1])
        size = max(1, BUFFER_BYTES // row)
        for first in range(0, len(parameters), size):
            some = slice(first, first + size)
            rows = np.flatnonzero(present[some])
            counts = np.count_nonzero(present[some], axis=1)
            starts = np.concatenate([[0], np.cumsum(counts)])
            kept = np.empty(len(rows) * width, parameters.dtype)
            singles = np.empty(len(rows) * single, parameters.dtype)
            rows += first * present.shape[1]
            loops.run(parameters[some], x, y, rows, starts, self.form, kept, loss[some])
            counted = np.ones((len(rows), 1), parameters.dtype)
            if batch.weight is not None:
                counted[:, 0] = batch.weight.flatten().numpy()[rows]
            factors = np.repeat(counted, len(self.layers), axis=1)
            if scale is not None:
                squared = np.empty((len(rows), 2, len(self.layers)), parameters.dtype)
                loops.square(starts, self.form, kept, singles, squared)
                factors = counted * self._factors(squared * counted[:, :, None] ** 2, scale)
            if weight is not None:
                factors = factors * np.repeat(weight[some].to(local.dtype).numpy(), counts)[:, None]
            loops.add(starts, self.form, kept, singles, factors, total[some])
        return torch.from_numpy(total), torch.from_numpy(loss)

    def _factors(self, squared: np.ndarray, scale: Scale) -> np.ndarray:
        """From the squared norms of each record's gradients to a factor a layer, ``[R, L]``."""
        of_biases, of_weights = torch.from_numpy(squared).unbind(1)
        named = dict(zip(self.layers.weights, of_weights.unbind(1)))
        biases = zip(self.layers.biases, of_biases.unbind(1))
        found = scale({**named, **{name: own for name, own in biases if name is not None}})
        return torch.stack([found[name] for name in self.layers.weights], 1).numpy()
