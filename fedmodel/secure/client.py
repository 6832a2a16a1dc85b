"""A client of secure aggregation: what it tells, what it hides, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord
from jaxtyping import UInt

from fedmodel.secure.exchanges import (
    MaskedVector,
    Neighbourhood,
    PublicKeys,
    SealedShares,
    Shares,
    UnmaskRequest,
)
from fedmodel.secure.keys import (
    Refusal,
    new_secret,
    open_box,
    own_mask,
    pair_mask,
    private_key,
    public_key,
    seal,
)
from fedmodel.secure.shamir import limbs_of, split

__all__ = ["SecureClient"]

Words = UInt[np.ndarray, " n"]


@dataclass
class SecureClient:
    """One client in one round of secure aggregation (Bonawitz et al., CCS 2017, figure 4).

    1. `keys`: two fresh pairs of keys; the public ones go to the server.
    2. `shares`: its private mask key and a fresh seed, shared among itself and its neighbours, whose
       shares go in sealed boxes.
    3. `receive`, `mask`: a mask from the seed, and one with each neighbour that shared, of which the
       other adds the opposite.
    4. `unmask`: one share for itself and each neighbour: of the seed if its vector is in the sum, of
       the key if it has left. Never both: together they would open its vector.

    The server, and neighbours fewer than the threshold that tell it all they know, learn of the
    vectors nothing but their sum. That holds if all follow the protocol (honest but curious): keys
    are not signed, so a server that makes up neighbours is not kept out.

    Raises (all methods):
        Refusal: it is asked for what would harm it or its neighbours, or out of turn.
    """

    number: int
    round: int
    mask_key: bytes = field(default_factory=new_secret, repr=False)
    box_key: bytes = field(default_factory=new_secret, repr=False)
    seed: bytes = field(default=b"", repr=False)
    threshold: int = 0
    clients: list[int] = field(default_factory=list)  # its neighbours
    masks: list[bytes] = field(default_factory=list, repr=False)  # their public mask keys
    boxes: list[bytes] = field(default_factory=list, repr=False)  # their public box keys
    senders: list[int] = field(default_factory=list)  # itself, and neighbours that have shared
    held: list[bytes] = field(default_factory=list, repr=False)  # their shares, opened
    masked: bool = False
    unmasked: bool = False

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SecureClient:
        """The client as it was left in its `Context.state`."""
        return cls(**record)

    def to_record(self) -> ConfigRecord:
        """All that it must remember until the next exchange. It is secret."""
        return ConfigRecord(dict(vars(self)))

    def keys(self) -> PublicKeys:
        """First exchange."""
        return PublicKeys(public_key(self.mask_key), public_key(self.box_key))

    def shares(self, asked: Neighbourhood) -> SealedShares:
        """Second exchange: a box for each neighbour."""
        if self.seed:
            raise Refusal("it has shared its secrets already in this round")
        if asked.round != self.round:
            raise Refusal(f"it is asked in round {asked.round} for keys of round {self.round}")
        count, own = len(asked.clients), self.keys()
        if not (count + 1) / 2 < asked.threshold <= count + 1:
            raise Refusal(f"{asked.threshold} of {count + 1} holders are no threshold")
        if len(set(asked.clients)) < count or self.number in asked.clients:
            raise Refusal("its neighbours are not all different from each other and itself")
        if len({*asked.masks, *asked.boxes, own.mask, own.box}) < 2 * count + 2:
            raise Refusal("two clients have the same keys")
        self.seed, self.threshold = new_secret(), asked.threshold
        self.clients, self.masks, self.boxes = asked.clients, asked.masks, asked.boxes
        points = [client + 1 for client in (self.number, *self.clients)]
        own_key = private_key(self.box_key)
        secrets = np.concatenate([limbs_of(self.seed), limbs_of(self.mask_key)])
        kept, *shared = split(secrets, points, threshold=self.threshold).astype("<u4")
        self.senders, self.held = [self.number], [kept.tobytes()]
        sealed = [
            seal(
                own_key,
                public,
                share.tobytes(),
                round=self.round,
                sender=self.number,
                recipient=client,
            )
            for client, public, share in zip(self.clients, self.boxes, shared)
        ]
        return SealedShares(list(self.clients), sealed)

    def receive(self, sealed: SealedShares) -> None:
        """Third exchange, first half: its neighbours' boxes; it masks with whoever sent one."""
        if len(self.senders) != 1:
            raise Refusal("it is not the time to receive shares")
        if len(set(sealed.clients)) < len(sealed.clients):
            raise Refusal("a neighbour has sent two boxes")
        if not set(sealed.clients) <= set(self.clients):
            raise Refusal("it has boxes from clients that are not its neighbours")
        if (count := len(sealed.clients) + 1) < self.threshold:
            raise Refusal(f"{count} have shared, itself among them, and it needs {self.threshold}")
        keys, own_key = dict(zip(self.clients, self.boxes)), private_key(self.box_key)
        self.held += [
            open_box(
                own_key,
                keys[client],
                box,
                round=self.round,
                sender=client,
                recipient=self.number,
            )
            for client, box in zip(sealed.clients, sealed.boxes)
        ]
        self.senders += sealed.clients

    def mask(self, words: Words) -> MaskedVector:
        """Third exchange, second half: the words under all masks, once.

        Two vectors under the same masks would give away their difference.
        """
        if len(self.senders) < 2 or self.masked:
            raise Refusal("it masks one vector in a round, after it has received shares")
        self.masked = True
        hidden = words + own_mask(self.seed, round=self.round, client=self.number, like=words)
        keys, own_key = dict(zip(self.clients, self.masks)), private_key(self.mask_key)
        for client in self.senders[1:]:
            hidden += pair_mask(
                own_key,
                keys[client],
                round=self.round,
                client=self.number,
                other=client,
                like=words,
            )
        return MaskedVector(hidden.astype(hidden.dtype.newbyteorder("<")).tobytes())

    def unmask(self, asked: UnmaskRequest) -> Shares:
        """Fourth exchange, once: one share of each neighbour that shared."""
        if not self.masked or self.unmasked:
            raise Refusal("it gives its shares once in a round, after its masked vector")
        self.unmasked = True
        both = [*asked.survivors, *asked.left]
        if len(set(both)) < len(both):
            raise Refusal("it is asked for both secrets of a neighbour")
        if not set(both) <= set(self.senders) or self.number in asked.left:
            raise Refusal("it is asked for shares that it does not hold")
        if len(asked.survivors) < self.threshold:
            raise Refusal(
                f"{len(asked.survivors)} are in the sum, itself among them, and it needs "
                f"{self.threshold}"
            )
        held = dict(zip(self.senders, self.held))
        half = len(self.held[0]) // 2
        return Shares(
            survivors=list(asked.survivors),
            seeds=[held[client][:half] for client in asked.survivors],
            left=list(asked.left),
            keys=[held[client][half:] for client in asked.left],
        )
