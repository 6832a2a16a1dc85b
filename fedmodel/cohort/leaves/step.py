"""One step of all clients through the layers: their parameters, and what came of each use of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedmodel.cohort.leaves.rows import Rows
from fedmodel.cohort.leaves.uses import Use, joined

__all__ = ["NotStacked", "Step"]


class NotStacked(Exception):  # noqa: N818 - a verdict, not a mistake: the model takes the slower way
    """Something that layers with each client's own parameters cannot compute, and why."""


class Step:
    """What the leaves of a model share. A parameter goes by its name in the model."""

    def __init__(self, like: Tensor) -> None:
        # An input of every leaf, so that autograd comes back to it. Its gradient is never formed.
        self.anchor = nn.Parameter(torch.zeros((), dtype=like.dtype, device=like.device))
        self.elements = 0  # that the layers gave out while they were shown records
        self.uses: dict[str, list[Use]] = {}
        self.clear()

    def begin(
        self,
        rows: Rows,
        parameters: Mapping[str, Float[Tensor, "K ..."]],
        totals: Mapping[str, Float[Tensor, "K ..."]],
        *,
        keeps_uses: bool,
    ) -> None:
        """From now on these are the clients' parameters, and their gradients are added to `totals`:
        as they come, or with `keeps_uses` when `sum_up` tells each row's factor."""
        self._rows: Rows | None = rows
        self.parameters, self.totals, self.keeps_uses = parameters, totals, keeps_uses

    def clear(self) -> None:
        """Let go of the clients' tensors."""
        nothing: Mapping[str, Tensor] = {}
        self._rows, self.keeps_uses = None, False
        self.parameters, self.totals = nothing, nothing
        self.uses = {}

    @property
    def rows(self) -> Rows:
        if self._rows is None:
            raise NotStacked("a layer is called outside of a step")
        return self._rows

    def note(self, name: str, use: Use, *, again: bool = False) -> None:
        """A use of a parameter. One of many (`again`) waits for the others, to be summed with them."""
        if self.keeps_uses or again:
            self.uses.setdefault(name, []).append(use)
        else:
            use.add_to(self.totals[name], self.rows, None)

    def sum_up(self, factors: Mapping[str, Float[Tensor, " R"]] | None = None) -> None:
        """Add what was kept to the totals, each row times its factor for the parameter."""
        for name, uses in self.uses.items():
            one = joined(uses)
            for use in uses if one is None else [one]:
                use.add_to(self.totals[name], self.rows, None if factors is None else factors[name])
