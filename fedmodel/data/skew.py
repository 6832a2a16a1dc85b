"""How much clients differ before anything is trained: in labels, groups, features, and in size.

Every distance lies between 0, as all records together, and 1, nothing in common. These are figures of
records: outside any differential-privacy guarantee, and nothing that a real server would see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fedmodel.data.records import Assignment, Records
from fedmodel.randomness import SERVER, stream

__all__ = ["Skew", "gini", "mix_distance", "skew_of", "value_distance"]

Distances = Float[np.ndarray, " K"]
SHUFFLED = 200_000  # records that chance alone is tried on, at least once all


@dataclass(frozen=True, kw_only=True)
class Skew:
    """Distances of each of K clients to all records together, and what chance alone would give.

    `by_chance` has the mean over clients where the same sizes are dealt out at random: small clients
    differ without any skew.
    """

    sizes: Int[np.ndarray, " K"]
    classes: Int[np.ndarray, "K C"]  # records by client and class
    label: Distances
    groups: dict[str, Distances]  # by sensitive attribute
    features: dict[str, Distances]
    by_chance: dict[str, float]  # by "label", "group NAME" and "feature NAME"


def skew_of(records: Records, assignment: Assignment, *, seed: int) -> Skew:
    """Measure a partition.

    1. Labels, sensitive attributes and text columns: `mix_distance`; a missing value is a level.
    2. Numbers: `value_distance`; a missing value is below all others. Of texts, the number of words.
    3. The same with records shuffled over the clients, for what chance alone would give.
    """
    client, number = assignment.client, len(assignment.names)
    label = records.label.cat.codes.to_numpy(dtype=np.int64)
    measures: dict[str, Callable[[Int[np.ndarray, " N"]], Distances]] = {}
    measures["label"] = _measure(records.label, number)
    for name in records.sensitive:
        measures[f"group {name}"] = _measure(records.sensitive[name], number)
    if records.features is not None:
        for name in records.features:
            measures[f"feature {name}"] = _measure(records.features[name], number)
    else:
        assert records.text is not None
        words = records.text.map(lambda text: len(text.split()))
        measures["feature number of words"] = _measure(words, number)
    draw = stream(seed, SERVER, 0, "skew")
    shuffles = [draw.permutation(client) for _ in range(max(1, min(20, SHUFFLED // len(client))))]
    found = {name: measure(client) for name, measure in measures.items()}
    classes = len(records.classes)
    return Skew(
        sizes=np.bincount(client, minlength=number),
        classes=np.bincount(client * classes + label, minlength=number * classes).reshape(
            number, classes
        ),
        label=found["label"],
        groups={n.partition(" ")[2]: d for n, d in found.items() if n.startswith("group ")},
        features={n.partition(" ")[2]: d for n, d in found.items() if n.startswith("feature ")},
        by_chance={
            name: float(np.mean([measure(shuffled).mean() for shuffled in shuffles]))
            for name, measure in measures.items()
        },
    )


def mix_distance(
    level: Int[np.ndarray, " N"], client: Int[np.ndarray, " N"], num_clients: int
) -> Distances:
    """Total variation between each client's shares of the levels and those of all records.

    Half the sum of the absolute differences: the share of its records that a client would have to
    exchange. Twice that is the distance of Zhao et al. 2018, section 3.2.
    """
    pooled = np.bincount(level) / len(level)
    sizes = np.bincount(client, minlength=num_clients)
    cell, count = np.unique(client * len(pooled) + level, return_counts=True)
    owner, held = np.divmod(cell, len(pooled))
    above = np.maximum(
        count / sizes[owner] - pooled[held], 0.0
    )  # what is above equals what is below
    return np.bincount(owner, weights=above, minlength=num_clients)


def value_distance(
    values: Float[np.ndarray, " N"], client: Int[np.ndarray, " N"], num_clients: int
) -> Distances:
    """Kolmogorov-Smirnov distance between each client's values and all: the largest difference of
    the shares of records up to a value. NaN is below all numbers.
    """
    return _ranked_distance(_ranks(values), client, num_clients)


def _ranks(values: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    return np.unique(np.where(np.isnan(values), -np.inf, values), return_inverse=True)[1]


def _ranked_distance(
    rank: Int[np.ndarray, " N"], client: Int[np.ndarray, " N"], num_clients: int
) -> Distances:
    """At each value that a client has: the share of its records below and up to it, less that of all.

    In between the client's share stands still and that of all records rises, so nothing is missed.
    """
    levels = int(rank.max()) + 1
    up_to = np.cumsum(np.bincount(rank)) / len(rank)
    below = np.append(0.0, up_to[:-1])
    sizes = np.bincount(client, minlength=num_clients)
    first = np.cumsum(sizes) - sizes
    cell, count = np.unique(client * levels + rank, return_counts=True)
    owner, value = np.divmod(cell, levels)
    own = np.cumsum(count) - first[owner]  # the client's records up to this value
    gap = np.maximum(
        np.abs(own / sizes[owner] - up_to[value]),
        np.abs((own - count) / sizes[owner] - below[value]),
    )
    largest = np.zeros(num_clients)
    np.maximum.at(largest, owner, gap)
    return largest


def gini(sizes: Int[np.ndarray, " K"]) -> float:
    """Gini's coefficient: 0 where all clients have as many records, near 1 where one has all.

    Half the mean absolute difference of two clients over the mean (Sen 1973).

    >>> gini(np.array([5, 5])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    rising = np.sort(sizes)
    number = len(rising)
    ranks = 2 * np.arange(1, number + 1) - number - 1
    return float((ranks * rising).sum() / (number * rising.sum()))


def _measure(values: pd.Series, num_clients: int) -> Callable[[Int[np.ndarray, " N"]], Distances]:
    """The distance that fits a column, as a function of who holds which record."""
    if pd.api.types.is_numeric_dtype(values):
        rank = _ranks(values.to_numpy(dtype=float, na_value=np.nan))
        return lambda client: _ranked_distance(rank, client, num_clients)
    level = pd.factorize(values, use_na_sentinel=False)[0]
    return lambda client: mix_distance(level, client, num_clients)
