"""What a client tells of its file: sums over its records, and none of the records.

`client_sums` runs at the client, on its own file; what it returns is all that leaves. Nothing is
told of fewer than `minimum` records: no mean, no bin of a histogram, no category; lowest and highest
values are records' values, and told only if asked for. Exact sums are no differential privacy: who
knows all records but one can work out the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from fedmodel.data.align import converted, match
from fedmodel.data.client_file import ClientFile, parts, to_numbers, to_text
from fedmodel.data.histogram import Histogram, coarse, places
from fedmodel.data.schema import Schema
from fedmodel.errors import FedmodelError

__all__ = ["ClientSums", "ColumnSums", "client_sums", "pooled"]

MOST_WORDS = 1_000  # different words of a column that are counted: above, they are names or ids
MOST_CODES = 20  # different numbers that may be codes of categories


@dataclass(frozen=True, kw_only=True)
class ColumnSums:
    """Sums over one column at one client; None and empty where too few records stand behind."""

    records: int
    missing: int = 0
    numbers: int = 0
    words: int = 0
    refused: int = 0  # values that a schema does not allow
    mean: float | None = None  # of the numbers
    squares: float | None = None  # sum of squared deviations from that mean
    histogram: Histogram | None = None
    categories: Mapping[str, int] = field(default_factory=dict)
    rare: int = 0  # records whose word is too rare to be told
    many: bool = False  # more different words than are counted
    lowest: float | None = None
    highest: float | None = None

    @property
    def kind(self) -> Literal["number", "category", "mixed", "empty"]:
        if not self.numbers and not self.words:
            return "empty"
        if not self.words:
            return "number"
        return "mixed" if self.words < self.numbers else "category"

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the numbers (of the population)."""
        return None if self.squares is None else (self.squares / self.numbers) ** 0.5

    def converted(self, scale: float, offset: float, meanings: Mapping[str, str]) -> ColumnSums:
        """The sums of scale * x + offset (scale > 0), and of what words mean."""
        categories: Counter[str] = Counter()
        for word, count in self.categories.items():
            categories[meanings.get(word, word)] += count
        told = self.histogram

        def moved(value: float | None) -> float | None:
            return None if value is None else scale * value + offset

        return replace(
            self,
            mean=moved(self.mean),
            lowest=moved(self.lowest),
            highest=moved(self.highest),
            squares=None if self.squares is None else scale**2 * self.squares,
            histogram=told and Histogram(counts=told.counts, edges=scale * told.edges + offset),
            categories=dict(categories),
        )


@dataclass(frozen=True, kw_only=True)
class ClientSums:
    """All that a client tells of its file."""

    client: str
    records: int
    columns: Mapping[str, ColumnSums]
    extra: tuple[str, ...] = ()  # columns that the schema does not know
    fault: str = ""  # why the schema does not fit the file at all


def client_sums(
    file: ClientFile, *, minimum: int = 5, limits: bool = False, schema: Schema | None = None
) -> ClientSums:
    """Read a client's file in parts and add up; with a schema, of the aligned columns.

    `minimum` is the number of records below which nothing is told, `limits` whether lowest and
    highest values are.

    Raises:
        FedmodelError: the file cannot be read.
    """
    records = 0
    running: dict[str, _Running] = {}
    matched = None
    for part in parts(file):
        records += len(part)
        if schema is None:
            for name in map(str, part):
                running.setdefault(name, _Running()).add(part[name], decimal=file.decimal)
            continue
        try:
            matched = matched or match(list(part.columns), schema, file)
        except FedmodelError as error:  # it names columns, and no value
            return ClientSums(client=file.client, records=records, columns={}, fault=error.problem)
        for name, own in matched.found.items():
            values, refused = converted(part[own], name, schema, file)
            running.setdefault(name, _Running()).add(values, refused=int(refused.sum()))
    return ClientSums(
        client=file.client,
        records=records,
        columns={name: sums.told(minimum, limits) for name, sums in running.items()},
        extra=matched.extra if matched else (),
    )


class _Running:
    """Sums of a column so far. They stay at the client; `told` says what may leave."""

    def __init__(self) -> None:
        self.records = self.missing = self.numbers = self.word_count = self.refused = 0
        self.mean = self.squares = 0.0
        self.tally: Counter[int] = Counter()
        self.words: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.many_words = self.many_codes = False
        self.lowest, self.highest = np.inf, -np.inf

    def add(self, values: pd.Series, *, decimal: str = ".", refused: int = 0) -> None:
        given = values.notna().to_numpy()
        numbers = to_numbers(values, decimal=decimal)
        number = ~np.isnan(numbers)
        self.records += len(values)
        self.missing += int((~given).sum())
        self.word_count += int((given & ~number).sum())
        self.refused += refused
        self._moments(numbers[number])
        if not self.many_codes:
            self.codes.update(to_text(values[number]).dropna().tolist())
            self.many_codes = len(self.codes) > MOST_CODES
        if not self.many_words:
            self.words.update(to_text(values[given & ~number]).dropna().tolist())
            self.many_words = len(self.words) > MOST_WORDS

    def _moments(self, numbers: np.ndarray) -> None:
        """Mean and squared deviations of two samples together (Chan, Golub and LeVeque 1979)."""
        if not len(numbers):
            return
        mean, count = float(numbers.mean()), self.numbers + len(numbers)
        gap = mean - self.mean
        self.squares += float(((numbers - mean) ** 2).sum())
        self.squares += gap**2 * self.numbers * len(numbers) / count
        self.mean += gap * len(numbers) / count
        self.numbers = count
        self.tally.update(places(numbers))
        self.lowest = min(self.lowest, float(numbers.min()))
        self.highest = max(self.highest, float(numbers.max()))

    def told(self, minimum: int, limits: bool) -> ColumnSums:
        enough = self.numbers >= minimum
        counted = {} if self.many_words else dict(self.words)
        counted |= {} if self.many_codes else self.codes
        categories = {word: count for word, count in counted.items() if count >= minimum}
        return ColumnSums(
            records=self.records,
            missing=self.missing,
            numbers=self.numbers,
            words=self.word_count,
            refused=self.refused,
            mean=self.mean if enough else None,
            squares=self.squares if enough else None,
            histogram=coarse(self.tally, minimum=minimum) if enough else None,
            categories=categories,
            rare=sum(counted.values()) - sum(categories.values()),
            many=self.many_words,
            lowest=self.lowest if enough and limits else None,
            highest=self.highest if enough and limits else None,
        )


def pooled(columns: Sequence[ColumnSums]) -> ColumnSums:
    """The sums of all these clients' records together; a mean is that of the clients that tell one.

    Histograms stay apart: `histogram.quantile` takes them all.
    """
    telling = [c for c in columns if c.mean is not None and c.squares is not None]
    count = sum(c.numbers for c in telling)
    categories: Counter[str] = Counter()
    for column in columns:
        categories.update(column.categories)
    mean = squares = None
    if telling:
        mean = sum(c.numbers * (c.mean or 0.0) for c in telling) / count
        squares = sum(
            (c.squares or 0.0) + c.numbers * ((c.mean or 0.0) - mean) ** 2 for c in telling
        )
    lows = [c.lowest for c in columns if c.lowest is not None]
    highs = [c.highest for c in columns if c.highest is not None]
    return ColumnSums(
        records=sum(c.records for c in columns),
        missing=sum(c.missing for c in columns),
        numbers=count,
        words=sum(c.words for c in columns),
        refused=sum(c.refused for c in columns),
        mean=mean,
        squares=squares,
        categories=dict(categories),
        rare=sum(c.rare for c in columns),
        many=any(c.many for c in columns),
        lowest=min(lows, default=None),
        highest=max(highs, default=None),
    )
