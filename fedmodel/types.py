"""What flows between the parts: records of a federation, and the counts its clients answer with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["SPLITS", "Card", "Counts", "FederatedData", "Split"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Where a data set comes from, and what to be careful about."""

    name: str
    title: str
    source: str
    licence: str
    citation: str = ""
    harms: str = ""
    cautions: tuple[str, ...] = ()  # the trap that costs most comes first

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run says of the data set: its first caution, and where the others are."""
        more = len(self.cautions) - 1
        others = f" `fedmodel show data {self.name}` has {more} more." if more > 0 else ""
        return tuple(f"{self.name}: {caution}{others}" for caution in self.cautions[:1])


@dataclass(frozen=True, kw_only=True)
class FederatedData:
    """The records of all clients in flat tensors: client by client, and train, validation, test within.

    Client k's rows of split s are ``bounds[k, s] : bounds[k, s + 1]``, so that no client needs a
    copy. N records, K clients, S sensitive attributes.
    """

    x: Tensor  # [N, ...] float32 features, or int64 token ids where vocabulary > 0 (0 is padding)
    y: Int[Tensor, " N"]
    group: Int[Tensor, "N S"]  # level of each sensitive attribute
    bounds: Int[Tensor, "K 4"]
    clients: tuple[str, ...]  # K names, in partition order
    classes: tuple[str, ...]  # class 1 is the positive one where there are two
    attributes: Mapping[str, tuple[str, ...]]  # sensitive attribute -> its levels
    features: tuple[str, ...]  # a name for each column of x, or () for tokens and images
    card: Card
    outside: tuple[str, ...] = ()  # what was fitted on records: not covered by a DP guarantee
    vocabulary: int = 0
    origin: str = ""  # a hash of the records before encoding, and of who holds which
    parts: str = ""  # a hash of which of them are training, validation and test records
    encoder: Any = None  # `transform` encodes further records: see fedmodel.data.encoder, .hashing

    @property
    def num_clients(self) -> int:
        return len(self.clients)

    @property
    def num_groups(self) -> int:
        """Combinations of the sensitive attributes' levels; 1 where there is no attribute."""
        return prod(len(levels) for levels in self.attributes.values())

    def sizes(self, split: Split) -> Int[Tensor, " K"]:
        """Number of records of each client in a split."""
        column = SPLITS.index(split)
        return self.bounds[:, column + 1] - self.bounds[:, column]

    def rows(self, client: int, split: Split) -> slice:
        """The rows of one client's split, for indexing x, y and group."""
        column = SPLITS.index(split)
        return slice(int(self.bounds[client, column]), int(self.bounds[client, column + 1]))

    def cell(self) -> Int[Tensor, " N"]:
        """Each record's combination of sensitive levels as one number, first attribute slowest."""
        cell = torch.zeros(len(self.y), dtype=torch.int64)
        for column, levels in enumerate(self.attributes.values()):
            cell = cell * len(levels) + self.group[:, column]
        return cell

    def pooled(self) -> FederatedData:
        """The same records at one client that holds them all; each keeps its split."""
        index, ends = [], [0]
        for split in SPLITS:
            for client in range(self.num_clients):
                rows = self.rows(client, split)
                index.append(torch.arange(rows.start, rows.stop))
            ends.append(sum(map(len, index)))
        order = torch.cat(index)
        return replace(
            self,
            x=self.x[order],
            y=self.y[order],
            group=self.group[order],
            bounds=torch.tensor([ends]),
            clients=("pooled",),
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What clients answer an evaluation with: sufficient statistics, which add up over clients.

    K clients, G combinations of sensitive levels (order of `FederatedData.cell`), C classes, and
    for two classes a histogram of P(class 1) in equal bins over [0, 1] (no bins otherwise).
    Noised counts (`fedmodel.privacy.counts`) may be negative; they have no bins and NaN for a loss.
    """

    confusion: Int[Tensor, "K G true predicted"]
    loss: Float[Tensor, " K"]  # sum of cross-entropies in nats, float64
    histogram: Int[Tensor, "K true bins"]
    noise: float = 0.0  # standard deviation of what was added to each confusion count

    def total(self) -> Counts:
        """The counts of all clients together, as one client's (K = 1)."""
        return Counts(
            confusion=self.confusion.sum(0, keepdim=True),
            loss=self.loss.sum(0, keepdim=True),
            histogram=self.histogram.sum(0, keepdim=True),
            noise=self.noise * len(self.loss) ** 0.5,
        )
