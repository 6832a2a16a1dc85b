"""Counts of many clients that turn into one record a client only where they must travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from flwr.app import ConfigRecord

from fedmodel.evaluation.counts import from_records, to_record
from fedmodel.types import Counts

__all__ = ["CountRows", "stacked"]


class CountRows(Sequence[ConfigRecord]):
    """The rows of stacked counts as records, made when somebody looks."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def __len__(self) -> int:
        return len(self.counts.loss)

    @overload
    def __getitem__(self, index: int) -> ConfigRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[ConfigRecord]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return to_record(_pick(self.counts, [index]))

    @staticmethod
    def concat(parts: Sequence[CountRows], order: Sequence[int]) -> CountRows:
        """The rows of all parts, in a new order."""
        joined = Counts(
            confusion=torch.cat([part.counts.confusion for part in parts]),
            loss=torch.cat([part.counts.loss for part in parts]),
            histogram=torch.cat([part.counts.histogram for part in parts]),
            noise=parts[0].counts.noise,
        )
        return CountRows(_pick(joined, list(order)))


def stacked(rows: Sequence[ConfigRecord]) -> Counts:
    """One `Counts` of all rows, whether they travelled as records or not."""
    return rows.counts if isinstance(rows, CountRows) else from_records(list(rows))


def _pick(counts: Counts, rows: list[int]) -> Counts:
    return Counts(
        confusion=counts.confusion[rows],
        loss=counts.loss[rows],
        histogram=counts.histogram[rows],
        noise=counts.noise,
    )
