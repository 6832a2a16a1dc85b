"""From a record as it was written to the numbers a model reads; also for records that come later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fedmodel.data.records import as_text
from fedmodel.errors import FedmodelError

__all__ = ["Category", "Encoder", "Number", "as_numbers"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Number:
    """A numeric column as (value - shift) / scale.

    Shift and scale hold one value for all clients, or one for each; NaN where a client has no
    training value to take them from. A missing value becomes 0, and 1 in the indicator column if
    there is one.
    """

    name: str
    shift: Float[np.ndarray, " K"]
    scale: Float[np.ndarray, " K"]
    clip: bool = False  # to [-1, 1]
    indicator: bool = False
    may_miss: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} is missing") if self.indicator else (self.name,)

    def fill(
        self, out: Float[np.ndarray, "n width"], values: pd.Series, client: Int[np.ndarray, " n"]
    ) -> None:
        scaled = (as_numbers(values) - self.shift[client]) / self.scale[client]
        missing = np.isnan(scaled)
        if missing.any() and not self.may_miss:
            raise FedmodelError(
                f"{missing.sum()} records have no value in {self.name!r}",
                where="[data] encode = none",
                fix='Fill them in, or use encode = "pooled" or "public", which mark what is missing.',
            )
        out[:, 0] = np.where(missing, 0.0, scaled.clip(-1, 1) if self.clip else scaled)
        if self.indicator:
            out[:, 1] = missing


@dataclass(frozen=True, kw_only=True, eq=False)
class Category:
    """A column of text as one column of 0 and 1 for each category; all 0 for any other value."""

    name: str
    categories: tuple[str, ...]
    indicator: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        names = tuple(f"{self.name} = {category}" for category in self.categories)
        return (*names, f"{self.name} is missing") if self.indicator else names

    def fill(
        self, out: Float[np.ndarray, "n width"], values: pd.Series, client: Int[np.ndarray, " n"]
    ) -> None:
        text = as_text(values)
        code = pd.Index(self.categories).get_indexer(pd.Index(text))
        known = np.flatnonzero(code >= 0)
        out[known, code[known]] = 1
        if self.indicator:
            out[:, -1] = text.isna()


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """Turns a table into the rows that a model was trained on. Nothing in it changes any more."""

    columns: tuple[Number | Category, ...]
    clients: tuple[str, ...] = ()  # where each client has its own scale
    drowned: tuple[
        str, ...
    ] = ()  # columns whose noised scale told nothing: they have public limits

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the p encoded columns."""
        return tuple(name for column in self.columns for name in column.names)

    def transform(
        self, features: pd.DataFrame, client: Int[np.ndarray, " n"] | None = None
    ) -> Float[np.ndarray, "n p"]:
        """Encode records, float32. `client` is needed where each client has its own scale.

        Raises:
            FedmodelError: a column is not there or holds no numbers; no client is given.
        """
        if self.clients and client is None:
            raise FedmodelError(
                "each client has a scale of its own, and no client is named",
                where="[data] encode = client",
                fix=f"Say whose records they are: {', '.join(self.clients[:5])} ...",
            )
        if not self.clients or client is None:
            client = np.zeros(len(features), dtype=np.int64)
        out = np.zeros((len(features), len(self.names)), dtype=np.float32)
        start = 0
        for column in self.columns:
            if column.name not in features:
                raise FedmodelError(
                    f"the records have no column {column.name!r}",
                    where="features",
                    fix=f"The model reads: {', '.join(c.name for c in self.columns)}.",
                )
            end = start + len(column.names)
            column.fill(out[:, start:end], features[column.name], client)
            start = end
        return out


def as_numbers(values: pd.Series) -> Float[np.ndarray, " n"]:
    """A column as float64, NaN where it is missing. Raises FedmodelError for what is no number."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = np.isnan(numbers) & values.notna().to_numpy()
    if wrong.any():
        raise FedmodelError(
            f"{values[wrong].iloc[0]!r} in {values.name!r} is not a number",
            where="features",
            fix="Correct it, or leave it empty if it is missing.",
        )
    return numbers
