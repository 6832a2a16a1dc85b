"""How the records lie: who has how many of which class and group, and how much clients differ."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedmodel.types import SPLITS, FederatedData, Split

__all__ = ["label_skew", "partition_table"]


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


def label_skew(data: FederatedData, split: Split = "train") -> pd.DataFrame:
    """How far each client's labels are from the pooled ones.

    Columns: client; records; `total_variation`, half the sum over classes of the absolute
    difference between the client's share and the pooled share, 0 to 1, NaN without records.
    """
    shares = np.zeros((data.num_clients, len(data.classes)))
    for client in range(data.num_clients):
        labels = data.y[data.rows(client, split)].numpy()
        shares[client] = np.bincount(labels, minlength=len(data.classes))
    records = shares.sum(1)
    with np.errstate(invalid="ignore"):  # no records: NaN
        pooled = shares.sum(0) / records.sum()
        shares /= records[:, None]
    return pd.DataFrame(
        {
            "client": list(data.clients),
            "records": records.astype(int),
            "total_variation": np.abs(shares - pooled).sum(1) / 2,
        }
    )
