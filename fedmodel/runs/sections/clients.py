"""Clients: how evenly they are served, and a table of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pandas import DataFrame

from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Section, Table
from fedmodel.runs.sections.common import FEW, quantiles, spread, thinned
from fedmodel.runs.words import metric, write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["clients"]

LISTED = 200  # rows of the table
ENOUGH = 5  # clients, from which on quantiles say something
EVENNESS = ("accuracy_mean", "accuracy_std", "accuracy_worst_decile", "accuracy_jain", "accuracy_gini")  # fmt: skip
RARE = ("num_validation", "declined", "failed", "dropped", "dishonest")  # shown where there was any
COLUMNS = {
    "client": Column(label="client", kind="text"),
    "num_train": Column(label="training records", kind="count"),
    "num_validation": Column(label="validation records", kind="count"),
    "num_test": Column(label="test records", kind="count"),
    "rounds": Column(label="rounds", kind="count", meaning="how often it took part"),
    "declined": Column(
        label="declined",
        kind="count",
        meaning="how often it refused, its privacy budget being spent",
    ),
    "failed": Column(label="failed", kind="count", meaning="how often its training broke off"),
    "dropped": Column(label="dropped", kind="count", meaning="how often its answer was lost"),
    "dishonest": Column(label="dishonest", kind="truth", meaning="told to attack"),
    "sample_rate": Column(
        label="sampling rate",
        meaning="chance of a training record to be in a batch, or, where whole clients are "
        "protected, of a client to be asked in a round",
    ),
    "noise_multiplier": Column(
        label="noise", meaning="standard deviation of the noise, in multiples of the clipping bound"
    ),
    "epsilon": Column(label="ε", meaning="privacy spent; smaller is more private"),
    "accuracy": Column(label="accuracy", kind="percent"),
    "loss": Column(label="loss"),
}


def clients(data: ReportData) -> Section | None:
    """The spread of accuracy over clients, now and by round."""
    blocks: list[Block] = []
    accuracy = data.client_accuracy
    if len(accuracy) > 1:
        blocks += [
            "The shared model meets different records at each client. An average hides who is "
            "served badly, so here is everyone.",
            _now(data, accuracy),
        ]
    by_round = data.rows("accuracy", scope="client", key=None)
    if len(accuracy) >= ENOUGH and by_round["round"].nunique() > 1:
        blocks.append(_by_round(by_round))
    if measured := {n: metric(n) for n in EVENNESS if not math.isnan(data.value(n))}:
        blocks.append(
            Table(
                caption=f"Evenness of accuracy over clients, round {data.last_round}",
                columns=[
                    Column(label="measure", kind="text"),
                    Column(label="value", kind="written"),
                ],
                rows=[[m.label, write(data.value(n), m.kind)] for n, m in measured.items()],
                terms=[(m.label, m.meaning) for m in measured.values()],
            )
        )
    if len(data.clients):
        blocks.append(_table(data))
    return Section(title="Clients", blocks=blocks) if blocks else None


def _now(data: ReportData, accuracy: DataFrame) -> Figure:
    caption = "The same model, at every client's own records."
    if "num_test" in data.clients and data.split == "test" and len(accuracy) <= FEW:
        accuracy = accuracy.merge(data.clients[["client", "num_test"]], on="client")
        ends = [_wilson(v, n) for v, n in zip(accuracy.value, accuracy.num_test)]
        accuracy["low"], accuracy["high"] = zip(*ends)
        accuracy = accuracy.drop(columns="num_test")
        caption += " Bars: what chance alone would allow with so few records (95% Wilson interval)."
    marks = {"all records": data.value("accuracy")}
    if not math.isnan(worst := data.value("accuracy_worst_decile")):
        marks["worst tenth"] = worst
    return spread(
        accuracy, "accuracy", title="Accuracy at each client", caption=caption, marks=marks
    )


def _by_round(rows: DataFrame) -> Figure:
    table = quantiles(thinned(rows))
    last = table.iloc[-1]
    return Figure(
        title="Accuracy over clients by round",
        spec=charts.specification(charts.bands(table, kind="percent")),
        description=f"In the last round the median client has {write(last['median'], 'percent')}, "
        f"the middle 80% lie between {write(last.low, 'percent')} and {write(last.high, 'percent')}.",
        caption="Line: the median client. Dark band: the middle 80% of clients. Light: all.",
    )


def _wilson(share: float, number: float) -> tuple[float, float]:
    """95 % interval of a share of `number` records (Wilson, JASA 1927)."""
    if not number > 0:
        return math.nan, math.nan
    z = 1.959964
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = (
        z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + (z / (2 * number)) ** 2)
    )
    return centre - half, centre + half


def _table(data: ReportData) -> Table:
    table, note = data.clients, ""
    shown = [name for name in COLUMNS if name in table and table[name].notna().any()]
    shown = [name for name in shown if name not in RARE or table[name].fillna(0).astype(bool).any()]
    caption = f"All {len(table):,} clients"
    if len(table) > LISTED:
        by = "accuracy" if "accuracy" in shown else shown[0]
        table = table.sort_values(by).head(LISTED)
        caption = f"{LISTED} of {len(data.clients):,} clients, those with the lowest {by}"
        note = "The run folder's clients.parquet has them all."
    return Table(
        caption=caption,
        columns=[COLUMNS[name] for name in shown],
        rows=table[shown].values.tolist(),
        folded=True,
        sortable=True,
        note=note,
    )
