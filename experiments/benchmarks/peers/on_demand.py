"""Records that exist when somebody reads them: a million clients' would fill the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.works import Work

__all__ = ["OnDemand", "records_on_demand"]

POOL = 65_536  # different records, a power of two
ODD = 0x9E3779B1  # multiplication by it scatters neighbours over the pool


@dataclass(frozen=True)
class OnDemand:
    """A tensor of `length` rows as far as reading rows goes; each is one of a pool, by its number."""

    pool: Tensor
    length: int

    def __len__(self) -> int:
        return self.length

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.length, *self.pool.shape[1:]))

    @property
    def device(self) -> torch.device:
        return self.pool.device

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.pool[(rows * ODD >> 8) & (POOL - 1)]

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The same rows, asked for in torch's other way."""
        return self[rows]


def records_on_demand(work: Work) -> tuple[Any, Any]:
    """The flat records ``x [N, ...]`` and ``y [N]`` of all clients of a work, N = K n."""
    x, y = work.drawn(POOL, part=1)
    number = work.population * work.num_records
    return OnDemand(x, number), OnDemand(y, number)
