"""The server of secure aggregation: it passes keys and boxes on, adds vectors up, and takes masks off."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt

from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.secure.exchanges import (
    MaskedVector,
    Neighbourhood,
    PublicKeys,
    SealedShares,
    Shares,
    UnmaskRequest,
)
from fedmodel.secure.graph import components, neighbours_of, threshold_of
from fedmodel.secure.keys import own_mask, pair_mask, private_key, public_key
from fedmodel.secure.shamir import combine, secret_of

__all__ = ["FEWEST", "SecureServer"]

FEWEST = 3  # of two, each would learn the other's vector from the sum


class SecureServer:
    """One round of secure aggregation (Bonawitz et al., CCS 2017; with neighbours: Bell et al., 2020).

    Each method takes the answers to one exchange, by client, and returns what to say in the next;
    whoever did not answer has left. What a client sent before it left is dealt with:

    - after its keys only: it was never there;
    - after its shares: its masks with the neighbours are rebuilt from its private mask key;
    - after its masked vector: it is in the sum, and its own mask is rebuilt from its seed.

    Args:
        neighbours: of each client; None for all the others.
        threshold: share of those that hold a client's shares (itself and its neighbours) that must
            give them, see `threshold_of`; also the share of clients that must be in the sum.
        fewest: clients that must be in the sum, whatever the share says.
        words, dtype: how many words a vector has, and of which kind.
        generator: places the clients in the graph; what the sum is does not depend on it.

    Raises (all methods):
        RunFailed: too few clients are left; nothing but masked vectors has been seen.
    """

    def __init__(
        self,
        *,
        round: int,
        threshold: float,
        neighbours: int | None,
        fewest: int = FEWEST,
        words: int,
        dtype: np.dtype,
        generator: np.random.Generator,
    ) -> None:
        self.round, self.threshold, self.degree = round, threshold, neighbours
        self.generator = generator
        self.sum = np.zeros(words, dtype)
        self.keys: dict[int, PublicKeys] = {}
        self.neighbours: dict[int, list[int]] = {}
        self.shared: set[int] = set()  # clients whose boxes were passed on
        self.survivors: list[int] = []  # clients whose vectors are in the sum
        self.fewest = fewest

    def neighbourhoods(self, keys: Mapping[int, PublicKeys]) -> dict[int, Neighbourhood]:
        """After the first exchange: who masks with whom."""
        self.keys = dict(keys)
        self.fewest = max(self.fewest, math.ceil(self.threshold * len(keys) - 1e-9))
        self._enough(len(keys), "have sent their keys")
        self.neighbours = neighbours_of(sorted(keys), number=self.degree, generator=self.generator)
        return {
            client: Neighbourhood(
                round=self.round,
                threshold=self.needed(client),
                clients=near,
                masks=[keys[other].mask for other in near],
                boxes=[keys[other].box for other in near],
            )
            for client, near in self.neighbours.items()
        }

    def boxes(self, sealed: Mapping[int, SealedShares]) -> dict[int, SealedShares]:
        """After the second exchange: each client's boxes, by sender."""
        self._enough(len(sealed), "have shared their secrets")
        self.shared = set(sealed)
        opened = {sender: dict(zip(all.clients, all.boxes)) for sender, all in sealed.items()}
        routed = {}
        for client in sealed:
            senders = [
                other for other in self.neighbours[client] if client in opened.get(other, {})
            ]
            routed[client] = SealedShares(senders, [opened[other][client] for other in senders])
        return routed

    def requests(self, masked: Mapping[int, MaskedVector]) -> dict[int, UnmaskRequest]:
        """After the third exchange: the vectors are added up, and each client is asked for shares."""
        self._enough(len(masked), "have sent their vectors")
        self.survivors = sorted(masked)
        inside = set(masked)
        if components(inside, self.neighbours) > 1:
            raise RunFailed(
                f"the {len(inside)} clients left in round {self.round} fall into parts whose sums "
                "would be seen apart",
                where="[secure_aggregation] neighbours",
                fix="Choose more neighbours and resume.",
            )
        kind = self.sum.dtype.newbyteorder("<")
        for client in self.survivors:
            self.sum += np.frombuffer(masked[client].words, kind)
        return {
            client: UnmaskRequest(
                survivors=[
                    client,
                    *(other for other in self.neighbours[client] if other in inside),
                ],
                left=[
                    other
                    for other in self.neighbours[client]
                    if other in self.shared and other not in inside
                ],
            )
            for client in self.survivors
        }

    def total(self, shares: Mapping[int, Shares]) -> UInt[np.ndarray, " words"]:
        """After the fourth exchange: the sum of the vectors of `survivors`, without masks."""
        inside, total = set(self.survivors), self.sum.copy()
        seeds = self._gathered({c: dict(zip(s.survivors, s.seeds)) for c, s in shares.items()})
        keys = self._gathered({c: dict(zip(s.left, s.keys)) for c, s in shares.items()})
        for client in self.survivors:
            seed = self._rebuilt(client, seeds.get(client, {}))
            total -= own_mask(seed, round=self.round, client=client, like=total)
        for client in sorted(self.shared - inside):
            partners = [other for other in self.neighbours[client] if other in inside]
            if not partners:
                continue
            secret = self._rebuilt(client, keys.get(client, {}))
            if public_key(secret) != self.keys[client].mask:
                raise self._damaged(client)
            key = private_key(secret)
            for other in partners:
                # The partner's half is still in the sum; the client's half is its opposite.
                total += pair_mask(
                    key,
                    self.keys[other].mask,
                    round=self.round,
                    client=client,
                    other=other,
                    like=total,
                )
        return total

    def needed(self, client: int) -> int:
        """How many must give their shares of a client's secret, of itself and its neighbours."""
        return threshold_of(len(self.neighbours[client]) + 1, self.threshold)

    def _gathered(self, given: Mapping[int, Mapping[int, bytes]]) -> dict[int, dict[int, bytes]]:
        """Shares by whose secret it is, then by who holds them."""
        found: dict[int, dict[int, bytes]] = {}
        for holder, shares in given.items():
            for client, share in shares.items():
                found.setdefault(client, {})[holder] = share
        return found

    def _rebuilt(self, client: int, shares: Mapping[int, bytes]) -> bytes:
        needed = self.needed(client)
        if len(shares) < needed:
            raise RunFailed(
                f"{len(shares)} clients gave shares of a mask in round {self.round}, and "
                f"{needed} are needed: the sum stays masked",
                where="[secure_aggregation] threshold",
                fix=_FIX,
            )
        holders = sorted(shares)[:needed]
        numbers = np.stack([np.frombuffer(shares[holder], "<u4") for holder in holders])
        try:
            return secret_of(combine(numbers.astype(np.int64), [holder + 1 for holder in holders]))
        except FedmodelError:
            raise self._damaged(client) from None

    def _damaged(self, client: int) -> RunFailed:
        return RunFailed(
            f"the shares of client {client}'s secret in round {self.round} are not what it shared",
            where="[secure_aggregation]",
            fix="A client lies or its memory is damaged; leave it out and resume.",
        )

    def _enough(self, number: int, what: str) -> None:
        if number < self.fewest:
            raise RunFailed(
                f"{number} clients {what} in round {self.round}, and secure aggregation needs "
                f"{self.fewest}",
                where="[secure_aggregation] threshold",
                fix=_FIX,
            )


_FIX = "Ask more clients ([strategy] sample), or lower threshold or [client] dropout, and resume."
