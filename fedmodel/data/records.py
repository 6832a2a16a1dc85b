"""A data set before it is divided among clients: what every data set function returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from fedmodel.errors import FedmodelError
from fedmodel.types import SPLITS, Card

__all__ = ["Assignment", "Range", "Records", "as_levels", "as_text", "in_order"]

# What each part has to be, as its author knows it.
KINDS: dict[str, type] = {
    "card": Card,
    "label": pd.Series,
    "features": pd.DataFrame,
    "text": pd.Series,
    "sensitive": pd.DataFrame,
    "clients": pd.Series,
    "split": pd.Series,
    "epsilon": pd.Series,
}
Range = tuple[float, float] | tuple[str, ...]  # lowest and highest value, or the categories


@dataclass(frozen=True, kw_only=True)
class Records:
    """N records with their labels. One of `features` and `text` is given; rows agree everywhere.

    Labels and sensitive attributes may come as text, numbers, truth values or categories; they
    are kept as categories. `ranges` are public: from a codebook, never computed from records.

    Raises:
        FedmodelError: what is given does not fit together, or holds what no model can read.
    """

    card: Card
    label: pd.Series  # kept as a categorical: class 1 is the positive one where there are two
    features: pd.DataFrame | None = None  # numbers, truth values or text, one column a feature
    text: pd.Series | None = None
    sensitive: pd.DataFrame = field(default_factory=pd.DataFrame)  # one categorical an attribute
    clients: pd.Series | None = None  # natural client of each record
    split: pd.Series | None = None  # "train", "validation" or "test" of each record
    epsilon: pd.Series | None = None  # the privacy loss that each record's person agreed to
    ranges: Mapping[str, Range] = field(default_factory=dict)
    max_tokens: int = 64  # texts only: tokens kept of each record
    buckets: int = 8192  # texts only: size of the hashed vocabulary

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            part = getattr(self, name)
            if not isinstance(part, kind) and (part is not None or name in ("card", "label")):
                raise self._error(f"has {type(part).__name__} as {name}, not {kind.__name__}")
        if (self.features is None) == (self.text is None):
            raise self._error("has to give either features or text")
        if len(self.label) == 0:
            raise self._error("has no records")
        self._keep(label=as_levels(self.label.reset_index(drop=True)))
        if missing := int(self.label.isna().sum()):
            raise self._error(f"lacks the label of {missing} records", "Leave these records out.")
        if len(self.classes) < 2:
            raise self._error(f"has only one class, {self.classes[0]!r}")
        for name in ("features", "text", "sensitive", "clients", "split", "epsilon"):
            part = getattr(self, name)
            if part is None or (name == "sensitive" and part.empty):
                continue
            if len(part) != len(self):
                raise self._error(f"has {len(self)} labels, and {len(part)} rows of {name}")
            self._keep(**{name: part.reset_index(drop=True)})
        self._keep(sensitive=self.sensitive.apply(_with_unknown))
        if self.clients is not None:
            self._keep(clients=as_text(self.clients))
            if self.clients.isna().any():
                raise self._error("has records without a client id")
        if self.split is not None and not self.split.isin(SPLITS).all():
            raise self._error("has a split other than train, validation and test")
        self._check_features()
        if self.text is not None:
            self._keep(text=self.text.fillna("").astype(str))
            if self.max_tokens < 1 or self.buckets < 2:
                raise self._error("needs max_tokens >= 1 and buckets >= 2")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.label.cat.categories)

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """The levels of each sensitive attribute."""
        return {str(n): tuple(self.sensitive[n].cat.categories) for n in self.sensitive}

    def _check_features(self) -> None:
        if self.features is None:
            return
        if self.features.shape[1] == 0:
            raise self._error("has no feature column")
        if twice := set(self.features.columns[self.features.columns.duplicated()]):
            raise self._error(f"has two features {min(twice, key=str)!r}", "Rename one of them.")
        for name in self.features:
            column = self.features[name]
            if pd.api.types.is_numeric_dtype(column):
                if np.isinf(column.to_numpy(dtype=float, na_value=np.nan)).any():
                    raise self._error(f"has infinite values in {name!r}", "Correct them.")
            elif strange := _neither_text_nor_number(column):
                raise self._error(
                    f"has values of type {strange} in {name!r}",
                    "Give numbers or text (of a date e.g. the years passed), or leave it out.",
                )

    def _keep(self, **parts: object) -> None:
        for name, part in parts.items():
            object.__setattr__(self, name, part)

    def _error(self, problem: str, fix: str = "Mend what makes the records.") -> FedmodelError:
        name = f" {self.card.name}" if isinstance(self.card, Card) else ""
        return FedmodelError(f"the data set{name} {problem}", where="[data] name", fix=fix)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which client holds which record: what a partitioner returns."""

    client: Int[np.ndarray, " N"]  # 0 to K - 1
    names: tuple[str, ...]  # K names, in partition order

    @classmethod
    def of(cls, parts: Sequence[Int[np.ndarray, " _"]]) -> Assignment:
        """From the record numbers of each client, which cover all N and are named "0" to "K-1"."""
        client = np.empty(sum(map(len, parts)), dtype=np.int64)
        for number, rows in enumerate(parts):
            client[rows] = number
        return cls(client=client, names=tuple(map(str, range(len(parts)))))


def as_text(values: pd.Series) -> pd.Series:
    """The values as text, missing ones kept; a whole number has no decimal point.

    >>> as_text(pd.Series([1.0, None, 3.0])).tolist()
    ['1', nan, '3']
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object).infer_objects()
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("str")


def in_order(names: Iterable[str]) -> list[str]:
    """Numbers by size, everything else by name.

    >>> in_order(["10", "9"]), in_order(["b10", "b9"])
    (['9', '10'], ['b10', 'b9'])
    """
    names = sorted(set(names))
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def as_levels(values: pd.Series) -> pd.Series:
    """The values as a categorical of text. The order is the given one, or that of `in_order`."""
    text = as_text(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = as_text(pd.Series(values.cat.categories)).tolist()
    else:
        levels = in_order(text.dropna().unique())
    return pd.Series(pd.Categorical(text, categories=levels), name=values.name)


def _with_unknown(values: pd.Series) -> pd.Series:
    levels = as_levels(values)
    if levels.isna().any():  # who withholds an attribute is a group of its own, never dropped
        levels = levels.cat.add_categories(["unknown"]).fillna("unknown")
    return levels


def _neither_text_nor_number(column: pd.Series) -> str:
    """The type of the first value that is neither; empty if all are text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = pd.Series(column.cat.categories)
    if pd.api.types.is_string_dtype(column.dtype) and column.dtype != object:
        return ""
    values: Iterable[Any] = column.dropna()
    return next(
        (type(v).__name__ for v in values if not isinstance(v, str | bool | int | float)), ""
    )
