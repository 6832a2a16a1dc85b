"""Partitioners by quantity: records are dealt out at random, and clients differ in how many they get."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.data.flower import partition_rows
from fedmodel.data.minimum import assigned, check_clients
from fedmodel.data.records import Assignment, Records
from fedmodel.errors import FedmodelError
from fedmodel.randomness import SERVER, stream

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

__all__ = ["exponential", "linear", "size", "square"]

LISTED = 20  # sizes that an error writes out


def size(records: Records, *, sizes: list[int], seed: int) -> Assignment:
    """Client k gets `sizes[k]` records at random; together all there are (Flower's SizePartitioner).

    Raises:
        FedmodelError: a size below 1, or sizes that do not add up to the records.
    """
    number = len(records)
    if not sizes or min(sizes) < 1:
        raise FedmodelError(
            "`sizes` is empty" if not sizes else f"a client of {min(sizes)} records is none",
            where="[partition] sizes",
            fix="Give each client 1 record or more, e.g. sizes = "
            f"[{number // 2}, {number - number // 2}].",
        )
    if sum(sizes) != number:
        raise FedmodelError(
            f"the sizes add up to {sum(sizes)}, and {records.card.name} has {number} records",
            where="[partition] sizes",
            fix=_other_sizes(sizes, number),
        )
    from flwr_datasets.partitioner import SizePartitioner

    return Assignment.of(_dealt(records, SizePartitioner(list(sizes)), seed))


def linear(records: Records, *, clients: int, min_size: int = 1, seed: int) -> Assignment:
    """The n-th client gets records in proportion to n (Flower's LinearPartitioner).

    Raises:
        FedmodelError: the first client would get fewer than `min_size`.
    """
    from flwr_datasets.partitioner import LinearPartitioner

    return _by_law(LinearPartitioner, records, clients, min_size, seed)


def square(records: Records, *, clients: int, min_size: int = 1, seed: int) -> Assignment:
    """The n-th client gets records in proportion to n squared (Flower's SquarePartitioner).

    Raises:
        FedmodelError: the first client would get fewer than `min_size`.
    """
    from flwr_datasets.partitioner import SquarePartitioner

    return _by_law(SquarePartitioner, records, clients, min_size, seed)


def exponential(records: Records, *, clients: int, min_size: int = 1, seed: int) -> Assignment:
    """The n-th client gets records in proportion to e^n (Flower's ExponentialPartitioner).

    The last client holds 63 % of the records, so that ten clients need tens of thousands.

    Raises:
        FedmodelError: the first client would get fewer than `min_size`.
    """
    from flwr_datasets.partitioner import ExponentialPartitioner

    return _by_law(ExponentialPartitioner, records, clients, min_size, seed)


def _by_law(
    law: Callable[[int], Partitioner], records: Records, clients: int, min_size: int, seed: int
) -> Assignment:
    check_clients(len(records), clients, records.card.name)
    return assigned(
        lambda number: _dealt(records, law(number), seed), clients=clients, min_size=min_size
    )


def _dealt(records: Records, partitioner: Partitioner, seed: int) -> list[Int[np.ndarray, " _"]]:
    """The parts of a partitioner that cuts the records one after the other, of shuffled records."""
    shuffled = stream(seed, SERVER, 0, "partition").permutation(len(records))
    parts = partition_rows(partitioner, pd.DataFrame({"row": shuffled}))
    return [shuffled[places] for places in parts]


def _other_sizes(sizes: list[int], number: int) -> str:
    """The sizes that were meant: the same proportions, or the last client has what is left."""
    last = number - sum(sizes[:-1])
    if len(sizes) > LISTED and last > 0:
        return f"Make the last of them {last}."
    if len(sizes) > number:
        return f"Give at most {number} clients a size."
    edges = np.rint(np.cumsum([0, *sizes]) * (number - len(sizes)) / sum(sizes)).astype(int)
    scaled = (np.diff(edges) + 1).tolist()  # one for each, the others in proportion
    if len(sizes) > LISTED:
        return f"Make each {number / sum(sizes):.3g} times as large; they must add up to {number}."
    return f"Choose sizes = {scaled}."
