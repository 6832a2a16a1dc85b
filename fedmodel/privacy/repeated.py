"""What several runs on the same records release together, wherever each of them dealt a record out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from fedmodel.privacy.accounting import History, merge
from fedmodel.privacy.checks import check_delta
from fedmodel.privacy.rdp import divergences, over_orders

__all__ = ["composed_epsilon"]


def composed_epsilon(runs: Sequence[Collection[History]], *, delta: float) -> float:
    """Epsilon of all runs together, for any record, whichever client held it in each of them.

    ``runs[r]`` are the histories of run r's clients, each of (noise multiplier, sample rate, steps).

    1. Of a run, at each order, the largest Renyi divergence that a client has: a bound for a record
       at any client.
    2. The sum over the runs (Mironov 2017, Proposition 1).
    3. The smallest epsilon over the orders (Balle et al. 2020, Theorem 21).

    Infinite where some client trained without noise. The runs' noise must be independent, and no run
    chosen by what another one has shown of the records.
    """
    check_delta(delta)
    merged = [{merge(history) for history in histories} for histories in runs]
    taken = [sorted(own) for histories in merged if (own := {m for m in histories if m[1]})]
    if any(noise == 0 for run in taken for settings, _ in run for noise, _ in settings):
        return float("inf")
    if not taken:
        return 0.0

    def together(orders: np.ndarray) -> Float[np.ndarray, "1 A"]:
        total = np.zeros(len(orders))
        for run in taken:
            of_clients = [
                np.array(counts) @ divergences(settings, orders) for settings, counts in run
            ]
            total += np.max(of_clients, axis=0)
        return total[None]

    return over_orders(together, delta=delta)[0]
