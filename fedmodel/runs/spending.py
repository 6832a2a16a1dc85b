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
from fedmodel.rounds import Finished
from fedmodel.runs.history import ledger_of

__all__ = ["Spending"]

EXACT_ROWS = 50_000  # with more of them, rounds before the last have RDP's bound
COLUMNS = ("round", "client", "epsilon", "delta", "accountant")


class Spending:
    """Steps by client and round. Each client has one noise and one sample rate, from its plan."""

    def __init__(
        self, plans: ClientPlans | None, num_clients: int, *, repeated: Sequence[int] = ()
    ) -> None:
        self.plans = plans
        self.repeated = repeated  # rounds of mode "central" that were cut off and drawn anew
        # The server's noise: a round is a step of every client, asked or not, and there are no ledgers.
        self.central = plans is not None and plans.budget.mode == "central"
        self.steps = [0] * num_clients
        self.changes: dict[int, Mapping[int, int]] = {}  # by round: new steps, by client
        self._since: dict[int, int] = {}  # charged between two rounds: the next one tells
        self._known: dict[tuple[int, int], float] = {}

    def restore(
        self, entries: Iterable[Mapping[str, Any]], states: Mapping[int, RecordDict]
    ) -> None:
        """Go on from what the run folder says of earlier rounds; a ledger may have been charged since."""
        for entry in entries:
            self._take(entry["round"], {int(k): v for k, v in entry.get("steps", {}).items()})
        if self.plans is not None and not self.central:
            for node in states:
                client = node - FIRST_NODE
                steps = ledger_of(states, client).steps
                if steps > self.steps[client]:
                    self.steps[client] = self._since[client] = steps

    def note(self, finished: Finished, states: Mapping[int, RecordDict]) -> dict[str, int]:
        """Read the ledgers of those that trained or failed; the steps each has taken so far, by client."""
        charged = {}
        if self.plans is not None and not self.central:
            for client in (*finished.trained, *finished.failed):
                charged[client] = ledger_of(states, client).steps
        self._take(finished.number, charged)
        return {str(client): steps for client, steps in charged.items()}

    def so_far(self, names: Sequence[str]) -> pd.Series:
        """An upper bound on each client's epsilon now, quick to compute: RDP's figure, or the target
        that its noise was calibrated for (the limit is enforced in steps) where that is smaller."""
        if self.plans is None:
            return pd.Series(dtype=float)
        wanted = [(client, steps) for client, steps in enumerate(self.steps)]
        new = [pair for pair in wanted if pair not in self._known]
        figures = self._of(new, "rdp")
        self._known.update((pair, figure.epsilon) for pair, figure in zip(new, figures))
        return pd.Series([self._known[pair] for pair in wanted], index=list(names), name="epsilon")

    def table(self, names: Sequence[str]) -> tuple[pd.DataFrame, list[Figure]]:
        """Epsilon by round and client, cumulative, and each client's final figure."""
        if self.plans is None:
            return pd.DataFrame({column: [] for column in COLUMNS}), []
        rounds = sorted(number for number in self.changes if number > 0)
        keys = [(number, client) for number in rounds for client in range(len(names))]
        pairs, steps = [], [0] * len(names)
        for number in rounds:
            steps = self._changed(steps, number)
            pairs += list(enumerate(steps))
        ends, accountant = list(enumerate(self.steps)), self.plans.budget.accountant
        if accountant != "prv" or len(pairs) <= EXACT_ROWS:
            figures = self._of(pairs + ends, accountant)
        else:  # what a client has spent by a round is at most what it has spent by the last one
            last = self._of(ends, accountant)
            figures = [
                last[client] if steps == self.steps[client] else min(figure, last[client])
                for (client, steps), figure in zip(pairs, self._of(pairs, "rdp"))
            ]
            figures += last
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
        self.changes[number], self._since = {**self._since, **charged}, {}
        self.steps = self._changed(self.steps, number)

    def _changed(self, steps: list[int], number: int) -> list[int]:
        """The steps after a round, from those before it, which are changed in place."""
        if self.central:
            begun = sum(cut <= number + 1 for cut in self.repeated)
            return [number + begun] * len(steps)
        for client, taken in self.changes[number].items():
            steps[client] = taken
        return steps

    def _bounded(self, client: int, steps: int, figure: Figure) -> Figure:
        """The figure, or the target where that is smaller: noise was calibrated for `max_steps`."""
        assert self.plans is not None
        if steps > self.plans.max_steps[client] or figure.accountant == "gdp":
            return figure
        return figure._replace(epsilon=min(figure.epsilon, float(self.plans.target[client])))

    def _history(self, client: int, steps: int) -> list[tuple[float, float, int]]:
        assert self.plans is not None
        noise = float(self.plans.noise_multiplier[client]) / sensitivity(self.plans.budget)
        training = [(noise, float(self.plans.sample_rate[client]), steps)] if steps else []
        return [*self.plans.released, *training]

    def _of(self, pairs: Sequence[tuple[int, int]], accountant: str) -> list[Figure]:
        """The figure of each client after so many steps."""
        assert self.plans is not None
        if not pairs:
            return []
        histories = [self._history(*pair) for pair in pairs]
        delta = self.plans.budget.delta
        figures = epsilon_of_clients(histories, delta=delta, accountant=accountant)
        return [self._bounded(*pair, figure) for pair, figure in zip(pairs, figures)]
