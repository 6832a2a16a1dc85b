"""K clients that train at once: their records, their batches, their noise, and what they must report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from fedmodel import randomness
from fedmodel.cohort import batches
from fedmodel.cohort.model import FlatModel
from fedmodel.types import FederatedData

__all__ = ["Batch", "Cohort", "LocalTraining"]


@dataclass(frozen=True)
class Batch:
    """One step's records of every client, padded to the longest. Padding slots are not present."""

    x: Num[Tensor, "K B ..."]
    y: Int[Tensor, "K B"]
    present: Bool[Tensor, "K B"]
    keys: Int[Tensor, "K B"]  # each record's key in this step, for dropout
    active: Float[Tensor, "K 1"]  # 1 while the client still has steps to take, else 0
    # Gradients [K, d] to add to those of the records, in units of the clip: only in an audit.
    planted: Callable[[], Tensor] | None = None
    weight: Float[Tensor, "K B"] | None = None  # how much each record's loss counts; default: 1

    def part(self, clients: slice, records: slice) -> Batch:
        """Some clients' and some slots' share of the batch."""
        return Batch(
            self.x[clients, records],
            self.y[clients, records],
            self.present[clients, records],
            self.keys[clients, records],
            self.active[clients],
            weight=None if self.weight is None else self.weight[clients, records],
        )


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """How much each client trains in a round, and under which privacy plan. All arrays are ``[N]``
    over the whole population, so that any cohort can look its clients up."""

    batch_size: int
    num_steps: np.ndarray  # local steps a round
    private: bool = False
    clip: float = float("inf")
    noise_multiplier: np.ndarray | None = None
    noise: str = "seeded"  # or "secure": from a cryptographic source, not reproducible

    def without_privacy(self) -> LocalTraining:
        """The same steps on the same batches, without clip and noise."""
        if self.noise_multiplier is None:
            return self
        zeros = np.zeros_like(self.noise_multiplier)
        return replace(self, private=False, clip=float("inf"), noise_multiplier=zeros)


@dataclass(frozen=True)
class Cohort:
    """The clients of one round that train together. Draws depend on the client, never on the company."""

    clients: np.ndarray  # [K] numbers in partition order
    data: FederatedData
    model: FlatModel
    training: LocalTraining
    seed: int
    round: int
    config: Mapping[str, Any] = field(default_factory=dict)  # what the strategy sent along
    device: str = "cpu"
    threads: int = 1  # that compiled loops may use
    # What was really done, noted as it happens: the ledger charges this, not what was planned.
    noise_steps: np.ndarray = field(init=False)  # [K]
    poisson_steps: np.ndarray = field(init=False)  # [K]
    loss_sum: Tensor = field(init=False)  # [K]
    loss_count: Tensor = field(init=False)  # [K]

    def __post_init__(self) -> None:
        for name in ("noise_steps", "poisson_steps"):
            object.__setattr__(self, name, np.zeros(len(self.clients), dtype=np.int64))
        for name in ("loss_sum", "loss_count"):
            object.__setattr__(self, name, torch.zeros(len(self.clients), device=self.device))

    @property
    def size(self) -> int:
        """Number of clients, K."""
        return len(self.clients)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Training records of each client, ``[K]``."""
        return (self._bounds[:, 1] - self._bounds[:, 0]).astype(np.int64)

    @cached_property
    def num_steps(self) -> np.ndarray:
        """Local steps of each client this round, ``[K]``."""
        return self.training.num_steps[self.clients]

    @property
    def steps(self) -> range:
        """The steps of the client that takes most; `Batch.active` tells who still does."""
        return range(int(self.num_steps.max()))

    @property
    def clip(self) -> float:
        """Bound on the norm of one record's gradient."""
        return self.training.clip

    @cached_property
    def noise_multiplier(self) -> Float[Tensor, " K"]:
        """Standard deviation of each client's noise, in units of `clip`."""
        plan = self.training.noise_multiplier
        values = np.zeros(self.size) if plan is None else plan[self.clients]
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    @cached_property
    def sample_rate(self) -> np.ndarray:
        """Probability of each record to be in a Poisson batch, ``min(1, batch_size / n)``, ``[K]``."""
        return np.minimum(1.0, self.training.batch_size / np.maximum(self.sizes, 1))

    @cached_property
    def expected_batch_size(self) -> Float[Tensor, " K"]:
        """Mean number of records in a Poisson batch, q n; 1 for a client without records."""
        values = np.maximum(self.sample_rate * self.sizes, 1.0)
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def shuffled_batch(self, step: int) -> Batch:
        """The next `batch_size` records in an order shuffled anew each epoch (the last batch is shorter)."""
        return self._batch(self.shuffled_records(range(step, step + 1))[0], step)

    def shuffled_records(self, steps: range) -> Int[np.ndarray, "S K B"]:
        """The numbers of those records within their client, for several steps; -1 for none."""
        width, numbers = self.training.batch_size, self.num_steps
        each = np.maximum(-(-self.sizes // width), 1)  # steps of an epoch, [K]
        slots = max(1, min(width, int(self.sizes.max())))
        records = np.full((len(steps), self.size, slots), -1, dtype=np.int64)
        there = numbers > steps.start
        if there.any():
            first = (steps.start // each)[there].min()
            last = (np.minimum(numbers - 1, steps.stop - 1) // each)[there].max()
            for epoch in range(first, last + 1):
                order = self._order(epoch, (numbers - 1) // each)
                batches.take_shuffled(
                    records, order, self.sizes, numbers, width=width, epoch=epoch, steps=steps
                )
        return records

    def poisson_batch(self, step: int) -> Batch:
        """Each record with probability `sample_rate`, independently: what the accountants assume."""
        return self._batch(self.poisson_records(step), step)

    def poisson_records(self, step: int) -> Int[np.ndarray, "K B"]:
        """The numbers of those records within their client; -1 for none. Noted as a step."""
        active = np.flatnonzero(
            step < self.num_steps
        )  # often a few large clients: draw for them alone
        self.poisson_steps[active] += 1
        sizes = self.sizes[active]
        drawn = randomness.uniforms(
            self._keys("poisson")[active], int(sizes.max(initial=0)), step=step
        )
        taken = batches.poisson(drawn, self.sample_rate[active], sizes)
        records = np.full((self.size, taken.shape[1]), -1, np.int64)
        records[active] = taken
        return records

    def normal(self, step: int, like: Float[Tensor, "K d"]) -> Float[Tensor, "K d"]:
        """Standard normal noise for each client's step. Noted: each call is a step that is charged."""
        drawn = np.empty(like.shape, np.float32)
        self.draw_normals(range(step, step + 1), drawn[None])
        return torch.from_numpy(drawn).to(like)

    def draw_normals(self, steps: range, out: Float[np.ndarray, "S K d"]) -> None:
        """The same for several steps, to `out`."""
        for step in steps:
            self.noise_steps[:] += step < self.num_steps
        if self.training.noise == "secure":
            randomness.secure_normals(out.shape, out=out)
            return
        keys = self._keys("noise")
        randomness.normals_of_steps(keys, steps, out=out, threads=self.threads)

    def note_loss(self, loss: Float[Tensor, " K"], number: Int[Tensor, " K"]) -> None:
        """Add to the clients' training loss: summed loss over so many records."""
        self.loss_sum.add_(loss.detach())
        self.loss_count.add_(number)

    @property
    def training_loss(self) -> Float[Tensor, " K"]:
        """Mean loss over the records trained on, as they were met; NaN where none was noted."""
        return self.loss_sum / self.loss_count

    def parts(self, *, clients: int) -> Iterator[Cohort]:
        """The same cohort in pieces of at most so many clients."""
        for first in range(0, self.size, clients):
            yield replace(self, clients=self.clients[first : first + clients])

    @cached_property
    def rows(self) -> tuple[np.ndarray, Int[np.ndarray, " N"], Int[np.ndarray, " K"]]:
        """The clients' training records among N rows ``x [N, ...]`` and ``y [N]``: each one's first row."""
        x, y, first = self.data.x, self.data.y, self._bounds[:, 0]
        if not isinstance(x, Tensor):  # records that are made when they are asked for
            ends = np.cumsum(self.sizes)
            offset = np.arange(self.sizes.sum()) - np.repeat(ends - self.sizes, self.sizes)
            wanted = torch.from_numpy(np.repeat(first, self.sizes) + offset)
            x, y = x.index_select(0, wanted), y.index_select(0, wanted)
            first = ends - self.sizes
        return x.contiguous().numpy(), y.contiguous().numpy(), np.ascontiguousarray(first)

    @cached_property
    def _bounds(self) -> np.ndarray:
        return self.data.bounds.numpy()[self.clients]

    def _keys(self, purpose: str) -> np.ndarray:
        cache = self.__dict__.setdefault("_key_cache", {})
        if purpose not in cache:
            cache[purpose] = randomness.stream_keys(self.seed, self.clients, self.round, purpose)
        return cache[purpose]

    def _order(self, epoch: int, last: Int[np.ndarray, " K"]) -> Int[np.ndarray, "K n"]:
        """The records' order in an epoch, padded with -1; none of clients whose last one is earlier."""
        cache = self.__dict__.setdefault("_order_cache", {})
        if epoch not in cache:
            sizes = np.where(last >= epoch, self.sizes, 0)
            cache[epoch] = randomness.shuffles(self._keys("shuffle"), sizes, step=epoch)
        return cache[epoch]

    def _batch(self, records: Int[np.ndarray, "K B"], step: int) -> Batch:
        # A client without records in its split still needs a row to point at.
        rows = batches.rows_of(records, self._bounds[:, 0], number=len(self.data.y))
        index, shape = torch.from_numpy(rows.ravel()).to(self.data.x.device), records.shape
        if self.model.has_dropout:
            keys = self._keys("dropout")
            keys = randomness.record_keys(keys, np.maximum(records, 0), step=step)
        else:
            keys = np.zeros_like(records)
        active = torch.from_numpy((step < self.num_steps)[:, None])
        return Batch(
            x=self.data.x.index_select(0, index).unflatten(0, shape).to(self.device),
            y=self.data.y.index_select(0, index).view(shape).to(self.device),
            present=torch.from_numpy(records >= 0).to(self.device),
            keys=torch.from_numpy(keys).to(self.device),
            active=active.to(self.device, torch.float32),
        )
