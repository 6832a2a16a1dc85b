"""Which of a client's records are in a step's batch: compiled loops over clients.

Records are numbers within a client; -1 fills a row up to the longest.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from fedmodel.compiling import compiled

__all__ = ["poisson", "rows_of", "take_shuffled"]

Numbers = Int64[np.ndarray, " K"]


def take_shuffled(
    records: Int64[np.ndarray, "S K B"],
    order: Int64[np.ndarray, "K n"],
    sizes: Numbers,
    num_steps: Numbers,
    *,
    width: int,
    epoch: int,
    steps: range,
) -> None:
    """Fill in who is in this epoch at a step: the next `width` records of each client's order."""
    _take_shuffled(order, sizes, num_steps, width, epoch, steps.start, records)


def poisson(
    drawn: Float64[np.ndarray, "K n"], rates: Float64[np.ndarray, " K"], sizes: Numbers
) -> Int64[np.ndarray, "K B"]:
    """The records whose uniform draw is below their client's rate; B is 1 or more."""
    taken = np.full((len(drawn), max(1, drawn.shape[1])), -1, np.int64)
    counts = np.empty(len(sizes), np.int64)
    _take_poisson(drawn, rates, sizes, taken, counts)
    return taken[:, : max(1, int(counts.max(initial=0)))]


def rows_of(
    records: Int64[np.ndarray, "K B"], first: Numbers, *, number: int
) -> Int64[np.ndarray, "K B"]:
    """Where the records stand among all `number` records; what is absent points at a row that exists."""
    rows = np.empty(records.shape, np.int64)
    _fill_rows(records, first, number, rows)
    return rows


@compiled
def _take_shuffled(order, sizes, num_steps, width, epoch, begin, records):
    for place in range(len(records)):
        step = begin + place
        for k in range(len(sizes)):
            each = max(1, (sizes[k] + width - 1) // width)  # steps an epoch
            if step >= num_steps[k] or step // each != epoch:
                continue
            start = step % each * width
            for slot in range(min(records.shape[2], sizes[k] - start)):
                records[place, k, slot] = order[k, start + slot]


@compiled
def _take_poisson(drawn, rates, sizes, taken, counts):
    for k in range(len(sizes)):
        count = 0
        for record in range(sizes[k]):
            if drawn[k, record] < rates[k]:
                taken[k, count] = record
                count += 1
        counts[k] = count


@compiled
def _fill_rows(records, first, number, rows):
    for k in range(len(records)):
        for slot in range(records.shape[1]):
            rows[k, slot] = min(first[k] + max(records[k, slot], 0), number - 1)
