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
        self._rows: Rows | None = None
        self.parameters: Mapping[str, Float[Tensor, "K ..."]] = {}
        self.keeps_uses = False
        self.dtype = like.dtype  # of what the layers compute with, for now
        self.uses: dict[str, list[Use]] = {}
        self.totals: Mapping[str, Float[Tensor, "K ..."]] = {}
        self._begun: set[str] = set()  # the totals that something has come to

    def begin(
        self,
        rows: Rows,
        parameters: Mapping[str, Float[Tensor, "K ..."]],
        totals: Mapping[str, Float[Tensor, "K ..."]],
        *,
        keeps_uses: bool,
    ) -> None:
        """From now on these are the clients' parameters. Gradients are summed up in `totals` as they
        come, or with `keeps_uses` once `sum_up` tells each row's factor."""
        self._rows, self.parameters, self.keeps_uses = rows, parameters, keeps_uses
        self.dtype = next(iter(parameters.values())).dtype
        self.uses, self.totals, self._begun = {}, totals, set()

    def end(self) -> None:
        """Let go of all tensors."""
        self._rows, self.parameters, self.uses, self.totals = None, {}, {}, {}

    @property
    def rows(self) -> Rows:
        if self._rows is None:
            raise NotStacked("a layer is called outside of a step")
        return self._rows

    def note(self, name: str, use: Use, *, again: bool = False) -> None:
        """A use of a parameter. One of many (`again`) waits for the others, to be summed with them."""
        if self.keeps_uses:  # a record's norm and what it adds come of the same numbers, both exact
            use = use.to(self.anchor.dtype).to_keep()
        if self.keeps_uses or again:
            self.uses.setdefault(name, []).append(use)
        else:
            self._add(name, use)

    def sum_up(self, factors: Mapping[str, Float[Tensor, " R"]] | None = None) -> None:
        """Add what was kept to the totals, each row times its factor for the parameter."""
        for name, uses in self.uses.items():
            one, factor = joined(uses), None if factors is None else factors[name]
            for use in uses if one is None else [one]:
                self._add(name, use, factor)
        for name in self.totals.keys() - self._begun:  # parameters that were not used
            self.totals[name].zero_()

    def _add(self, name: str, use: Use, factor: Float[Tensor, " R"] | None = None) -> None:
        total = self.totals[name]
        begun = name in self._begun
        self._begun.add(name)
        if not begun and use.g.dtype == total.dtype:
            use.total(self.rows, total, factor)
            return
        more = torch.empty(total.shape, dtype=use.g.dtype, device=total.device)
        use.total(self.rows, more, factor)
        if begun:
            total.add_(more)
        else:
            total.copy_(more)
