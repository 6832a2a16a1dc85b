"""Whether the updates of a round fit into memory side by side, or are added up as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil

from fedmodel.components import Components
from fedmodel.config import Config
from fedmodel.errors import FedmodelError
from fedmodel.secured import asked_clients
from fedmodel.summable import needs_sums_only, weighs_by_records

__all__ = ["Fold", "fold_plan"]

BLOCK_BYTES = 1 << 30  # of updates that are kept side by side without need
COPIES = 3  # of the block, where it is needed: models, differences, their order


@dataclass(frozen=True)
class Fold:
    """Updates are added up as they come, each weighted by its client's records or all the same."""

    by_records: bool
    note: str = (
        "The updates of a round are added up group by group, because all at once they would take more "
        "than 1 GB; attackers' shares of the aggregate are then not known."
    )


def fold_plan(
    config: Config, bound: Components, *, size: int, strategy: Any, num_clients: int
) -> Fold | None:
    """Fold the updates of `size` parameters if they are large and their sum is enough; else None.

    Raises:
        FedmodelError: the strategy needs them all at once, and they do not fit.
    """
    asked = asked_clients(strategy, num_clients)
    block = 4 * size * asked
    if block <= BLOCK_BYTES or config.secure_aggregation is not None:
        return None
    if needs_sums_only(config, bound.strategy, bound.attack):
        return Fold(weighs_by_records(bound.strategy))
    memory = psutil.virtual_memory().total
    if COPIES * block > memory:
        raise FedmodelError(
            f"the strategy needs the updates of all {asked:,} clients of a round at once: with "
            f"{size:,} parameters each {block / 1e9:.1f} GB, {COPIES} times, and this machine has "
            f"{memory / 1e9:.1f} GB",
            where="[strategy]",
            fix='Sample fewer clients, use a smaller model, or combine = "mean" without `before`, '
            "which is added up client by client.",
        )
    return None
