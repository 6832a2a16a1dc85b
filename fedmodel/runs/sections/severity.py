"""Accuracy on worse records: by how much worse they are, for all and for each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
from pandas import DataFrame, concat

from fedmodel.runs import charts, style
from fedmodel.runs.page import Block, Figure
from fedmodel.runs.sections.common import course
from fedmodel.runs.words import write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["severity"]

KINDS = {
    "feature_noise": (
        "Accuracy with noise on the features",
        "standard deviation of the noise",
        "Normal noise on every numeric feature as the model reads it.",
    ),
    "missing_features": (
        "Accuracy with features missing",
        "share of features that are missing",
        "Features drawn at random are encoded as missing.",
    ),
    "typos": (
        "Accuracy with misspelt words",
        "share of words that are misspelt",
        "A misspelt word counts as any other word.",
    ),
}
NAME = r"^accuracy\[(\w+)=(.+)\]$"
MOST = 7  # lines in one chart
EVERYBODY = "all records"


def severity(data: ReportData) -> list[Block]:
    """A curve for each kind in the last round, and its course where it was tried in several."""
    table = data.metrics[data.metrics.metric.str.startswith("accuracy[")]
    if not len(table):
        return []
    parts = table.metric.str.extract(NAME).set_axis(["kind", "level"], axis=1)
    table = table.assign(kind=parts.kind, level=parts.level.astype(float))
    blocks: list[Block] = [
        "And on records that are worse than those it was trained for? Test records were changed before "
        "the model read them, the same way in every round; level 0 is the records as they are."
    ]
    for kind in [kind for kind in KINDS if kind in set(table.kind)]:
        own = table[table.kind.eq(kind)]
        blocks.append(_curve(data, own, kind))
        if own["round"].nunique() > 1:
            blocks.append(_course(data, own, kind))
    return blocks


def _curve(data: ReportData, table: DataFrame, kind: str) -> Figure:
    last = int(table["round"].max())
    table = table[table["round"].eq(last) & table.key.str.count("=").le(1)]
    usual = [data.rows("accuracy"), data.rows("accuracy", scope="group", key=None)]
    usual = [rows[rows["round"].eq(last) & rows.key.str.count("=").le(1)] for rows in usual]
    frame = concat([*(rows.assign(level=0.0) for rows in usual), table])
    frame = frame.assign(series=frame.key.replace("", EVERYBODY)).dropna(subset=["value"])
    frame = frame[["level", "series", "value"]].sort_values("level", kind="stable")
    series = list(dict.fromkeys([EVERYBODY, *frame.series]))[:MOST]
    title, axis, caption = KINDS[kind]
    worst = frame[frame.level.eq(frame.level.max())].set_index("series").value
    return Figure(
        title=title,
        spec=charts.specification(_by_level(frame, series=series, axis=axis)),
        description=f"At {axis} {frame.level.max():g}: "
        + ", ".join(f"{name} {write(worst[name], 'percent')}" for name in series if name in worst)
        + ".",
        caption=f"{caption} After round {last}.",
    )


def _by_level(frame: DataFrame, *, series: list[str], axis: str) -> charts.Drawn:
    base = alt.Chart(style.rows(frame[frame.series.isin(series)], "percent")).encode(
        x=alt.X("level:Q", title=axis, axis=alt.Axis(tickCount=6)),
        y=style.value_axis("percent"),
        color=style.colour(series, legend=True),
        tooltip=[
            alt.Tooltip("series:N", title="records"),
            alt.Tooltip("level:Q"),
            style.tip("value", "percent", "accuracy"),
        ],
    )
    layers = alt.layer(base.mark_line(), base.mark_point(filled=True, size=50, opacity=1))
    return layers.properties(width="container", height=250)


def _course(data: ReportData, table: DataFrame, kind: str) -> Figure:
    frame = table[table.scope.eq("global")]
    names = {level: f"level {level:g}" for level in sorted(set(frame.level))[-MOST + 1 :]}
    frame = frame[frame.level.isin(list(names))].assign(series=frame.level.map(names))
    rounds = set(frame["round"])
    usual = data.rows("accuracy").assign(series="level 0")
    return course(
        concat([usual[usual["round"].isin(rounds)], frame]),
        "accuracy",
        series=["level 0", *names.values()],
        title=f"{KINDS[kind][0]}, by round",
        caption="Of all records.",
    )
