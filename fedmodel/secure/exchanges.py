"""What clients and server say to each other in secure aggregation. Clients are numbers from 0 on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import ConfigRecord

__all__ = ["KEYS", "MASKED", "SHARES", "UNMASK"]
__all__ += ["MaskedVector", "Neighbourhood", "PublicKeys", "SealedShares", "Shares"]
__all__ += ["Spoken", "UnmaskRequest"]

# The four exchanges, by the type of their messages.
KEYS = "train.secure_keys"
SHARES = "train.secure_shares"
MASKED = "train.secure_masked"
UNMASK = "train.secure_unmask"

Said = TypeVar("Said", bound="Spoken")


@dataclass(frozen=True)
class Spoken:
    """Numbers and bytes that travel in one ConfigRecord."""

    def to_record(self) -> ConfigRecord:
        """As Flower sends it."""
        return ConfigRecord(dict(vars(self)))

    @classmethod
    def from_record(cls: type[Said], record: Mapping[str, Any]) -> Said:
        """As it was before it was sent."""
        return cls(**record)


@dataclass(frozen=True)
class PublicKeys(Spoken):
    """First exchange, to the server: a client's two public keys of X25519, fresh in each round."""

    mask: bytes  # for masks; its private key is shared, so that the masks of who leaves can go
    box: bytes  # for boxes; its private key never leaves the client


@dataclass(frozen=True)
class Neighbourhood(Spoken):
    """Second exchange, to a client: its neighbours, their keys, and how many shares are needed."""

    round: int
    threshold: int
    clients: list[int]
    masks: list[bytes]
    boxes: list[bytes]


@dataclass(frozen=True)
class SealedShares(Spoken):
    """Second exchange, to the server, by recipient; third exchange, to a client, by sender.

    A box holds a share of the sender's seed (own mask) and one of its private mask key.
    """

    clients: list[int]
    boxes: list[bytes] = field(repr=False)


@dataclass(frozen=True)
class MaskedVector(Spoken):
    """Third exchange, to the server: the client's words under all its masks."""

    words: bytes = field(repr=False)


@dataclass(frozen=True)
class UnmaskRequest(Spoken):
    """Fourth exchange, to a client: of itself and its neighbours, who is in the sum, and who has
    left after sharing."""

    survivors: list[int]
    left: list[int]


@dataclass(frozen=True)
class Shares(Spoken):
    """Fourth exchange, to the server: shares of survivors' seeds, of leavers' private mask keys."""

    survivors: list[int]
    seeds: list[bytes] = field(repr=False)
    left: list[int]
    keys: list[bytes] = field(repr=False)
