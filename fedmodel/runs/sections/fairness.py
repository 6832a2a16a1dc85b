"""Fairness: the groups side by side, the gaps by round, and each client's own gap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pandas import DataFrame

from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Section, Table
from fedmodel.runs.sections.common import course, spread
from fedmodel.runs.words import listed, metric, write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["fairness"]

RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
GAPS = ("demographic_parity_difference", "equalized_odds_difference", "accuracy_difference")
RATIOS = ("demographic_parity_ratio", "equalized_odds_ratio")
CROWDED = 24  # groups in one chart


def fairness(data: ReportData) -> Section | None:
    """Two levels: groups over all records, and the gap within each client."""
    groups: list[Block] = [f for name in RATES if (f := _groups(data, name))]
    gaps: list[Block] = [f for name in GAPS if (f := _gap_by_round(data, name))]
    own: list[Block] = [f for name in GAPS[:2] if (f := _gap_at_clients(data, name))]
    tables: list[Block] = [
        t for t in (_table(data), _interval_table(data), _group_table(data)) if t
    ]
    if not (groups or gaps or own or tables):
        return None
    blocks: list[Block] = [
        "Does the model serve the groups of people in the data alike? Groups are compared over the "
        "records of all clients, and again within each client, because a model can be even-handed "
        "over all records and yet not at any one client. Which difference is unjust depends on the "
        "decision at hand; no number answers that."
    ]
    blocks += [*groups, *tables]
    if gaps:
        blocks += ["The same differences round by round; 0 is equal:", *gaps]
    if own:
        blocks += ["And within each client, after the last round:", *own]
    return Section(title="Fairness", blocks=blocks)


def _groups(data: ReportData, name: str) -> Figure | None:
    """A rate for each group of each attribute in the last round."""
    rows = _last(data, name)
    rows = rows[rows.key.str.count("=").eq(1)].head(CROWDED)
    if not rows.value.notna().any():
        return None
    what, series = metric(name), rows.key.str.split("=").str[0]
    chart = charts.dots(
        rows.assign(name=rows.key, series=series)[["name", "value", "series"]],
        kind=what.kind,
        title=what.label,
        heading="group",
        rule=data.value(name),
        colour_by=list(dict.fromkeys(series)),
        zero=name != "accuracy",
    )
    rates = (f"{key} {write(value, what.kind)}" for key, value in zip(rows.key, rows.value))
    overall = "" if math.isnan(data.value(name)) else " Dashed: all records."
    return Figure(
        title=f"{what.label.capitalize()} by group",
        spec=charts.specification(chart),
        description=f"{listed(rates)}.",
        caption=f"{what.meaning.capitalize()}.{overall}",
    )


def _last(data: ReportData, name: str) -> DataFrame:
    """The groups' values in the last round, combinations of attributes too."""
    rows = data.rows(name, scope="group", key=None)
    return rows[rows["round"].eq(rows["round"].max()) & rows.key.str.contains("=")]


def _group_table(data: ReportData) -> Table | None:
    """Every group and combination of groups, with its size: rates of few records say little."""
    columns = {name: _last(data, name).set_index("key").value for name in ("num_records", *RATES)}
    shown = [name for name, column in columns.items() if len(column)]
    groups = list(dict.fromkeys(key for column in columns.values() for key in column.index))
    if not groups:
        return None
    return Table(
        caption="All groups and their combinations" if len(data.attributes) > 1 else "All groups",
        columns=[
            Column(label="group", kind="text"),
            *(Column(label=metric(name).label, kind=metric(name).kind) for name in shown),
        ],
        rows=[[group, *(columns[name].get(group) for name in shown)] for group in groups],
        folded=True,
        sortable=True,
        note="A rate is not defined where a group has no records to take it over.",
    )


def _gap_by_round(data: ReportData, name: str) -> Figure | None:
    gaps = data.gaps(name).rename(columns={"attribute": "series"})
    if gaps["round"].nunique() < 2 or not gaps.value.notna().any():
        return None
    what = metric(name)
    return course(
        gaps,
        name,
        series=list(dict.fromkeys(gaps.series)),
        title=what.label.capitalize(),
    )


def _gap_at_clients(data: ReportData, name: str) -> Figure | None:
    own = data.by_client(name).dropna()
    if len(own) < 2:
        return None
    what = metric(name)
    return spread(
        own,
        name,
        title=f"{what.label.capitalize()} within each client",
        caption="Groups with few records at a client make its gap large by chance alone.",
        marks={"over all records": data.value(name), "median client": own.value.median()},
    )


def _table(data: ReportData) -> Table | None:
    """All gaps and ratios of the last round, an attribute a row."""
    last = {}
    for name in (*GAPS, *RATIOS):
        gaps = data.gaps(name)
        last[name] = gaps[gaps["round"].eq(gaps["round"].max())].set_index("attribute").value
    attributes = list(dict.fromkeys(a for column in last.values() for a in column.index))
    shown = [name for name, column in last.items() if len(column)]
    if not attributes:
        return None
    return Table(
        caption=f"Differences and ratios between groups, round {data.last_round}",
        columns=[
            Column(label="attribute", kind="text"),
            *(Column(label=m.label, kind=m.kind, meaning=m.meaning) for m in map(metric, shown)),
        ],
        rows=[[a, *(last[name].get(a) for name in shown)] for a in attributes],
    )


def _interval_table(data: ReportData) -> Table | None:
    """Between which bounds each gap of the last round lies, where counts were noised."""
    rows = []
    for name in GAPS:
        ends = [data.gaps(name + end) for end in ("", "_low", "_high")]
        gap, low, high = (
            e[e["round"].eq(data.last_round)].set_index("attribute").value for e in ends
        )
        label = metric(name).label
        rows += [[label, a, gap.get(a), low[a], high.get(a)] for a in low.dropna().index]
    if not rows:
        return None
    return Table(
        caption=f"How sure the differences are: 95% intervals, round {data.last_round}",
        columns=[
            Column(label="difference", kind="text"),
            Column(label="attribute", kind="text"),
            Column(label="as counted", kind="points"),
            Column(label="at least", kind="points"),
            Column(label="at most", kind="points"),
        ],
        rows=rows,
        note="Both the noise in the counts and the number of records are allowed for. Noise draws "
        "groups apart, so a difference as counted is too large on average.",
    )
