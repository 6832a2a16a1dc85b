"""Partitioners by mix: clients differ in the labels, groups or values that their records have.

``by = "label"`` divides by class; the name of a sensitive attribute (or of another column of few
values) divides by its levels instead, so that clients differ in whom they serve.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.compiling import compiled
from fedmodel.data.flower import partition_rows
from fedmodel.data.minimum import Parts, assigned, check_clients
from fedmodel.data.records import Assignment, Records, as_levels
from fedmodel.errors import FedmodelError, nearest, say
from fedmodel.randomness import SERVER, stream

__all__ = ["continuous", "dirichlet", "inner_dirichlet", "pathological", "shard"]

MOST_LEVELS = 100  # more are values to sort by, or names, and no mix


def dirichlet(
    records: Records,
    *,
    clients: int,
    alpha: float = 0.5,
    by: str = "label",
    min_size: int = 10,
    seed: int,
) -> Assignment:
    """Divide each class (or level of `by`) by shares from Dirichlet(alpha) (Yurochkin et al. 2019).

    1. Flower's partitioner draws once. The smaller alpha, the more clients differ in their mix
       and in their sizes; with many clients some get next to nothing.
    2. Who has fewer than `min_size` records gets the rest at random from the largest client.
       Drawing again until all have enough, as is often done, hardly ever ends for 200 clients
       and alpha = 0.3.

    Raises:
        FedmodelError: fewer records than clients times `min_size`; an option out of its range.
    """
    check_clients(len(records), clients, records.card.name)
    _check_alpha(alpha)
    if min_size < 1:
        raise FedmodelError(
            f"min_size is {min_size}",
            where="[partition] min_size",
            fix="Choose min_size >= 1, e.g. min_size = 10.",
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
        partition_by="level",
        alpha=float(alpha),
        min_partition_size=0,
        shuffle=False,
        seed=int(generator.integers(2**32)),
    )
    parts = partition_rows(partitioner, pd.DataFrame({"level": _levels(records, by)}))
    return Assignment.of(_topped_up(parts, min_size, generator))


def inner_dirichlet(
    records: Records, *, clients: int, alpha: float = 0.5, by: str = "label", seed: int
) -> Assignment:
    """Equal sizes, and each client its own mix of classes from Dirichlet(alpha) (Acar et al. 2021).

    1. Each client draws its shares of the classes (or levels of `by`).
    2. Places at clients are filled in random order: a class is drawn by the client's shares, then a
       record of it. A class that is used up is left out of the draw; where a client's are all used
       up, what is left is drawn by its number of records.

    The rule is that of Flower's InnerDirichletPartitioner, which goes over all clients for every record
    and fails in the last case.

    Raises:
        FedmodelError: more clients than records, or none; alpha is not above 0.
    """
    check_clients(len(records), clients, records.card.name)
    _check_alpha(alpha)
    level = _levels(records, by)
    draw = stream(seed, SERVER, 0, "partition")
    left = np.bincount(level)
    shares = draw.dirichlet(np.full(len(left), float(alpha)), size=clients)
    places = draw.permutation(np.arange(len(level)) % clients)
    drawn = np.empty(len(level), np.int64)
    _fill_levels(places, shares, left.copy(), draw.random(len(level)), drawn)
    rows = draw.permutation(len(level))
    client = np.empty(len(level), np.int64)
    client[rows[np.argsort(level[rows], kind="stable")]] = places[np.argsort(drawn, kind="stable")]
    return Assignment(client=client, names=tuple(map(str, range(clients))))


def pathological(
    records: Records,
    *,
    clients: int,
    classes: int = 1,
    by: str = "label",
    min_size: int = 1,
    seed: int,
) -> Assignment:
    """Each client has records of so many classes only (Li et al. 2022; Flower's PathologicalPartitioner).

    Client k has class k modulo their number, its other classes are drawn; each class is divided
    equally among those that have it. With `by` and ``classes = 1`` each group has clients of its own.

    Raises:
        FedmodelError: a class would be at no client, or a client would get fewer than `min_size`.
    """
    check_clients(len(records), clients, records.card.name)
    generator = stream(seed, SERVER, 0, "partition")
    draw, rows = int(generator.integers(2**32)), generator.permutation(len(records))
    level = _levels(records, by)[rows]
    number = len(np.unique(level))
    if not 1 <= classes <= number:
        raise FedmodelError(
            f"a client cannot have {classes} classes of {number}",
            where="[partition] classes",
            fix=f"Choose 1 <= classes <= {number}.",
        )
    if clients + classes - 1 < number:
        raise FedmodelError(
            f"{clients} clients of {classes} classes each leave some of {number} classes to nobody",
            where="[partition] classes",
            fix=f"Choose classes = {number - clients + 1} or clients = {number}.",
        )
    from flwr_datasets.partitioner import PathologicalPartitioner

    def deal(clients: int) -> Parts:
        if clients + classes - 1 < number:
            raise ValueError("a class is left over")
        partitioner = PathologicalPartitioner(
            num_partitions=clients,
            partition_by="level",
            num_classes_per_partition=classes,
            class_assignment_mode="first-deterministic" if clients >= number else "deterministic",
            shuffle=False,
            seed=draw,
        )
        return [
            rows[places] for places in partition_rows(partitioner, pd.DataFrame({"level": level}))
        ]

    return assigned(deal, clients=clients, min_size=min_size)


def shard(
    records: Records, *, clients: int, shards: int = 2, by: str = "label", seed: int
) -> Assignment:
    """Sort by class, cut into equal shards, and deal `shards` of them to each client (McMahan et al. 2017).

    All records are dealt out, where Flower's ShardPartitioner leaves out those that do not fill a
    shard; where none are left, both agree.

    Raises:
        FedmodelError: more shards than records.
    """
    check_clients(len(records), clients, records.card.name)
    most = len(records) // clients
    if not 1 <= shards <= most:
        raise FedmodelError(
            f"{clients} clients of {shards} shards need {clients * shards} shards, and "
            f"{records.card.name} has {len(records)} records",
            where="[partition] shards",
            fix=f"Choose 1 <= shards <= {most}"
            + (f", or clients = {len(records) // shards}." if shards > most else "."),
        )
    draw = stream(seed, SERVER, 0, "partition")
    dealt = draw.permutation(clients * shards).reshape(clients, shards)
    rows = draw.permutation(len(records))
    rows = rows[np.argsort(_levels(records, by)[rows], kind="stable")]
    client = np.empty(clients * shards, np.int64)
    client[dealt] = np.arange(clients)[:, None]
    edges = np.arange(clients * shards + 1) * len(rows) // (clients * shards)
    held = np.empty(len(rows), np.int64)
    held[rows] = np.repeat(client, np.diff(edges))
    return Assignment(client=held, names=tuple(map(str, range(clients))))


def continuous(
    records: Records, *, column: str, clients: int, strictness: float = 0.5, seed: int
) -> Assignment:
    """Feature skew: equal parts of the records sorted by a number and noise (Flower's ContinuousPartitioner).

    The number is standardised; `strictness` is its weight and the rest that of standard normal noise:
    0 deals out at random, 1 sorts.

    Raises:
        FedmodelError: no such column, or it is no number, lacks values or is constant.
    """
    check_clients(len(records), clients, records.card.name)
    table = pd.DataFrame() if records.features is None else records.features
    fitting = [str(name) for name in table if _varies(table[name])]
    if column not in fitting:
        there = column in table
        raise FedmodelError(
            f"{records.card.name} cannot be sorted by {column!r}"
            + (": it is no number, lacks values or is constant" if there else ""),
            where="[partition] column",
            fix=nearest(column, fitting, what="numbers without gaps are"),
        )
    if not 0 <= strictness <= 1:
        raise FedmodelError(
            f"strictness is {strictness}",
            where="[partition] strictness",
            fix="Choose 0 <= strictness <= 1.",
        )
    from flwr_datasets.partitioner import ContinuousPartitioner

    partitioner = ContinuousPartitioner(
        num_partitions=clients,
        partition_by="value",
        strictness=float(strictness),
        shuffle=False,
        seed=int(stream(seed, SERVER, 0, "partition").integers(2**32)),
    )
    values = pd.DataFrame({"value": table[column].to_numpy(dtype=float)})
    return Assignment.of(partition_rows(partitioner, values))


def _varies(values: pd.Series) -> bool:
    return bool(
        pd.api.types.is_numeric_dtype(values) and not values.isna().any() and values.nunique() > 1
    )


def _levels(records: Records, by: str) -> Int[np.ndarray, " N"]:
    """Each record's class, or level of a column, as numbers from 0 without gaps."""
    if by == "label":
        values = records.label
    elif by in records.sensitive:
        values = records.sensitive[by]
    elif records.features is not None and by in records.features:
        values = as_levels(records.features[by])
    else:
        names = ["label", *map(str, records.sensitive)]
        raise FedmodelError(
            f"{records.card.name} has no column {by!r}",
            where="[partition] by",
            fix=nearest(by, names, what="it can be divided by")
            + " Other sensitive attributes are named in data.sensitive.",
        )
    code = values.cat.codes.to_numpy(dtype=np.int64)  # a missing value is -1, a level of its own
    found, level = np.unique(code, return_inverse=True)
    if len(found) > MOST_LEVELS:
        raise FedmodelError(
            f"{by!r} has {len(found)} values, too many for a mix",
            where="[partition] by",
            fix=f"Divide by {say(['label', *map(str, records.sensitive)])}, or use name = "
            f'"continuous" with column = "{by}" if it is a number.',
        )
    return level


def _check_alpha(alpha: float) -> None:
    if not alpha > 0:
        raise FedmodelError(
            f"alpha is {alpha}",
            where="[partition] alpha",
            fix="Choose alpha > 0, e.g. alpha = 0.5.",
        )


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


@compiled
def _fill_levels(places, shares, left, uniforms, drawn):
    """Draw each place's level by its client's shares of the levels that are left, and take one."""
    for place in range(len(places)):
        client = places[place]
        total = 0.0
        for level in range(len(left)):
            if left[level] > 0:
                total += shares[client, level]
        point, last = uniforms[place] * total, -1
        if total <= 0.0:  # all of this client's are used up
            point = uniforms[place] * left.sum()
        for level in range(len(left)):
            if left[level] > 0:
                weight = shares[client, level] if total > 0.0 else float(left[level])
                if weight > 0.0:
                    last = level
                    point -= weight
                    if point < 0.0:
                        break
        drawn[place] = last
        left[last] -= 1
