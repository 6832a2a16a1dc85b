"""What every client has spent after every round, from the steps that its ledger was charged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from flwr.app import RecordDict

from fedmodel.grids.local import FIRST_NODE
from fedmodel.privacy.accounting import Figure, epsilon_of_clients
from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.client_level import sensitivity
from fedmodel.privacy.ledger import Ledger
from fedmodel.rounds import Finished

__all__ = ["Spending"]

COLUMNS = ("round", "client", "epsilon", "delta", "accountant")


class Spending:
    """Steps by client and round. Each client has one noise and one sample rate, from its plan."""

    def __init__(self, plans: ClientPlans | None, num_clients: int) -> None:
        self.plans = plans
        # The server's noise: a round is a step of every client, asked or not, and there are no ledgers.
        self.central = plans is not None and plans.budget.mode == "central"
        self.steps = [0] * num_clients
        self.changes: dict[int, Mapping[int, int]] = {}  # by round: new steps, by client
        self._known: dict[tuple[int, int], float] = {}

    def restore(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Go on from what the run folder says of earlier rounds."""
        for entry in entries:
            self._take(entry["round"], {int(k): v for k, v in entry.get("steps", {}).items()})

    def note(self, finished: Finished, states: Mapping[int, RecordDict]) -> dict[str, int]:
        """Read the ledgers of those that trained; the steps each has taken so far, by client."""
        charged = {}
        if self.plans is not None and not self.central:
            for client in finished.trained:
                ledger = Ledger.from_record(states[client + FIRST_NODE].config_records["privacy"])
                charged[client] = ledger.steps
        self._take(finished.number, charged)
        return {str(client): steps for client, steps in charged.items()}

    def so_far(self, names: Sequence[str]) -> pd.Series:
        """An upper bound on each client's epsilon now, quick to compute: RDP's figure, or the target
        that its noise was calibrated for (the limit is enforced in steps) where that is smaller."""
        if self.plans is None:
            return pd.Series(dtype=float)
        wanted = [(client, steps) for client, steps in enumerate(self.steps)]
        new = [pair for pair in wanted if pair not in self._known]
        figures = self._figures([self._history(*pair) for pair in new], accountant="rdp")
        limit = self.plans.budget.epsilon or float("inf")
        bounds = [min(figure.epsilon, limit) for figure in figures]
        self._known.update(zip(new, bounds))
        return pd.Series([self._known[pair] for pair in wanted], index=list(names), name="epsilon")

    def table(self, names: Sequence[str]) -> tuple[pd.DataFrame, list[Figure]]:
        """Epsilon by round and client, cumulative, and each client's final figure."""
        if self.plans is None:
            return pd.DataFrame({column: [] for column in COLUMNS}), []
        rounds = sorted(number for number in self.changes if number > 0)
        keys = [(number, client) for number in rounds for client in range(len(names))]
        histories, steps = [], [0] * len(names)
        for number in rounds:
            steps = self._changed(steps, number)
            histories += [self._history(client, taken) for client, taken in enumerate(steps)]
        histories += [self._history(client, taken) for client, taken in enumerate(self.steps)]
        figures = self._figures(histories, accountant=self.plans.budget.accountant)
        table = pd.DataFrame(
            {
                "round": [number for number, _ in keys],
                "client": [names[client] for _, client in keys],
                "epsilon": [figure.epsilon for figure in figures[: len(keys)]],
                "delta": self.plans.budget.delta,
                "accountant": [figure.accountant for figure in figures[: len(keys)]],
            }
        )
        return table, figures[len(keys) :]

    def _take(self, number: int, charged: Mapping[int, int]) -> None:
        self.changes[number] = charged
        self.steps = self._changed(self.steps, number)

    def _changed(self, steps: list[int], number: int) -> list[int]:
        """The steps after a round, from those before it, which are changed in place."""
        if self.central:
            return [number] * len(steps)
        for client, taken in self.changes[number].items():
            steps[client] = taken
        return steps

    def _history(self, client: int, steps: int) -> list[tuple[float, float, int]]:
        assert self.plans is not None
        noise = float(self.plans.noise_multiplier[client]) / sensitivity(self.plans.budget)
        return [(noise, float(self.plans.sample_rate[client]), steps)] if steps else []

    def _figures(self, histories: list[Any], *, accountant: str) -> list[Figure]:
        assert self.plans is not None
        if not histories:
            return []
        return epsilon_of_clients(histories, delta=self.plans.budget.delta, accountant=accountant)
