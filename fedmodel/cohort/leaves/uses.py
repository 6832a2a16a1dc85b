"""What the gradient of a parameter is made of: its uses in the forward pass, each with what came back.

A use gives each row's squared gradient norm and the clients' sums without keeping one gradient a
row (ghost clipping, Li et al., ICLR 2022; book-keeping, Bu et al., ICML 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.cohort.leaves.rows import Rows

__all__ = ["Gathered", "Outer", "Summed", "Use", "joined", "parts", "squared_norm"]

# Of what is formed for each row, at once: near the caches of a CPU; elsewhere calls cost more.
CHUNK_BYTES, DEVICE_CHUNK_BYTES = 2 << 20, 256 << 20
ELEMENTWISE = 32  # multiply-adds of a matrix product in the time of one elementwise operation


class Use:
    """One use of a parameter by R rows; `shape` is the parameter's."""

    __slots__ = ()
    g: Tensor  # gradient of what came out, [R, ...]

    @staticmethod
    def joined(uses: Sequence[Any]) -> Use | None:
        """Several uses of this kind as one, or None."""
        return None

    def to(self, dtype: torch.dtype) -> Any:
        """The same use with its numbers in another precision."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        lower = {n: v for n, v in values.items() if isinstance(v, Tensor) and v.is_floating_point()}
        if all(value.dtype == dtype for value in lower.values()):
            return self
        return replace(self, **{n: value.to(dtype) for n, value in lower.items()})  # type: ignore[type-var]

    def to_keep(self) -> Use:
        """The same use in as few numbers as norms and sums need."""
        return self

    def squared_norm(self) -> Float[Tensor, " R"]:
        """The squared norm of each row's gradient."""
        raise NotImplementedError

    def row_gradients(self, part: slice) -> Float[Tensor, " r *shape"]:
        """Some rows' gradients, for uses that cannot be joined."""
        raise NotImplementedError

    def total(
        self, rows: Rows, out: Float[Tensor, " K *shape"], factor: Float[Tensor, " R"] | None = None
    ) -> None:
        """To `out`, each client's sum of its rows' gradients, each times its factor."""
        raise NotImplementedError


@dataclass(slots=True)
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
        if times**2 * (n + m + 2 * ELEMENTWISE) < n * m * (times + ELEMENTWISE):
            return self._by_products()
        result = self.a.new_empty(len(self.a))
        for part in parts(self.a, n * m):
            result[part] = squares(self.row_gradients(part).flatten(1))
        return result

    def _by_products(self) -> Float[Tensor, " R"]:
        """The second form. Where terms cancel to less than a thousandth, rounding would make the norm
        too small, and the clipped gradient too long: those rows take the first form."""
        result, most = self.a.new_empty(len(self.a)), self.a.new_empty(len(self.a))
        for part in parts(self.a, 2 * self.a.shape[1] ** 2):
            g, a = self.g[part], self.a[part]
            products = torch.bmm(g, g.mT).mul_(torch.bmm(a, a.mT))
            result[part] = products.sum((1, 2))
            most[part] = products.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt().sum(1).square()
        for row in (result < 1e-3 * most).nonzero().flatten().tolist():
            result[row] = squares(self.row_gradients(slice(row, row + 1)).flatten(1))
        return result

    def row_gradients(self, part: slice) -> Float[Tensor, "r n m"]:
        return torch.bmm(self.g[part].mT, self.a[part])

    def total(self, rows: Rows, out: Float[Tensor, "K n m"], factor: Tensor | None = None) -> None:
        if self.a.numel() < self.g.numel():  # the gradient is linear in both: scale the smaller
            rows.products(self.g, _scaled(self.a, factor), out)
        else:
            rows.products(_scaled(self.g, factor), self.a, out)


@dataclass(slots=True)
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
        """``sum_t |sum_s [index_s = index_t] g_s|^2 / n_t`` with index_t met n_t times."""
        result = self.g.new_empty(len(self.g))
        for part in parts(self.g, 2 * self.g.shape[1] ** 2):
            index = self.index[part]
            same = ((index[:, :, None] == index[:, None]) & (index >= 0)[:, None]).to(self.g.dtype)
            met = same.sum(2).clamp(min=1)
            result[part] = (squares(torch.bmm(same, self.g[part])) / met).sum(1)
        return result

    def row_gradients(self, part: slice) -> Float[Tensor, "r length m"]:
        g, index = self.g[part], self.index[part, :, None]
        result = g.new_zeros(len(g), self.length, g.shape[-1])
        return result.scatter_add_(1, index.clamp(min=0).expand_as(g), g * (index >= 0))

    def total(
        self, rows: Rows, out: Float[Tensor, "K length m"], factor: Tensor | None = None
    ) -> None:
        g = _scaled(self.g, factor)
        for own, values, index in zip(out.zero_(), rows.split(g), rows.split(self.index)):
            kept = index >= 0
            own.index_add_(0, index[kept], values[kept])


@dataclass(slots=True)
class Summed(Use):
    """A parameter that is added, or scales: the gradient is the sum over times of what is given."""

    g: Float[Tensor, "R T *shape"]

    @staticmethod
    def joined(uses: Sequence[Summed]) -> Summed:
        return Summed(torch.cat([use.g for use in uses], 1))

    def to_keep(self) -> Summed:
        return Summed(self._rows()[:, None])

    def squared_norm(self) -> Float[Tensor, " R"]:
        return squares(self._rows().flatten(1))

    def row_gradients(self, part: slice) -> Float[Tensor, " r *shape"]:
        return self.g[part].sum(1)

    def total(
        self, rows: Rows, out: Float[Tensor, " K *shape"], factor: Tensor | None = None
    ) -> None:
        if factor is None and rows.block is not None:
            torch.sum(self.g.reshape(rows.num_clients, -1, *self.g.shape[2:]), 1, out=out)
        else:
            out.copy_(rows.sums(self._rows(), factor))

    def _rows(self) -> Float[Tensor, " R *shape"]:
        return self.g.squeeze(1) if self.g.shape[1] == 1 else self.g.sum(1)


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
    budget = CHUNK_BYTES if rows.device.type == "cpu" else DEVICE_CHUNK_BYTES
    step = max(1, budget // (rows.element_size() * max(1, elements)))
    for first in range(0, len(rows), step):
        yield slice(first, first + step)


def _scaled(x: Float[Tensor, "R T n"], factor: Float[Tensor, " R"] | None) -> Tensor:
    return x if factor is None else x * factor[:, None, None]
