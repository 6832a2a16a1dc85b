"""Which of a client's records are in a step's batch: compiled loops over clients.

Records are numbers within a client; -1 fills a row up to the longest.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from fedmodel.compiling import compiled

__all__ = ["poisson", "rows_of", "shuffled"]

Numbers = Int64[np.ndarray, " K"]


def shuffled(
    orders: Int64[np.ndarray, "E K n"],
    sizes: Numbers,
    num_steps: Numbers,
    *,
    width: int,
    steps: range,
) -> Int64[np.ndarray, "S K B"]:
    """The next `width` records of each client's order in each step's epoch; none after its last step."""
    records = np.empty((len(steps), len(sizes), max(1, min(width, orders.shape[2]))), np.int64)
    _take_shuffled(orders, sizes, num_steps, width, steps.start, records)
    return records


def poisson(
    drawn: Float64[np.ndarray, "K n"],
    rates: Float64[np.ndarray, " K"],
    sizes: Numbers,
    num_steps: Numbers,
    *,
    step: int,
) -> Int64[np.ndarray, "K B"]:
    """The records whose uniform draw is below their client's rate; none after its last step."""
    taken = np.empty(drawn.shape, np.int64)
    counts = np.empty(len(sizes), np.int64)
    _take_poisson(drawn, rates, sizes, num_steps, step, taken, counts)
    return taken[:, : max(1, int(counts.max(initial=0)))]


def rows_of(
    records: Int64[np.ndarray, "K B"], first: Numbers, *, number: int
) -> Int64[np.ndarray, "K B"]:
    """Where the records stand among all `number` records; what is absent points at a row that exists."""
    rows = np.empty(records.shape, np.int64)
    _fill_rows(records, first, number, rows)
    return rows


@compiled
def _take_shuffled(orders, sizes, num_steps, width, begin, records):
    for place in range(len(records)):
        step = begin + place
        for k in range(len(sizes)):
            each = max(1, (sizes[k] + width - 1) // width)  # steps an epoch
            epoch, start = step // each, step % each * width
            for slot in range(records.shape[2]):
                there = step < num_steps[k] and start + slot < sizes[k]
                records[place, k, slot] = orders[epoch, k, start + slot] if there else -1


@compiled
def _take_poisson(drawn, rates, sizes, num_steps, step, taken, counts):
    for k in range(len(sizes)):
        count = 0
        if step < num_steps[k]:
            for record in range(sizes[k]):
                if drawn[k, record] < rates[k]:
                    taken[k, count] = record
                    count += 1
        counts[k] = count
        taken[k, count:] = -1


@compiled
def _fill_rows(records, first, number, rows):
    for k in range(len(records)):
        for slot in range(records.shape[1]):
            rows[k, slot] = min(first[k] + max(records[k, slot], 0), number - 1)
