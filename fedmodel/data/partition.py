"""Partitioners: which client holds which record. Each divides all records and gives none twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.data.flower import partition_rows
from fedmodel.data.records import Assignment, Records, as_text, in_order
from fedmodel.errors import FedmodelError, nearest
from fedmodel.randomness import SERVER, stream

__all__ = ["dirichlet", "iid", "natural"]


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


def iid(records: Records, *, clients: int, seed: int) -> Assignment:
    """Shuffle the records and cut them into equal parts: clients differ by chance alone.

    Raises:
        FedmodelError: more clients than records, or none.
    """
    _check(records, clients)
    from flwr_datasets.partitioner import IidPartitioner

    shuffled = stream(seed, SERVER, 0, "partition").permutation(len(records))
    parts = partition_rows(IidPartitioner(num_partitions=clients), pd.DataFrame({"row": shuffled}))
    return Assignment.of([shuffled[places] for places in parts])


def dirichlet(
    records: Records, *, clients: int, alpha: float = 0.5, min_size: int = 10, seed: int
) -> Assignment:
    """Label skew: divide each class by shares drawn from Dirichlet(alpha) (Yurochkin et al. 2019).

    1. Flower's partitioner draws once. The smaller alpha, the more clients differ in their labels
       and in their sizes; with many clients some get next to nothing.
    2. Who has fewer than `min_size` records gets the rest at random from the largest client.
       Drawing again until all have enough, as is often done, hardly ever ends for 200 clients
       and alpha = 0.3.

    Raises:
        FedmodelError: fewer records than clients times `min_size`; an option out of its range.
    """
    _check(records, clients)
    if alpha <= 0 or min_size < 1:
        raise FedmodelError(
            f"alpha is {alpha} and min_size {min_size}",
            where="[partition] alpha" if alpha <= 0 else "[partition] min_size",
            fix="Choose alpha > 0 and min_size >= 1, e.g. alpha = 0.5 and min_size = 10.",
        )
    if clients * min_size > len(records):
        raise FedmodelError(
            f"{len(records)} records are too few for {clients} clients of {min_size} or more",
            where="[partition] clients",
            fix=f"Choose min_size = {len(records) // clients}"
            + (f" or clients = {most}." if (most := len(records) // min_size) > 1 else "."),
        )
    from flwr_datasets.partitioner import DirichletPartitioner

    generator = stream(seed, SERVER, 0, "partition")
    partitioner = DirichletPartitioner(
        num_partitions=clients,
        partition_by="label",
        alpha=float(alpha),
        min_partition_size=0,
        shuffle=False,
        seed=int(generator.integers(2**32)),
    )
    parts = partition_rows(partitioner, pd.DataFrame({"label": records.label.cat.codes}))
    return Assignment.of(_topped_up(parts, min_size, generator))


def _topped_up(
    parts: list[Int[np.ndarray, " _"]], min_size: int, generator: np.random.Generator
) -> list[Int[np.ndarray, " _"]]:
    sizes = np.array([len(rows) for rows in parts])
    for short in np.flatnonzero(sizes < min_size):
        while (lacking := min_size - sizes[short]) > 0:
            giver = int(sizes.argmax())  # has more than min_size, for there is enough for all
            given = min(lacking, sizes[giver] - min_size)
            rows = generator.permutation(parts[giver])
            parts[giver], parts[short] = rows[given:], np.append(parts[short], rows[:given])
            sizes[giver], sizes[short] = sizes[giver] - given, sizes[short] + given
    return parts


def _check(records: Records, clients: int) -> None:
    if not 1 <= clients <= len(records):
        raise FedmodelError(
            f"{clients} clients for the {len(records)} records of {records.card.name}",
            where="[partition] clients",
            fix=f"Choose 1 <= clients <= {len(records)}.",
        )
