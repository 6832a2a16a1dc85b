"""An encoder as a file that tells everything and runs nothing: what a saved model reads, and says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmodel.data.encoder import Category, Encoder, Number
from fedmodel.data.hashing import HashedText
from fedmodel.errors import FedmodelError

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading:
    """How records become what a model reads, and the classes that it tells apart.

    Scales and categories are as they were fitted. With ``encode = "client"`` these are every
    client's own, which the file then holds.
    """

    encoder: Encoder | HashedText
    classes: tuple[str, ...]

    @property
    def num_features(self) -> int:
        """Numbers, or tokens, of a record."""
        encoder = self.encoder
        return encoder.max_tokens if isinstance(encoder, HashedText) else len(encoder.names)

    @property
    def vocabulary(self) -> int:
        """Different tokens; 0 for tables."""
        return self.encoder.buckets if isinstance(self.encoder, HashedText) else 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table of records has to have."""
        encoder = self.encoder
        if isinstance(encoder, HashedText):
            return (encoder.column,)
        return tuple(column.name for column in encoder.columns)

    def to_json(self) -> str:
        """As JSON; a scale that a client lacks is null."""
        encoder = self.encoder
        plain: dict[str, Any] = {"version": 1, "classes": self.classes}
        if isinstance(encoder, HashedText):
            plain["text"] = vars(encoder)
        else:
            plain["clients"] = encoder.clients
            plain["columns"] = [_plain(column) for column in encoder.columns]
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "") -> Reading:
        """The inverse of `to_json`.

        Raises:
            FedmodelError: it is damaged, or of another version.
        """
        try:
            plain = json.loads(text)
            if plain["version"] != 1:
                raise ValueError(f"version {plain['version']}")
            encoder: Encoder | HashedText
            if "text" in plain:
                encoder = HashedText(**plain["text"])
            else:
                columns = tuple(_column(column) for column in plain["columns"])
                encoder = Encoder(columns=columns, clients=tuple(plain["clients"]))
            return cls(encoder, tuple(plain["classes"]))
        except (ValueError, KeyError, TypeError) as error:
            raise FedmodelError(
                f"the encoder of this run cannot be read: {error}",
                where=where,
                fix="It is of another version, or damaged: run the experiment anew.",
            ) from error


def _plain(column: Number | Category) -> dict[str, Any]:
    plain = dict(vars(column))
    for key in {"shift", "scale"} & set(plain):
        plain[key] = [None if math.isnan(value) else value for value in plain[key].tolist()]
    return plain


def _column(plain: dict[str, Any]) -> Number | Category:
    if "categories" in plain:
        return Category(**{**plain, "categories": tuple(plain["categories"])})
    scales = {key: np.array(plain[key], dtype=float) for key in ("shift", "scale")}
    return Number(**{**plain, **scales})
