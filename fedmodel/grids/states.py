"""The states of a grid's clients: of those that hold a privacy ledger alone, only the ledger is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from fedmodel._flower import teller_of
from fedmodel.privacy.ledger import LEDGER, Ledger

__all__ = ["ClientStates"]

MOST_SHARED = 10_000  # ledgers that are looked up to be shared


class ClientStates(MutableMapping[int, RecordDict]):
    """A client's state by node, made when it is asked for, to be changed in place.

    A record of Flower's takes a kilobyte, and in a large population each round asks others. `pack` puts
    a ledger in its place, one for all clients that have spent the same.
    """

    def __init__(self, nodes: range) -> None:
        self._first, self._number = nodes.start, len(nodes)
        self._live: dict[int, RecordDict] = {}
        self._packed: list[Ledger | None] = []  # by client, once there is one
        self._shared: dict[Ledger, Ledger] = {}

    def pack(self, nodes: Iterable[int]) -> None:
        """Keep no more than is needed to make these states again."""
        for node in nodes:
            ledger = _only_ledger(self._live.get(node))
            if ledger is not None:
                if not self._packed:
                    self._packed = [None] * self._number
                if len(self._shared) >= MOST_SHARED:
                    self._shared.clear()
                self._packed[node - self._first] = self._shared.setdefault(ledger, ledger)
                del self._live[node]

    def __getitem__(self, node: int) -> RecordDict:
        state = self._live.get(node)
        if state is None:
            ledger = self._unpacked(node)
            state = self._live[node] = RecordDict()
            if ledger is not None:
                state[LEDGER] = ledger.to_record()
        return state

    def __setitem__(self, node: int, state: RecordDict) -> None:
        self._unpacked(node)
        self._live[node] = state

    def __delitem__(self, node: int) -> None:
        if self._unpacked(node) is None:
            del self._live[node]

    def __contains__(self, node: object) -> bool:
        return node in self._live or (isinstance(node, int) and self._ledger(node) is not None)

    def __iter__(self) -> Iterator[int]:
        yield from list(self._live)
        for client, ledger in enumerate(self._packed):
            if ledger is not None:
                yield client + self._first

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, node: int, default: Any = None) -> Any:
        """A state that there is."""
        there = node in self
        return self[node] if there else default

    def _ledger(self, node: int) -> Ledger | None:
        client = node - self._first
        return self._packed[client] if 0 <= client < len(self._packed) else None

    def _unpacked(self, node: int) -> Ledger | None:
        ledger = self._ledger(node)
        if ledger is not None:
            self._packed[node - self._first] = None
        return ledger


def _only_ledger(state: RecordDict | None) -> Ledger | None:
    if state is None or list(state) != [LEDGER]:
        return None
    record = state[LEDGER]
    if not isinstance(record, ConfigRecord):
        return None
    ledger = teller_of(record)
    return ledger if isinstance(ledger, Ledger) else None
