"""An encoder as a file that tells everything and runs nothing: what a saved model reads, and says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
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
    def at(cls, path: Path, *, where: str = "") -> Reading:
        """What a run folder, or an ``encoder.json`` by itself, says of how its model reads records.

        Raises:
            FedmodelError: it is not there, damaged, or of another version.
        """
        file = path / "encoder.json" if path.is_dir() else path
        if not file.is_file():
            raise FedmodelError(
                f"{path} holds no encoder.json, which says how records are encoded"
                if path.is_dir()
                else f"there is no encoder {path}",
                where=where,
                fix=f"Finish the run: `fedmodel resume {path}`; one of an earlier version: run it anew."
                if (path / "manifest.json").is_file()
                else "Name the folder of a finished run, or its encoder.json.",
            )
        return cls.from_json(file.read_text(encoding="utf-8"), where=where or str(file))

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
