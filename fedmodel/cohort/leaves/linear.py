"""Linear layers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.step import Step
from fedmodel.cohort.leaves.uses import Outer, Summed

__all__ = ["Linear"]


class Linear(Leaf):
    """``x W^T + b``, one batched product. Also for parameters of other layers, under their names.

    `again` says that one backward pass comes here many times, as in a recurrent layer.
    """

    def __init__(
        self,
        layer: nn.Module,
        step: Step,
        names: Mapping[str, str],
        *,
        weight: str = "weight",
        bias: str = "bias",
        again: bool = False,
    ) -> None:
        super().__init__(layer, step, names)
        self.weight_name, self.bias_name, self.again = weight, bias, again

    def value(self, x: Tensor) -> Tensor:
        weight, bias = self.parameter(self.weight_name), self.optional(self.bias_name)
        return self.rows.matmul(x, weight.mT, bias)

    def pull(self, g: Tensor, x: Tensor, *, wanted: bool) -> Tensor | None:
        over_time = self.rows.over_time(g)
        self.note(self.weight_name, Outer(over_time, self.rows.over_time(x)), again=self.again)
        self.note(self.bias_name, Summed(over_time), again=self.again)
        return self.rows.matmul(g, self.parameter(self.weight_name)) if wanted else None
