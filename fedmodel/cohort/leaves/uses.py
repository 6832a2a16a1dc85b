"""What the gradient of a parameter is made of: its uses in the forward pass, each with what came back.

A use gives each row's squared gradient norm and the clients' sums without keeping one gradient a
row (ghost clipping, Li et al., ICLR 2022; book-keeping, Bu et al., ICML 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.cohort.leaves.rows import Rows

__all__ = ["Gathered", "Outer", "Summed", "Use", "joined", "parts", "squared_norm"]

CHUNK_BYTES = 2 << 20  # of what is formed for each row, at once: near the caches
ELEMENTWISE = 32  # multiply-adds of a matrix product in the time of one elementwise operation


class Use:
    """One use of a parameter by R rows; `shape` is the parameter's."""

    g: Tensor  # gradient of what came out, [R, ...]

    @staticmethod
    def joined(uses: Sequence[Any]) -> Use | None:
        """Several uses of this kind as one, or None."""
        return None

    def squared_norm(self) -> Float[Tensor, " R"]:
        """The squared norm of each row's gradient."""
        raise NotImplementedError

    def row_gradients(self, part: slice) -> Float[Tensor, " r *shape"]:
        """Some rows' gradients, for uses that cannot be joined."""
        raise NotImplementedError

    def add_to(
        self, total: Float[Tensor, " K *shape"], rows: Rows, factor: Float[Tensor, " R"] | None
    ) -> None:
        """Add to each client's total the gradients of its rows, each times its factor."""
        raise NotImplementedError


@dataclass(frozen=True)
class Outer(Use):
    """A matrix that multiplies: the gradient is the sum over times t of ``g_t a_t^T``."""

    g: Float[Tensor, "R T n"]  # gradient of what came out
    a: Float[Tensor, "R T m"]  # what went in

    @staticmethod
    def joined(uses: Sequence[Outer]) -> Outer:
        return Outer(torch.cat([use.g for use in uses], 1), torch.cat([use.a for use in uses], 1))

    def squared_norm(self) -> Float[Tensor, " R"]:
        """``|g|^2 |a|^2`` at a single time (Goodfellow 2015). Else the cheaper of two forms: the
        squares of the gradient itself, or ``sum_st (g_s g_t)(a_s a_t)`` (Li et al. 2022, section 4).
        """
        times, n, m = self.a.shape[1], self.g.shape[2], self.a.shape[2]
        if times == 1:
            return (squares(self.g) * squares(self.a)).view(-1)
        gram = times**2 * (n + m + 2 * ELEMENTWISE) < n * m * (times + ELEMENTWISE)
        result = self.a.new_empty(len(self.a))
        for part in parts(self.a, 2 * times**2 if gram else n * m):
            g, a = self.g[part], self.a[part]
            if gram:
                result[part] = torch.bmm(g, g.mT).mul_(torch.bmm(a, a.mT)).sum((1, 2))
            else:
                result[part] = squares(torch.bmm(g.mT, a).flatten(1))
        return result

    def row_gradients(self, part: slice) -> Float[Tensor, "r n m"]:
        return torch.bmm(self.g[part].mT, self.a[part])

    def add_to(self, total: Tensor, rows: Rows, factor: Tensor | None) -> None:
        rows.add_products(total, _scaled(self.g, factor), self.a)


@dataclass(frozen=True)
class Gathered(Use):
    """A table that is looked up: row ``index_t`` of the gradient gets ``g_t``; a negative index none."""

    g: Float[Tensor, "R T m"]
    index: Int[Tensor, "R T"]
    length: int  # of the table

    @staticmethod
    def joined(uses: Sequence[Gathered]) -> Gathered:
        g, index = torch.cat([use.g for use in uses], 1), torch.cat([use.index for use in uses], 1)
        return Gathered(g, index, uses[0].length)

    def squared_norm(self) -> Float[Tensor, " R"]:
        """``sum_st [index_s = index_t] g_s g_t``: the Gram form for a one-hot input."""
        result = self.g.new_empty(len(self.g))
        for part in parts(self.g, 2 * self.g.shape[1] ** 2):
            g, index = self.g[part], self.index[part]
            same = (index[:, :, None] == index[:, None]) & (index >= 0)[:, None]
            result[part] = torch.bmm(g, g.mT).mul_(same).sum((1, 2))
        return result

    def row_gradients(self, part: slice) -> Float[Tensor, "r length m"]:
        g, index = self.g[part], self.index[part, :, None]
        result = g.new_zeros(len(g), self.length, g.shape[-1])
        return result.scatter_add_(1, index.clamp(min=0).expand_as(g), g * (index >= 0))

    def add_to(self, total: Tensor, rows: Rows, factor: Tensor | None) -> None:
        for k, (g, index) in enumerate(
            zip(rows.split(_scaled(self.g, factor)), rows.split(self.index))
        ):
            kept = index >= 0
            total[k].index_add_(0, index[kept], g[kept])


@dataclass(frozen=True)
class Summed(Use):
    """A parameter that is added, or scales: the gradient is the sum over times of what is given."""

    g: Float[Tensor, "R T *shape"]

    @staticmethod
    def joined(uses: Sequence[Summed]) -> Summed:
        return Summed(torch.cat([use.g for use in uses], 1))

    def squared_norm(self) -> Float[Tensor, " R"]:
        return squares(self._rows().flatten(1))

    def row_gradients(self, part: slice) -> Float[Tensor, " r *shape"]:
        return self.g[part].sum(1)

    def add_to(self, total: Tensor, rows: Rows, factor: Tensor | None) -> None:
        rows.add_rows(total, self._rows(), factor)

    def _rows(self) -> Float[Tensor, " R *shape"]:
        return self.g[:, 0] if self.g.shape[1] == 1 else self.g.sum(1)


def joined(uses: Sequence[Use]) -> Use | None:
    """All uses of a parameter as one, if they are of one kind that allows it."""
    kind = type(uses[0])
    if len(uses) == 1:
        return uses[0]
    return kind.joined(uses) if all(type(use) is kind for use in uses) else None


def squared_norm(uses: Sequence[Use]) -> Float[Tensor, " R"]:
    """The squared norm of each row's gradient by all uses of a parameter."""
    one = joined(uses)
    if one is not None:
        return one.squared_norm()
    # Such as a table that is also a matrix (tied weights): their gradients meet row by row.
    first, *others = uses
    elements = first.row_gradients(slice(0, 1)).numel()
    norms = []
    for part in parts(first.g, elements):
        gradient = first.row_gradients(part)
        for use in others:
            gradient += use.row_gradients(part)
        norms.append(squares(gradient.flatten(1)))
    return torch.cat(norms)


def squares(x: Float[Tensor, "*shape n"]) -> Float[Tensor, "*shape"]:
    """The sum of squares over the last dimension."""
    return torch.linalg.vector_norm(x, dim=-1).square_()


def parts(rows: Tensor, elements: int) -> Iterator[slice]:
    """Slices of the rows, of which each forms so many elements, that fit the budget."""
    step = max(1, CHUNK_BYTES // (rows.element_size() * max(1, elements)))
    for first in range(0, len(rows), step):
        yield slice(first, first + step)


def _scaled(g: Float[Tensor, "R T n"], factor: Float[Tensor, " R"] | None) -> Tensor:
    return g if factor is None else g * factor[:, None, None]
