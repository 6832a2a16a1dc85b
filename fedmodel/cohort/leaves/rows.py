"""Which client each row of a batch belongs to, and the matrix products that go client by client."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Rows"]

# Up to so many elements a client, one batched product into memory of its own and a sum are faster
# than a product straight into the strided gradient (measured, one thread: 46 against 92 us at 2,000).
SMALL_MATRIX = 4096


class Rows:
    """R rows, client by client: a block of B for each (padded), or as many as it has (segments).

    A tensor of the batch has a multiple of R rows in front, each record's own together. `T` stands
    for all that a record has several of: times, positions, windows.
    """

    def __init__(self, present: Bool[Tensor, "K B"], *, segments: bool) -> None:
        self.num_clients, block = present.shape
        self.present = present
        self.block = None if segments else block
        self.counts = present.sum(1).tolist() if segments else [block] * self.num_clients
        self.number = sum(self.counts)

    def take(self, x: Tensor) -> Tensor:
        """The rows of a batch's tensor ``[K, B, ...]``."""
        return x.flatten(0, 1) if self.block is not None else x[self.present]

    @cached_property
    def client(self) -> Int[Tensor, " R"]:
        """The client of each row."""
        device = self.present.device
        counts = torch.tensor(self.counts, device=device)
        return torch.arange(self.num_clients, device=device).repeat_interleave(counts)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Each client's rows."""
        times = len(x) // max(1, self.number)
        return x.split([count * times for count in self.counts])

    def over_time(self, x: Tensor, *, kept: int = 1) -> Tensor:
        """``[R, T, ...]``: all dimensions in one but the rows and the last `kept`."""
        return x.reshape(self.number, -1, *x.shape[x.dim() - kept :])

    def spread(
        self, values: Float[Tensor, "K ..."], *, times: int = 1
    ) -> Float[Tensor, "rows ..."]:
        """Each client's values at each of its rows, `times` of them a row."""
        if self.block is not None:
            block = self.block * times
            return values[:, None].expand(-1, block, *values.shape[1:]).flatten(0, 1)
        return values[self.client.repeat_interleave(times) if times > 1 else self.client]

    def matmul(
        self,
        x: Float[Tensor, "rows ... n"],
        weight: Float[Tensor, "K n m"],
        bias: Float[Tensor, "K m"] | None = None,
    ) -> Float[Tensor, "rows ... m"]:
        """Each row times its client's matrix. The result is no view, so that it may be changed in place."""
        width = weight.shape[-1]
        out = x.new_empty(*x.shape[:-1], width)
        if self.block is not None:
            grouped = out.view(self.num_clients, -1, width)
            torch.bmm(x.reshape(self.num_clients, -1, x.shape[-1]), weight, out=grouped)
            if bias is not None:
                grouped += bias[:, None]
            return out
        for k, (own, result) in enumerate(zip(self.split(x), self.split(out))):
            if len(own):
                flat = result.view(-1, width)
                torch.mm(own.reshape(-1, own.shape[-1]), weight[k], out=flat)
                if bias is not None:
                    flat += bias[k]
        return out

    def add_products(
        self,
        total: Float[Tensor, "K n m"],
        left: Float[Tensor, "R T n"],
        right: Float[Tensor, "R T m"],
    ) -> None:
        """Add to each client's total the sum over its rows and times of left times right, transposed."""
        if self.block is None:
            for own, a, b in zip(total, self.split(left), self.split(right)):
                own.addmm_(a.flatten(0, 1).T, b.flatten(0, 1))
            return
        a = left.reshape(self.num_clients, -1, left.shape[-1]).mT
        b = right.reshape(self.num_clients, -1, right.shape[-1])
        if total[0].numel() <= SMALL_MATRIX:
            total += torch.bmm(a, b)
        else:
            total.baddbmm_(a, b)

    def add_rows(
        self,
        total: Float[Tensor, " K *shape"],
        values: Float[Tensor, " R *shape"],
        factor: Float[Tensor, " R"] | None = None,
    ) -> None:
        """Add to each client's total the sum of its rows, each times its factor."""
        if self.block is None:
            if factor is not None:
                values = values * factor.view(-1, *(1,) * (values.dim() - 1))
            total.index_add_(0, self.client, values)
            return
        grouped = values.view(self.num_clients, self.block, -1)
        if factor is None:
            total += grouped.sum(1).view_as(total)
        else:
            weights = factor.view(self.num_clients, 1, self.block)
            total += torch.bmm(weights, grouped).view_as(total)
