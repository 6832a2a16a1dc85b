"""Tables of vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.step import NotStacked, Step
from fedmodel.cohort.leaves.uses import Gathered

__all__ = ["Embedding"]


class Embedding(Leaf):
    """A vector for each index; the vector at `padding_idx` is not trained."""

    def __init__(self, layer: nn.Embedding, step: Step, names: Mapping[str, str]) -> None:
        for option in ("max_norm", "scale_grad_by_freq", "sparse"):
            if getattr(layer, option):
                raise NotStacked(f"it has the option {option}")
        super().__init__(layer, step, names)

    def value(self, x: Tensor) -> Tensor:
        table = self.parameter("weight")
        y = table.new_empty(*x.shape, table.shape[-1])
        for own, index, out in zip(table, self.rows.split(x), self.rows.split(y)):
            torch.index_select(own, 0, index.reshape(-1), out=out.view(-1, table.shape[-1]))
        return y

    def pull(self, g: Tensor, x: Tensor, *, wanted: bool) -> None:
        index = self.rows.over_time(x, kept=0)
        if self.layer.padding_idx is not None:
            index = index.masked_fill(index == self.layer.padding_idx, -1)
        self.note("weight", Gathered(self.rows.over_time(g), index, self.layer.num_embeddings))
