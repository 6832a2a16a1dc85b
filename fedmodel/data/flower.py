"""Flower Datasets' partitioners, those that we use and anybody's, on records in memory."""

from __future__ import annotations

import contextlib
import io
import warnings
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.data.records import Assignment, Records
from fedmodel.errors import FedmodelError

if TYPE_CHECKING:  # two seconds of import, which natural clients need not wait for
    from flwr_datasets.partitioner import Partitioner

__all__ = ["assignment_by", "partition_rows"]


def assignment_by(partitioner: Partitioner, records: Records) -> Assignment:
    """Which client gets which record from a partitioner of Flower Datasets, unchanged.

    The partitioner sees the features (or "text") under their names, the sensitive attributes,
    "client" where there are natural clients, and "label" as class numbers.

    Raises:
        FedmodelError: it is no partitioner, or cannot divide these records; it leaves some out or
            gives them twice.
    """
    where = "[partition] name"
    if not hasattr(partitioner, "load_partition"):
        raise FedmodelError(
            f"the partitioner returned {type(partitioner).__name__}",
            where=where,
            fix="Return a fedmodel.data.records.Assignment, or a partitioner of Flower Datasets.",
        )
    table = pd.DataFrame({"text": records.text}) if records.features is None else records.features
    table = table.assign(**records.sensitive.astype("str"))
    if records.clients is not None:
        table["client"] = records.clients
    table["label"] = records.label.cat.codes
    try:
        parts = partition_rows(deepcopy(partitioner), table)  # it serves once, and may draw
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FedmodelError(
            f"{records.card.name} cannot be divided: {error}",
            where=where,
            fix="Give a partitioner of Flower Datasets that selects records by these columns: "
            f"{', '.join(map(str, table))}.",
        ) from error
    times = np.bincount(np.concatenate(parts), minlength=len(records))
    if (times != 1).any():
        raise FedmodelError(
            f"{(times == 0).sum()} records are at no client, and {(times > 1).sum()} at several",
            where=where,
            fix="Choose a partitioner that gives every record to one client.",
        )
    return Assignment.of(parts)


def partition_rows(partitioner: Partitioner, table: pd.DataFrame) -> list[Int[np.ndarray, " _"]]:
    """The row numbers of each partition. Raises what the partitioner raises."""
    import datasets

    class RowNumbers(datasets.Dataset):
        """Answers a selection with its row numbers: a copy would cost a millisecond a client."""

        order: Int[np.ndarray, " n"] | None = None  # once it is sorted

        def select(self, indices, *args, **kwargs):
            rows = np.asarray(indices, dtype=np.int64)
            return rows if self.order is None else self.order[rows]

        def sort(self, column_names, reverse=False, *args, **kwargs):
            if reverse is not False:
                raise TypeError("only rising orders are known here")
            rows = self.to_pandas().sort_values(column_names, kind="stable").index.to_numpy()
            ordered = RowNumbers(datasets.table.InMemoryTable(self.data.table.take(rows)))
            ordered.order = rows if self.order is None else self.order[rows]
            return ordered

        def __getitem__(self, key):
            """A column of numbers at once: a datasets.Column takes nine seconds for a million."""
            if isinstance(key, str) and pd.api.types.is_numeric_dtype(table[key]):
                return self.data.column(key).to_numpy()
            return super().__getitem__(key)

    partitioner.dataset = RowNumbers.from_pandas(table, preserve_index=False)
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
        parts = [partitioner.load_partition(k) for k in range(partitioner.num_partitions)]
    if not all(isinstance(rows, np.ndarray) for rows in parts):
        raise TypeError("the partitioner does not select records")
    return parts
