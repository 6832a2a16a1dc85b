"""The clients' side of the four exchanges: what each of them answers, and keeps in its own state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from jaxtyping import Float, UInt

from fedmodel.messages import Replies, Request
from fedmodel.randomness import stream_keys, uniforms
from fedmodel.secure.client import SecureClient
from fedmodel.secure.encoding import Encoding
from fedmodel.secure.exchanges import (
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    Neighbourhood,
    SealedShares,
    UnmaskRequest,
)
from fedmodel.secure.keys import Refusal
from fedmodel.secure.noise import SumNoise
from fedmodel.secure.server import FEWEST

__all__ = ["ANSWER", "ClientSide", "Plan"]

SECRETS = "secure aggregation"  # where Context.state keeps a client's keys between exchanges
ANSWER = "secure"  # the record of a reply

States = Mapping[int, RecordDict]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What clients and server agree on before the first round."""

    encoding: Encoding
    threshold: float = 2 / 3  # of those that hold a client's shares, who must give them
    neighbours: int | None = None  # of each client; None for all the others
    by_records: bool = True  # a client weighs as much as it has records; else all the same
    noise: SumNoise | None = None  # that clients add, so that the sum is private

    @property
    def fewest(self) -> int:
        """How many clients must be in a sum: with noise, as many as it was meant for."""
        return FEWEST if self.noise is None else self.noise.fewest

    def words(
        self, delta: Float[np.ndarray, " d"], *, client: int, round: int, records: int, seed: int
    ) -> UInt[np.ndarray, " words"]:
        """What a client masks: its update and its records, rounded; with noise, clipped and noised."""
        keys, noise = stream_keys(seed, [client], round, "secure rounding"), None
        if self.noise is not None:
            # The number of records is what the client holds, too: it counts as one.
            delta, records = self.noise.clipped(delta), 1
            noise = self.noise.draw(client=client, round=round)
        return self.encoding.encode(
            delta,
            weight=records if self.by_records else 1,
            records=records,
            uniforms=uniforms(keys, len(delta))[0],
            noise=noise,
        )


@dataclass(frozen=True, kw_only=True)
class ClientSide:
    """Clients that let nothing of their training leave them but masked words.

    `train` gives the models of some clients as they are; what it returns stays in this object's
    methods. `declined` says who does not take part, and why.
    """

    plan: Plan
    seed: int
    train: Callable[[Request, np.ndarray, States], Replies]
    declined: Callable[[Request, np.ndarray, States], Mapping[int, str]]

    def answer(self, request: Request, partitions: np.ndarray, states: States) -> Replies:
        """The answers to one exchange; a refusal is the client's failure. `states` are updated."""
        if request.message_type == MASKED:
            return self._masked(request, partitions, states)
        speak = {KEYS: self._keys, SHARES: self._shares, UNMASK: self._unmask}.get(
            request.message_type, self._plain
        )
        declined = {}
        if request.message_type == KEYS:
            declined = dict(self.declined(request, partitions, states))
        replies = _Gathering(request)
        for node, number in zip(request.nodes, partitions.tolist()):
            if node not in declined:
                replies.take(node, speak, request, node, number, states)
        return replies.gathered(declined=declined)

    def _plain(self, request: Request, node: int, number: int, states: States) -> ConfigRecord:
        raise Refusal("its update leaves it under secure aggregation only")

    def _keys(self, request: Request, node: int, number: int, states: States) -> ConfigRecord:
        client = SecureClient(number, _round(request))
        _keep(states[node], client)
        return client.keys().to_record()

    def _shares(self, request: Request, node: int, number: int, states: States) -> ConfigRecord:
        client = _client(states[node])
        shares = client.shares(Neighbourhood.from_record(request.own[node]))
        _keep(states[node], client)
        return shares.to_record()

    def _masked(self, request: Request, partitions: np.ndarray, states: States) -> Replies:
        numbers = dict(zip(request.nodes, partitions.tolist()))
        receiving = _Gathering(request)
        for node in request.nodes:
            receiving.take(node, self._receive, request, node, states)
        ready = receiving.nodes
        asked = request.only(ready)
        trained = self.train(asked, np.array([numbers[node] for node in ready], int), states)
        start = request.vector.numpy()
        replies = _Gathering(request)
        for row, node in enumerate(trained.nodes):
            assert trained.models is not None
            delta = trained.models[row].numpy() - start
            records = int(trained.metrics["num-examples"][row])
            replies.take(node, self._mask, request, node, numbers[node], states, delta, records)
        replies.failures.update({**receiving.failures, **trained.failures})
        return replies.gathered(declined=trained.declined)

    def _receive(self, request: Request, node: int, states: States) -> ConfigRecord:
        client = _client(states[node])
        client.receive(SealedShares.from_record(request.own[node]))
        _keep(states[node], client)
        return ConfigRecord()

    def _mask(
        self,
        request: Request,
        node: int,
        number: int,
        states: States,
        delta: np.ndarray,
        records: int,
    ) -> ConfigRecord:
        client = _client(states[node])
        words = self.plan.words(
            delta, client=number, round=_round(request), records=records, seed=self.seed
        )
        masked = client.mask(words)
        _keep(states[node], client)
        return masked.to_record()

    def _unmask(self, request: Request, node: int, number: int, states: States) -> ConfigRecord:
        client = _client(states[node])
        del states[node][SECRETS]  # whatever it is asked, it is asked once
        return client.unmask(UnmaskRequest.from_record(request.own[node])).to_record()


class _Gathering:
    """Answers of clients one by one, and who refused."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.nodes: list[int] = []
        self.records: list[ConfigRecord] = []
        self.failures: dict[int, str] = {}

    def take(self, node: int, speak: Callable[..., ConfigRecord], *arguments: object) -> None:
        try:
            self.records.append(speak(*arguments))
            self.nodes.append(node)
        except Refusal as refusal:
            self.failures[node] = f"it refused: {refusal}"

    def gathered(self, *, declined: Mapping[int, str]) -> Replies:
        records: dict[str, Sequence[ConfigRecord]] = {ANSWER: self.records}
        return Replies(
            self.nodes,
            self.request.message_type,
            records=records,
            failures=self.failures,
            declined=dict(declined),
        )


def _client(state: RecordDict) -> SecureClient:
    if SECRETS not in state:
        raise Refusal("it takes part in no round of secure aggregation")
    return SecureClient.from_record(state.config_records[SECRETS])


def _keep(state: RecordDict, client: SecureClient) -> None:
    state[SECRETS] = client.to_record()


def _round(request: Request) -> int:
    return int(request.config.get("server-round", 0))
