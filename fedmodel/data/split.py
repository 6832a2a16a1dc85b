"""Which of a client's records are for training, which for validation, which for the test."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.data.records import Assignment
from fedmodel.errors import FedmodelError
from fedmodel.randomness import record_keys, stream_keys
from fedmodel.types import SPLITS

__all__ = ["split"]

TRAIN, VALIDATION, TEST = range(len(SPLITS))


def split(
    assignment: Assignment,
    *,
    test: float = 0.2,
    validation: float = 0.0,
    given: pd.Series | None = None,
    seed: int,
) -> Int[np.ndarray, " N"]:
    """Hold out a share of each client's records: 0 train, 1 validation, 2 test (order of SPLITS).

    The draw is keyed by (seed, client) and takes a client's records in their order, so that no
    other client's records change it. Shares are rounded to whole records; each client keeps a
    training record.

    `given` says train, validation or test for each record and replaces `test`. Where it says
    validation nowhere, the share `validation` is taken from the training records.

    Raises:
        FedmodelError: shares that leave nothing; a client that `given` leaves no training record.
    """
    if not (test >= 0 and validation >= 0 and test + validation < 1):
        raise FedmodelError(
            f"test = {test} and validation = {validation} leave nothing to train on",
            where="[data]",
            fix="Both are shares of 0 or more, and less than 1 together.",
        )
    client, num_clients = assignment.client, len(assignment.names)
    parts = np.full(len(client), TRAIN, dtype=np.int64)
    if given is not None:
        parts = pd.Index(SPLITS).get_indexer(pd.Index(given))
        test = 0.0
        if (parts == VALIDATION).any():
            validation = 0.0
    free = np.flatnonzero(parts == TRAIN)
    sizes = np.bincount(client[free], minlength=num_clients)
    if without := [assignment.names[k] for k in np.flatnonzero(sizes == 0)]:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        raise FedmodelError(
            f"no training record is left to {', '.join(map(repr, without[:5]))}{more}",
            where="[data] split",
            fix="Mark a record of each client as train, leave these clients out of the file, or "
            "leave split out: a share of each client's records is held out then.",
        )
    num_test = np.minimum(np.rint(test * sizes).astype(np.int64), sizes - 1)
    num_held_out = np.minimum(num_test + np.rint(validation * sizes).astype(np.int64), sizes - 1)
    order, place = _shuffled_within(client[free], num_clients, sizes, seed=seed)
    owner = client[free][order]
    drawn = np.where(place < num_test[owner], TEST, TRAIN)
    drawn[(place >= num_test[owner]) & (place < num_held_out[owner])] = VALIDATION
    parts[free[order]] = drawn
    return parts


def _shuffled_within(
    client: Int[np.ndarray, " n"], num_clients: int, sizes: Int[np.ndarray, " K"], *, seed: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """An order of the records by client, random within, and each one's place at its client."""
    starts = np.cumsum(sizes) - sizes
    by_client = np.argsort(client, kind="stable")
    place = np.arange(len(client)) - starts[client[by_client]]
    keys = stream_keys(seed, np.arange(num_clients), 0, "split")
    draw = record_keys(keys[client[by_client]], place[:, None], step=0)[:, 0]
    order = by_client[np.lexsort((draw, client[by_client]))]
    return order, place
