"""Secure aggregation as a grid: four exchanges with the clients, one reply with the mean of their updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedmodel._flower import arrays_of
from fedmodel.grids.local import FIRST_NODE, SUM, LocalGrid
from fedmodel.grids.summing import SummingGrid
from fedmodel.messages import Instructions, Replies, Request
from fedmodel.randomness import SERVER, stream
from fedmodel.secure.answers import ANSWER, Plan
from fedmodel.secure.encoding import FURTHER
from fedmodel.secure.exchanges import (
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    MaskedVector,
    PublicKeys,
    SealedShares,
    Shares,
    Spoken,
)
from fedmodel.secure.server import SecureServer

__all__ = ["SecureGrid"]

Answer = TypeVar("Answer", bound=Spoken)


class SecureGrid(SummingGrid):
    """Any grid whose clients keep their updates to themselves (`fedmodel.secure.answers`).

    A request to train becomes the four exchanges of `SecureServer`. The one reply holds the start
    plus the weighted mean of the updates, and ``num-examples`` of all whose updates are in it; so
    strategies that average replies work unchanged. Everything else is passed on as it is.

    The server's part runs here and handles public keys, closed boxes, masked words, and shares. A
    simulation keeps the clients' states, secrets and all, in the same process or machine; nothing
    here reads them.
    """

    def __init__(self, inner: LocalGrid, plan: Plan, *, seed: int) -> None:
        super().__init__(inner)
        self.plan, self.seed = plan, seed
        self.leaving: set[int] = set()

    def leave(self, nodes: Iterable[int]) -> bool:
        """These nodes leave in the next round, after they have shared their secrets."""
        self.leaving = set(nodes)
        return True

    def _train(self, request: Request) -> Replies:
        """Raises RunFailed where too few clients are left: then nothing is known of any update."""
        plan, encoding = self.plan, self.plan.encoding
        number = int(request.config.get("server-round", 0))
        server = SecureServer(
            round=number,
            threshold=plan.threshold,
            neighbours=plan.neighbours,
            fewest=plan.fewest,
            words=encoding.size + FURTHER,
            dtype=encoding.dtype,
            generator=stream(self.seed, SERVER, number, "secure neighbours"),
        )
        gone = _Gone()
        everybody = {node - FIRST_NODE: None for node in request.nodes}
        keys = self._exchange(KEYS, PublicKeys, request, everybody, gone)
        sealed = self._exchange(SHARES, SealedShares, request, server.neighbourhoods(keys), gone)
        boxes = server.boxes(sealed)
        staying = {c: own for c, own in boxes.items() if c + FIRST_NODE not in self.leaving}
        self.leaving = set()
        masked = self._exchange(MASKED, MaskedVector, request, staying, gone)
        shares = self._exchange(UNMASK, Shares, request, server.requests(masked), gone)
        total = encoding.decode(server.total(shares), clients=len(server.survivors))
        mean = torch.from_numpy(total.mean.astype(np.float32))
        return Replies(
            [SUM],
            request.message_type,
            request.layout,
            (request.vector + mean)[None],
            {
                "num-examples": np.array([total.records]),
                "clipped_share": np.array([total.clipped_share]),
            },
            failures=gone.failures,
            declined=gone.declined,
            summed=[client + FIRST_NODE for client in server.survivors],
        )

    def _exchange(
        self,
        kind: str,
        answer: type[Answer],
        request: Request,
        told: Mapping[int, Spoken | None],
        gone: _Gone,
    ) -> dict[int, Answer]:
        """Tell each client its own, and read what it answers, by client. The model goes out once."""
        own = {
            client + FIRST_NODE: spoken.to_record()
            for client, spoken in told.items()
            if spoken is not None
        }
        nodes = sorted(client + FIRST_NODE for client in told)
        arrays = arrays_of(request.vector, request.layout) if kind == MASKED else ArrayRecord()
        asked = Instructions(nodes, kind, arrays, request.config, own)
        replies = Replies.read(self.inner.send_and_receive(asked))
        gone.note(replies)
        records: Sequence[ConfigRecord] = replies.records.get(ANSWER, [])
        return {
            node - FIRST_NODE: answer.from_record(record)
            for node, record in zip(replies.nodes, records)
        }

    def save_states(self, nodes: Iterable[int] | None = None) -> dict[int, RecordDict]:
        return self.inner.save_states(nodes)

    def restore_states(self, states: Mapping[int, RecordDict]) -> None:
        self.inner.restore_states(states)

    def close(self) -> None:
        self.inner.close()


class _Gone:
    """Who failed or declined, in whatever exchange."""

    def __init__(self) -> None:
        self.failures: dict[int, str] = {}
        self.declined: dict[int, str] = {}

    def note(self, replies: Replies) -> None:
        self.failures.update(replies.failures)
        self.declined.update(replies.declined)
