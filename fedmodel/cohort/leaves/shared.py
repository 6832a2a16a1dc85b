"""Parameters that a module of several layers holds by itself and gives to all its records."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.uses import Summed

__all__ = ["Shared"]


class Shared(Leaf):
    """A parameter ``[1, ...]`` such as a class token or learned positions: a copy for each row.

    What the module makes of ``[R, ...]`` in its place is the same as long as it broadcasts it.
    """

    def give(self) -> Float[Tensor, "R ..."]:
        """The parameter for each row, part of autograd's graph."""
        return self.answer(self.rows.present)

    def value(self, x: Tensor) -> Float[Tensor, "R ..."]:
        (name,) = self.names
        return self.rows.spread(self.parameter(name).squeeze(1)).contiguous()

    def pull(self, g: Float[Tensor, "R ..."], x: Tensor, *, wanted: bool) -> None:
        (name,) = self.names
        self.note(name, Summed(g[:, None, None]))
