"""Partitioners: which client holds which record. Each divides all records and gives none twice.

Here: the data set's own clients, alone or in groups, and equal parts at random.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.data.flower import partition_rows
from fedmodel.data.minimum import check_clients
from fedmodel.data.records import Assignment, Records, as_text, in_order
from fedmodel.errors import FedmodelError, nearest
from fedmodel.randomness import SERVER, stream

__all__ = ["grouped_natural", "iid", "natural"]


def natural(records: Records, *, column: str | None = None) -> Assignment:
    """Each client as the data set has it, or one client for each value of a `column`.

    Clients are in the order of their names, numbers by size. Records that lack a value in the
    column make the client "unknown".

    Raises:
        FedmodelError: no natural clients, no such column, or only one client.
    """
    where = "[partition] name = natural"
    columns = pd.concat(
        [table for table in (records.features, records.sensitive) if table is not None], axis=1
    )
    columns = columns.loc[:, ~columns.columns.duplicated()]
    if column is not None:
        if column not in columns:
            raise FedmodelError(
                f"{records.card.name} has no column {column!r}",
                where="[partition] column",
                fix=nearest(column, map(str, columns), what="it has"),
            )
        ids = as_text(columns[column]).fillna("unknown")
    elif records.clients is not None:
        ids = records.clients
    else:
        or_column = f", or column = one of {', '.join(map(str, columns))}" if len(columns.T) else ""
        raise FedmodelError(
            f"{records.card.name} does not say which client a record belongs to",
            where=where,
            fix=f'Use name = "dirichlet" with clients = 10{or_column}.',
        )
    names = in_order(ids.unique())
    if len(names) < 2:
        raise FedmodelError(
            f"{names[0]!r} is the only client",
            where=where,
            fix='Use another column, or name = "iid" with clients = 10.',
        )
    return Assignment(client=pd.Index(names).get_indexer(pd.Index(ids)), names=tuple(names))


def grouped_natural(
    records: Records,
    *,
    column: str | None = None,
    group_size: int = 2,
    mode: Literal["allow-smaller", "allow-bigger", "strict"] = "allow-smaller",
    min_size: int = 1,
) -> Assignment:
    """So many natural clients, neighbours in their order, become one (Flower's GroupedNaturalIdPartitioner).

    Whoever is left over makes a smaller group, or joins the others' under "allow-bigger"; "strict"
    refuses. A group is called by its first and last client.

    Raises:
        FedmodelError: what `natural` raises; a group size that leaves one group, or under "strict" a
            rest; a group of fewer than `min_size` records.
    """
    single = natural(records, column=column)
    names, most = single.names, len(single.names) // 2
    sizes = np.bincount(single.client, minlength=len(names))
    if not 1 <= group_size <= most:
        raise FedmodelError(
            f"groups of {group_size} do not fit to {len(names)} clients",
            where="[partition] group_size",
            fix=f"Choose 1 <= group_size <= {most}, which leaves two groups or more.",
        )
    fitting = [n for n in range(1, most + 1) if len(names) % n == 0]
    if mode == "strict" and group_size not in fitting:
        raise FedmodelError(
            f"groups of {group_size} leave over some of {len(names)} clients",
            where="[partition] group_size",
            fix=f"Choose group_size = {min(fitting, key=lambda n: abs(n - group_size))}, or mode = "
            '"allow-smaller".',
        )

    def groups(of: int) -> list[Int[np.ndarray, " _"]]:
        from flwr_datasets.partitioner import GroupedNaturalIdPartitioner

        partitioner = GroupedNaturalIdPartitioner("id", of, mode, sort_unique_ids=True)
        return partition_rows(partitioner, pd.DataFrame({"id": np.arange(len(names))}))

    grouped = groups(group_size)
    if (smallest := min(sizes[group].sum() for group in grouped)) < min_size:
        larger_ones = fitting if mode == "strict" else [group_size << k for k in range(1, 40)]
        enough = (
            of
            for of in larger_ones
            if group_size < of <= most and min(sizes[g].sum() for g in groups(of)) >= min_size
        )
        larger = next(enough, 0)
        raise FedmodelError(
            f"a group of clients has {smallest} records, and min_size is {min_size}",
            where="[partition] min_size",
            fix=f"Choose min_size = {smallest}"
            + (f" or group_size = {larger}." if larger else "."),
        )
    group_of = np.empty(len(names), np.int64)
    for number, group in enumerate(grouped):
        group_of[group] = number
    called = [
        names[group[0]] if len(group) == 1 else f"{names[group[0]]} to {names[group[-1]]}"
        for group in grouped
    ]
    return Assignment(client=group_of[single.client], names=tuple(called))


def iid(records: Records, *, clients: int, seed: int) -> Assignment:
    """Shuffle the records and cut them into equal parts: clients differ by chance alone.

    Raises:
        FedmodelError: more clients than records, or none.
    """
    check_clients(len(records), clients, records.card.name)
    shuffled = stream(seed, SERVER, 0, "partition").permutation(len(records))
    least, more = divmod(len(records), clients)  # as Flower's IidPartitioner cuts, which takes
    sizes = np.full(clients, least)  # an array a client
    sizes[:more] += 1
    client = np.empty(len(records), np.int64)
    client[shuffled] = np.repeat(np.arange(clients), sizes)
    return Assignment(client=client, names=tuple(map(str, range(clients))))
