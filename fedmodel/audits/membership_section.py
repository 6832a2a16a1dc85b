"""The report's section on membership inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pandas import DataFrame

from fedmodel.audits.charts import roc as roc_chart
from fedmodel.audits.scores import ATTACKS
from fedmodel.audits.watching import POSITIONS
from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Listing, Section, Table
from fedmodel.runs.words import write

__all__ = ["section"]

MOST = 40  # clients drawn by name
RATES = {"tpr_at_0.001": "0.1%", "tpr_at_0.01": "1%", "tpr_at_0.1": "10%"}


def section(
    table: DataFrame,
    roc: DataFrame,
    groups: DataFrame,
    *,
    shadows: int,
    last: int,
    notes: Sequence[str],
) -> Section:
    """What the attacks reached, by position; who is exposed most."""
    blocks: list[Block] = [
        "An attacker who holds a record asks whether it was trained on. It has trained "
        f"{shadows} federations like this one, each on a random half of every client's records, and "
        "compares. A record's signal is how sure the models are of its label, averaged over the last "
        f"{last} round{'s' * (last > 1)}. An AUC of 0.5 is guessing. What matters more is how many "
        "members are found while hardly anybody is accused wrongly.",
        *(f"{name.capitalize()}: {what}." for name, what in POSITIONS.items()),
        _table(table),
        *(_roc(roc, position, table) for position in POSITIONS),
        "Who is more exposed? For each record: the chance that a model trained with it gives it a "
        "higher score than one trained without it. 0.5 is no exposure. Bars: 95% interval of the mean.",
        *_exposed(groups),
    ]
    if notes:
        blocks.append(Listing(caption="Read this with care", items=notes, weight="caution"))
    return Section(title="Membership inference", blocks=blocks)


def _table(table: DataFrame) -> Table:
    rows = [
        (
            row["of"],
            row["position"],
            row["attack"],
            row["members"],
            row["non_members"],
            _area(row),
            *(_rate(row[name]) for name in RATES),
        )
        for row in table.to_dict("records")
    ]
    return Table(
        caption="Members found at a false positive rate",
        columns=[
            Column(label="attacked", kind="text"),
            Column(label="position", kind="text"),
            Column(label="attack", kind="text"),
            Column(label="members", kind="count"),
            Column(label="others", kind="count"),
            Column(label="AUC", kind="written", meaning="for this run with its 95% interval"),
            *(Column(label=f"at {rate}", kind="written") for rate in RATES.values()),
        ],
        rows=rows,
        terms=list(ATTACKS.items()),
        note="“Runs like it” are the shadow federations, each attacked with the help of the others. "
        "A rate stands where its false alarms would be 10 at least.",
    )


def _area(row: dict) -> str:
    if np.isnan(row["auc_error"]):
        return f"{row['auc']:.3f}"
    return f"{row['auc']:.3f} ± {1.96 * row['auc_error']:.3f}"


def _rate(value: float) -> str:
    return "not measurable here" if np.isnan(value) else write(value, "percent")


def _roc(roc: DataFrame, position: str, table: DataFrame) -> Figure:
    own = roc[(roc.position == position) & (roc.of == "runs like it")]
    frame = own.rename(columns={"attack": "series"})[["series", "false", "true"]]
    areas = table[(table.position == position) & (table.of == "runs like it")]
    told = ", ".join(f"{row.attack} {row.auc:.3f}" for row in areas.itertuples())
    return Figure(
        title=f"ROC of the {position}",
        spec=charts.specification(roc_chart(frame, series=list(ATTACKS))),
        description=f"Areas under the curves: {told}.",
        caption="Of runs like this one, on logarithmic axes. Dashed: guessing.",
    )


def _exposed(groups: DataFrame) -> list[Figure]:
    """The exposure of groups, and of clients, to the server."""
    figures = []
    own = groups[groups.position == "server"]
    for title, chosen in (
        ("Exposure by group", own[own.by != "client"]),
        ("Exposure by client", own[own.by == "client"]),
    ):
        if not len(chosen):
            continue
        names = chosen.name if title.endswith("client") else chosen.by + ": " + chosen.name
        frame = DataFrame(
            {"name": names, "value": chosen.exposure, "low": chosen.low, "high": chosen.high}
        ).sort_values("value", ascending=False, kind="stable")
        ends = f"{frame.name.iloc[0]} {frame.value.iloc[0]:.3f} to "
        ends += f"{frame.name.iloc[-1]} {frame.value.iloc[-1]:.3f}"
        chart = charts.dots(
            frame.head(MOST), kind="number", title="exposure", heading="whose", rule=0.5
        )
        figures.append(
            Figure(
                title=title,
                spec=charts.specification(chart),
                description=f"From {ends}.",
                caption="To the server. Dashed: no exposure."
                + (f" The {MOST} most exposed." if len(frame) > MOST else ""),
            )
        )
    return figures
