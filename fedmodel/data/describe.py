"""How the records lie: who has how many of which class and group."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedmodel.data.records import Records
from fedmodel.types import SPLITS, FederatedData

__all__ = ["partition_table", "summary_of"]

MOST_NAMED = 8  # columns, levels or clients that a summary names


def summary_of(records: Records) -> dict[str, str]:
    """What a data set holds, a line each: records, classes, features, missing, groups, clients.

    These are counts of records: outside any differential-privacy guarantee.
    """
    lines = {
        "records": f"{len(records):,}",
        "classes": _shares(records.label, records.classes),
    }
    if records.features is None:
        lines["texts"] = f"first {records.max_tokens} tokens, hashed into {records.buckets:,}"
    else:
        names = list(map(str, records.features))
        lines["features"] = f"{len(names)}: {_some(names)}"
        lacking = records.features.isna().mean().sort_values(ascending=False)
        lacking = lacking[lacking > 0]
        told = [f"{name} {share:.1%}" for name, share in lacking.items()]
        lines["missing"] = f"in {len(told)} features: {_some(told)}" if told else "nothing"
    for name, levels in records.attributes.items():
        lines[f"by {name}"] = _shares(records.sensitive[name], levels)
    if records.clients is None:
        lines["clients"] = "none of its own"
    else:
        sizes = records.clients.value_counts()
        largest = [f"{name} {size:,}" for name, size in sizes.items()]
        lines["clients"] = (
            f"{len(sizes)}, of {sizes.min():,} to {sizes.max():,} records, median "
            f"{sizes.median():,g}: {_some(largest)}"
        )
    if records.split is not None:
        lines["split"] = _shares(records.split, SPLITS)
    return lines


def _shares(values: pd.Series, levels: tuple[str, ...]) -> str:
    counts = values.value_counts()
    return ", ".join(
        f"{level} {counts[level]:,} ({counts[level] / len(values):.1%})"
        for level in levels
        if counts.get(level, 0)
    )


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def partition_table(data: FederatedData) -> pd.DataFrame:
    """Number of records by client, split, class and sensitive levels; combinations that occur.

    Columns: client, split, class, one for each sensitive attribute, count. These are counts of
    records at a client: outside any differential-privacy guarantee.
    """
    client = np.repeat(
        np.arange(data.num_clients), (data.bounds[:, -1] - data.bounds[:, 0]).numpy()
    )
    row = np.arange(len(data.y))
    part = sum((row >= data.bounds[client, column].numpy()).astype(int) for column in (1, 2))
    names = ["client", "split", "class"]
    names += [f"sensitive {name}" if name in names else name for name in data.attributes]
    levels = [data.clients, SPLITS, data.classes, *data.attributes.values()]
    codes = [client, part, data.y.numpy(), *data.group.numpy().T]
    shape = tuple(map(len, levels))
    cell, count = np.unique(np.ravel_multi_index(codes, shape), return_counts=True)
    columns = {
        name: pd.Categorical.from_codes(code.astype(np.int64), categories=pd.Index(level))
        for name, level, code in zip(names, levels, np.unravel_index(cell, shape))
    }
    return pd.DataFrame({**columns, "count": count})
