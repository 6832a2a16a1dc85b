"""Across clients: every client's own model at every client's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
from pandas import DataFrame

from fedmodel.runs import charts, style
from fedmodel.runs.page import Block, Column, Figure, Section, Table
from fedmodel.runs.words import write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["cross_site"]

SHARED = "global"
DRAWN = 60  # clients in a picture
WRITTEN = 16  # of so few each cell says its value
STRONGEST = 0.55  # opacity of a cell; a value on it stays legible


def cross_site(data: ReportData) -> Section | None:
    """How far a client's own model carries, and what it would gain by the shared one."""
    table = data.cross_site
    if table is None or not len(table):
        return None
    own = table[table.model.ne(SHARED)]
    home, away = own[own.model.eq(own.client)], own[own.model.ne(own.client)]
    shared = table[table.model.eq(SHARED)]
    blocks: list[Block] = [
        "Would a client do as well alone, or with a neighbour's model? Each client trained a model on "
        "its own records, and each model read the test records of every client.",
        _summary({"its own": home, "another client's": away, "the shared one": shared}),
    ]
    if own.client.nunique() <= DRAWN:
        blocks.append(_map(table))
    return Section(title="Across clients", blocks=blocks)


def _summary(parts: dict[str, DataFrame]) -> Table:
    rows = []
    for name, part in parts.items():
        low, mean, high = part.accuracy.min(), part.accuracy.mean(), part.accuracy.max()
        rows.append([name, mean, low, high])
    return Table(
        caption="Accuracy at a client of ...",
        columns=[
            Column(label="model", kind="text"),
            Column(label="mean over clients", kind="percent"),
            Column(label="lowest", kind="percent"),
            Column(label="highest", kind="percent"),
        ],
        rows=rows,
    )


def _map(table: DataFrame) -> Figure:
    names, shared = list(dict.fromkeys(table.client)), "the shared one"
    frame = table[["model", "client", "accuracy", "num_records"]]
    frame = frame.rename(columns={"accuracy": "value"}).dropna(subset=["value"])
    frame = frame.replace({"model": {SHARED: shared}})
    label = alt.Axis(labelColor=style.INK, labelLimit=120, ticks=False, labelOverlap=True)
    tilted = alt.Axis(
        labelColor=style.INK,
        labelLimit=120,
        ticks=False,
        labelOverlap=True,
        labelAngle=-40 if len(names) <= WRITTEN else -90,
    )
    base = alt.Chart(style.rows(frame, "percent")).encode(
        x=alt.X("client:N", sort=names, title="test records of", axis=tilted),
        y=alt.Y("model:N", sort=[*names, shared], title="model of", axis=label),
        tooltip=[
            "model:N",
            "client:N",
            style.tip("value", "percent", "accuracy"),
            style.tip("num_records", "count", "records"),
        ],
    )
    low, high = float(frame.value.min()), float(frame.value.max())
    shade = alt.Opacity(
        "value:Q",
        scale=alt.Scale(domain=[low, max(high, low + 1e-9)], range=[0.06, STRONGEST]),
    ).legend(None)
    layers = [base.mark_rect(color=style.ACCENT).encode(opacity=shade)]
    if len(names) <= WRITTEN:
        layers.append(
            base.mark_text(color=style.INK).encode(text=alt.Text("value:Q", format=".0%"))
        )
    best, worst = (frame.iloc[int(place)] for place in (frame.value.argmax(), frame.value.argmin()))
    chart = alt.layer(*layers).properties(width="container", height=26 * (len(names) + 1))
    return Figure(
        title="Accuracy of every model at every client",
        spec=charts.specification(chart),
        description=f"Highest: the model of {best.model} at {best.client}, "
        f"{write(best.value, 'percent')}; lowest: the model of {worst.model} at {worst.client}, "
        f"{write(worst.value, 'percent')}.",
        caption="A stronger colour is better. Rows are models, columns are whose test records they read.",
        wide=True,
    )
