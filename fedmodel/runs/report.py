"""The report of a run: one HTML file to show to a colleague, which opens without a network."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pandas import DataFrame, concat

from fedmodel.runs.page import Page
from fedmodel.runs.sections import SECTIONS, opening
from fedmodel.runs.words import METRICS
from fedmodel.types import Card

__all__ = ["ReportData", "write_report"]

COMBINED = "all combined"  # the groups that all sensitive attributes make together
_COLUMNS = {
    "metrics": ("round", "split", "model", "scope", "key", "metric", "value"),
    "epsilon": ("round", "client", "epsilon", "delta", "accountant"),
    "partition": ("client", "split", "class", "count"),
}


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report is made of, and the questions that its sections ask of it.

    Frames may be empty, and columns of `clients` may be missing: a section or a column without its
    data is left out.
    """

    title: str
    config_toml: str  # the experiment, as the user wrote it
    manifest: dict  # versions, seeds, fingerprints, git state, machine, started, seconds, engine
    card: Card
    metrics: DataFrame  # round, split, model, scope, key, metric, value
    clients: DataFrame  # one row a client
    epsilon: DataFrame  # round, client, epsilon, delta, accountant; cumulative
    partition: DataFrame  # client, split, class, count
    statement: dict | None = None  # sentences, outside, and what else the mode states
    cross_site: DataFrame | None = None  # model, client, num_records, correct, accuracy
    notes: tuple[str, ...] | list[str] = ()
    rounds: int = 0  # how many were asked for
    finished: bool = True

    def __post_init__(self) -> None:
        """An empty frame need not have columns."""
        for name, columns in _COLUMNS.items():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, DataFrame(columns=list(columns), dtype=object))

    @cached_property
    def split(self) -> str:
        """The split that the report speaks of: the test records, where there are some."""
        present = set(self.metrics.split) if len(self.metrics) else set()
        return next((s for s in ("test", "validation", "train") if s in present), "test")

    @cached_property
    def last_round(self) -> int:
        rounds = self.metrics["round"][self.metrics.model.eq("global")]
        return int(rounds.max()) if len(rounds) else 0

    @cached_property
    def lead(self) -> str:
        """The metric that stands for the rest: accuracy, else the first one that was measured."""
        return next((name for name in METRICS if name in self.measured), "accuracy")

    @cached_property
    def best(self) -> tuple[int, str] | None:
        """The best round, and the split it was chosen by; None where fewer than two were measured."""
        split = "validation" if "validation" in set(self.metrics.split) else self.split
        curve = self.rows(self.lead, split=split).query("round > 0").dropna(subset=["value"])
        if len(curve) < 2:
            return None
        values = curve.value
        place = values.argmin() if self.lead == "loss" else values.argmax()
        return int(curve["round"].iloc[place]), split

    @cached_property
    def measured(self) -> list[str]:
        """The metrics of the shared model over all records, in the table's order."""
        table = self.metrics
        names = table.metric[table.model.eq("global") & table.scope.eq("global")].unique()
        return [
            name for name in names if "[" not in name
        ]  # on worse records: in a section of its own

    @cached_property
    def _parts(self) -> dict[tuple[Hashable, ...], DataFrame]:
        """The metrics by scope and name: a long run has millions of rows."""
        return dict(iter(self.metrics.groupby(["scope", "metric"], sort=False)))

    def rows(
        self,
        name: str,
        *,
        model: str | None = "global",
        scope: str = "global",
        key: str | None = "",
        split: str | None = None,
    ) -> DataFrame:
        """Rows of one metric by round; None for the model or the key means any."""
        table = self._parts.get((scope, name), self.metrics[:0])
        keep = table.split.eq(split or self.split)
        if model is not None:
            keep &= table.model.eq(model)
        if key is not None:
            keep &= table.key.eq(key)
        return table[keep].sort_values("round", kind="stable")

    def value(self, name: str, *, at: int | None = None, **where) -> float:
        """One value, at round `at` or the last one measured; NaN where there is none."""
        rows = self.rows(name, **where)
        if at is not None:
            rows = rows[rows["round"].eq(at)]
        return float(rows.value.iloc[-1]) if len(rows) else math.nan

    def by_client(self, name: str, *, model: str = "global") -> DataFrame:
        """The last values of a metric at each client, with columns client and value."""
        rows = self.rows(name, model=model, scope="client", key=None)
        rows = rows[rows["round"].eq(rows["round"].max())]
        return rows.rename(columns={"key": "client"})[["client", "value"]].reset_index(drop=True)

    @cached_property
    def attributes(self) -> list[str]:
        """The sensitive attributes, from the keys of the groups (``sex=Female``)."""
        groups = self.metrics.key[self.metrics.scope.eq("group")].unique()
        return list(dict.fromkeys(key.split("=")[0] for key in groups if key.count("=") == 1))

    def gaps(self, name: str, *, model: str = "global") -> DataFrame:
        """A gap between groups by round: columns round, attribute, value.

        Each attribute by itself, then the combinations of all: the groups of a single attribute
        are those combinations.
        """
        combined = self.rows(name, model=model)
        single = self.rows(name, model=model, scope="group", key=None)
        several = len(single) > 0 or len(self.attributes) > 1
        every = COMBINED if several else (self.attributes or ["group"])[0]
        rows = concat(
            [single.rename(columns={"key": "attribute"}), combined.assign(attribute=every)]
        )
        return rows[["round", "attribute", "value"]].reset_index(drop=True)

    def largest_gap(self, name: str, *, model: str = "global") -> tuple[str, float]:
        """The attribute whose groups lie farthest apart in the last round, and how far.

        Combinations of attributes speak only where nothing else does: they are always farther
        apart, and their groups small.
        """
        gaps = self.gaps(name, model=model)
        gaps = gaps[gaps["round"].eq(gaps["round"].max())].dropna(subset=["value"])
        single = gaps[gaps.attribute.ne(COMBINED)]
        gaps = single if len(single) else gaps
        if not len(gaps):
            return "", math.nan
        worst = gaps.sort_values("value", kind="stable").iloc[-1]
        return str(worst.attribute), float(worst.value)

    @cached_property
    def client_accuracy(self) -> DataFrame:
        """The last model's accuracy at each client, where it is defined: columns client, value."""
        accuracy = self.by_client("accuracy").dropna()
        if not len(accuracy) and {"client", "accuracy"} <= set(self.clients.columns):
            accuracy = self.clients[["client", "accuracy"]].dropna()
            accuracy = accuracy.set_axis(["client", "value"], axis=1)
        return accuracy.reset_index(drop=True)

    @cached_property
    def worst_client(self) -> tuple[str, float] | None:
        """The client with the lowest accuracy of the last model, where there are several."""
        if len(self.client_accuracy) < 2:
            return None
        row = self.client_accuracy.sort_values("value", kind="stable").iloc[0]
        return str(row.client), float(row.value)

    @cached_property
    def spent(self) -> DataFrame:
        """What each client spent of its privacy: columns client, epsilon."""
        if {"client", "epsilon"} <= set(self.clients.columns):
            spent = self.clients[["client", "epsilon"]].dropna()
            if len(spent):
                return spent
        if not len(self.epsilon):
            return DataFrame({"client": [], "epsilon": []})
        latest = self.epsilon.sort_values("round", kind="stable").groupby("client", sort=False)
        return latest.epsilon.last().reset_index()

    @cached_property
    def num_clients(self) -> int:
        return max(len(self.clients), self.partition.client.nunique())


def compose(data: ReportData) -> Page:
    """The page for a run: what one reads first, and every section that has data."""
    return Page(
        title=data.title,
        about=opening.about(data),
        headline=opening.headline(data),
        warning=opening.warning(data),
        key_figures=opening.key_figures(data),
        notes=data.notes,
        sections=[section for make in SECTIONS if (section := make(data)) is not None],
    )


def write_report(data: ReportData, path: Path) -> Path:
    """Write the page to `path` at once or not at all, and return `path`."""
    text = compose(data).render()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
