"""Which client each row of a batch belongs to, and the matrix products that go client by client."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Rows"]


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
            own = x.reshape(self.num_clients, -1, x.shape[-1])
            if bias is None:
                torch.bmm(own, weight, out=grouped)
            else:
                torch.baddbmm(bias[:, None], own, weight, out=grouped)
            return out
        for k, (own, grouped) in enumerate(zip(self.split(x), self.split(out))):
            flat, result = own.reshape(-1, own.shape[-1]), grouped.view(-1, width)
            if bias is None:
                torch.mm(flat, weight[k], out=result)
            else:
                torch.addmm(bias[k], flat, weight[k], out=result)
        return out

    def products(
        self,
        left: Float[Tensor, "R T n"],
        right: Float[Tensor, "R T m"],
        out: Float[Tensor, "K n m"],
    ) -> None:
        """To `out`, for each client the sum over its rows and times of left times right, transposed."""
        if self.block is not None:
            a, b = (x.reshape(self.num_clients, -1, x.shape[-1]) for x in (left, right))
            torch.bmm(a.mT, b, out=out)
            return
        for own, a, b in zip(out, self.split(left), self.split(right)):
            torch.mm(a.flatten(0, 1).T, b.flatten(0, 1), out=own)

    def sums(
        self, values: Float[Tensor, " R *shape"], factor: Float[Tensor, " R"] | None = None
    ) -> Float[Tensor, " K *shape"]:
        """For each client the sum of its rows, each times its factor."""
        shape = self.num_clients, *values.shape[1:]
        if self.block is None:
            if factor is not None:
                values = values * factor.view(-1, *(1,) * (values.dim() - 1))
            return values.new_zeros(shape).index_add_(0, self.client, values)
        grouped = values.reshape(self.num_clients, self.block, -1)
        if factor is None:
            return grouped.sum(1).view(shape)
        return torch.bmm(factor.view(self.num_clients, 1, self.block), grouped).view(shape)
