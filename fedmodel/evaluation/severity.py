"""How the model fares on worse records: noise on features, features that are missing, misspelt words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from flwr.app import ConfigRecord
from jaxtyping import Int
from torch import Tensor

from fedmodel.data.encoder import Encoder, Number
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.performance import accuracy_score
from fedmodel.evaluation.rows import stacked
from fedmodel.evaluation.tables import marginals, rows
from fedmodel.randomness import normals, stream_keys, uniforms
from fedmodel.types import Counts, FederatedData

__all__ = ["KINDS", "Severity", "name_of", "severity_counts", "severity_rows"]

KINDS = ("feature_noise", "missing_features", "typos")
PREFIX = "severity."


@dataclass(frozen=True, kw_only=True)
class Severity:
    """What is done to test records before the model reads them, how badly, and in which rounds.

    - ``feature_noise``: a normal number of standard deviation `level` is added to every numeric
      feature as the model reads it: in deviations of the training records where ``encode`` is
      "pooled" or "client", in halves of the public range under "public", in the column's own unit
      under "none".
    - ``missing_features``: each feature of a record, numeric or not, is missing with chance `level`
      and encoded as such: 0, and 1 in its indicator column if it has one.
    - ``typos``: each word is misspelt with chance `level`. A misspelt word is hashed to a bucket that
      has nothing to do with the word's, so its token becomes any bucket, all alike. Misspellings that
      are words themselves, or split one, are not played.

    What happens to a record depends on the seed and the record alone: the same in every round, on
    every engine, and more of the same at a higher level.
    """

    levels: Mapping[str, tuple[float, ...]]  # by kind
    last: int  # the number of the last round
    seed: int
    every: int | None = None  # None: after the last round only

    @property
    def conditions(self) -> Iterator[tuple[str, float]]:
        """Every kind at each of its levels."""
        return ((kind, level) for kind in self.levels for level in self.levels[kind])

    def due(self, round: int) -> bool:
        """Whether worse records are tried after this round."""
        again = self.every is not None and round > 0 and round % self.every == 0
        return again or round == self.last

    def check(self, data: FederatedData) -> None:
        """Refuse what these records cannot suffer.

        Raises:
            FedmodelError: typos in a table, noise on texts or where no feature is a number.
        """
        for kind in self.levels:
            if (kind == "typos") != bool(data.vocabulary):
                raise FedmodelError(
                    f"{data.card.name} has {'no' if kind == 'typos' else 'nothing but'} texts, so "
                    f"`{kind}` has no effect",
                    where=f"[evaluation.severity] {kind}",
                    fix="Use feature_noise and missing_features for tables, typos for texts.",
                )
            if kind == "feature_noise" and not len(_Columns(data.encoder).numbers):
                raise FedmodelError(
                    f"no feature of {data.card.name} is a number, so `{kind}` has no effect",
                    where=f"[evaluation.severity] {kind}",
                    fix="Use missing_features.",
                )

    def worsened(
        self, data: FederatedData, records: Int[Tensor, " n"], *, kind: str, level: float
    ) -> Tensor:
        """The features `[n, ...]` of some of the records, of this kind at this level; a new tensor."""
        x = data.x[records].clone()
        keys = stream_keys(self.seed, records.numpy(), 0, kind)
        if kind == "typos":
            draws = uniforms(keys, 2 * x.shape[1])
            hit = (draws[:, ::2] < level) & (x.cpu().numpy() > 0)
            token = torch.from_numpy(1 + (draws[:, 1::2] * (data.vocabulary - 1)).astype(np.int64))
            return torch.where(torch.from_numpy(hit).to(x.device), token.to(x.device), x)
        columns = _Columns(data.encoder)
        if kind == "feature_noise":
            noise = level * normals(keys, len(columns.numbers))
            x[:, columns.numbers] += torch.from_numpy(noise).to(x)
            return x
        gone = (uniforms(keys, len(columns.starts)) < level)[:, columns.of]
        filled = torch.from_numpy(columns.missing).to(x)
        return torch.where(torch.from_numpy(gone).to(x.device), filled, x)


class _Columns:
    """Where the p features of an encoder lie among the q numbers that a model reads."""

    def __init__(self, encoder: Encoder) -> None:
        widths = [len(column.names) for column in encoder.columns]
        self.starts = np.cumsum([0, *widths[:-1]])  # [p]
        self.of = np.repeat(np.arange(len(widths)), widths)  # [q] the feature of each number
        self.encoder = encoder

    @cached_property
    def numbers(self) -> Int[np.ndarray, " m"]:
        """The places of numeric features."""
        kinds = [isinstance(column, Number) for column in self.encoder.columns]
        return self.starts[np.array(kinds, dtype=bool)]

    @cached_property
    def missing(self) -> np.ndarray:
        """A record [q] of which nothing is known."""
        ends = self.starts + np.bincount(self.of) - 1
        blank = np.zeros(len(self.of), dtype=np.float32)
        blank[[end for end, c in zip(ends, self.encoder.columns) if c.indicator]] = 1
        return blank


def name_of(kind: str, level: float) -> str:
    """What the counts of a condition are called among a client's answers."""
    return f"{PREFIX}{kind}={level:g}"


def severity_counts(records: Mapping[str, Sequence[ConfigRecord]]) -> dict[str, Counts]:
    """Those of the clients' answers that count worse records, by name."""
    return {name: stacked(rows) for name, rows in records.items() if name.startswith(PREFIX)}


def severity_rows(
    counts: Mapping[str, Counts], *, data: FederatedData, round: int, model: str = "global"
) -> pd.DataFrame:
    """Rows of the tidy table: metric ``accuracy[kind=level]``, of all test records and of each group.

    `counts` is by name as `name_of` writes it.
    """
    of = partial(rows, round=round, split="test", model=model)
    parts = []
    for name, found in counts.items():
        metric = f"accuracy[{name.removeprefix(PREFIX)}]"
        total = found.total().confusion
        parts.append(of({metric: accuracy_score(total.sum(1))}, scope="global", keys=[""]))
        for _, keys, confusion in marginals(total[0], data.attributes) if data.attributes else ():
            parts.append(of({metric: accuracy_score(confusion)}, scope="group", keys=keys))
    return pd.concat(parts, ignore_index=True)
