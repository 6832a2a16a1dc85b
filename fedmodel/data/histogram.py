"""Quantiles of a federation from counts: each client tells how many values lie between some edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Histogram", "coarse", "places", "quantile"]

MOST_BINS = 200

# Every number of three digits from 1e-9 to 1e12, both signs, and 0: fixed, so that no client has
# to agree with another on edges, and none gives away a value more closely than its third digit.
_POSITIVE = np.unique(
    [
        digits / 10**-power if power < 0 else digits * 10.0**power
        for power in range(-11, 10)
        for digits in range(100, 1000)
    ]
)
GRID: Float[np.ndarray, " edges"] = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE])


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Values counted in b bins: bin i holds edges[i - 1] <= x < edges[i]; the outer two are open."""

    counts: Int[np.ndarray, " b"]
    edges: Float[np.ndarray, " b-1"]


def places(values: Float[np.ndarray, " n"]) -> dict[int, int]:
    """How many values lie at each place of the fixed grid. Add them up over parts of a file."""
    found, counts = np.unique(np.searchsorted(GRID, values, side="right"), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist()))


def coarse(tally: Mapping[int, int], *, minimum: int) -> Histogram:
    """Neighbouring places as one bin until each holds `minimum` values or more.

    Of many values a bin holds at least one in `MOST_BINS`. How far the outermost values lie out is
    not told.

    >>> coarse(places(np.array([1.0, 2.0, 2.0, 3.0, 9.0])), minimum=2).counts.tolist()
    [3, 2]
    """
    total = sum(tally.values())
    least = max(minimum, total // MOST_BINS)
    counts, edges = [], []
    held, left = 0, total
    for place in sorted(tally):
        if held >= least and left >= least:
            counts.append(held)
            edges.append(GRID[place - 1])
            held = 0
        held += tally[place]
        left -= tally[place]
    return Histogram(counts=np.array([*counts, held], dtype=np.int64), edges=np.array(edges, float))


def quantile(histograms: Sequence[Histogram], share: float) -> tuple[float, float]:
    """Limits of the pooled values' quantile: low <= x < high, certain, infinite where not told.

    The quantile x is the r-th smallest of n values, r = ceil(share * n) (the inverse of the
    empirical distribution function). At an edge of its own a client's count below is exact; between
    two edges it lies between their counts. Summed over clients, these bound how many values lie
    below any edge.

    >>> quantile([coarse(places(np.arange(100.0)), minimum=5)], 0.5)
    (45.0, 50.0)
    """
    edges = np.unique(np.concatenate([h.edges for h in histograms])) if histograms else np.empty(0)
    at_least, at_most = np.zeros(len(edges)), np.zeros(len(edges))
    for histogram in histograms:
        below = np.append(0, histogram.counts.cumsum())
        at_least += below[np.searchsorted(histogram.edges, edges, side="right")]
        at_most += below[np.searchsorted(histogram.edges, edges, side="left") + 1]
    total = sum(int(h.counts.sum()) for h in histograms)
    rank = max(1, math.ceil(share * total - 1e-9))
    above, under = edges[at_least >= rank], edges[at_most < rank]
    return (
        float(under[-1]) if len(under) else -math.inf,
        float(above[0]) if len(above) else math.inf,
    )
