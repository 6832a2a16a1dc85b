"""The report's charts, one function for each form of chart; all take the width of their container."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
from pandas import DataFrame

from fedmodel.runs import style
from fedmodel.runs.style import ACCENT, COLOURS, DASHES, INK, QUIET
from fedmodel.runs.words import Kind

__all__ = [
    "bands",
    "distances",
    "dots",
    "heat",
    "histogram",
    "lines",
    "ribbons",
    "specification",
    "stack",
    "threads",
    "with_level",
]

Drawn = alt.Chart | alt.LayerChart | alt.FacetChart
HEIGHT = 230  # of a chart whose rows do not say how high it is


def specification(chart: Drawn) -> dict:
    """A chart as Vega-Lite, checked against its schema; the page adds `CONFIG` once for all."""
    spec = chart.to_dict()
    return {key: part for key, part in spec.items() if key not in ("$schema", "config")}


def lines(
    frame: DataFrame,
    *,
    series: Sequence[str],
    kind: Kind,
    title: str,
    ring: int | None = None,
    zero: bool = False,
) -> Drawn:
    """Values by round, one line a series; a series with a single value is a level, not a line.

    `frame` has the columns round, series, value. A ring marks the first series at round `ring`.
    """
    counts = frame.series.value_counts()
    levels = frame[frame.series.map(counts).eq(1)] if frame["round"].nunique() > 1 else frame[:0]
    courses = frame.drop(levels.index)
    chosen = alt.selection_point(fields=["series"], bind="legend")
    look = {
        "color": style.colour(series, legend=True),
        "strokeDash": alt.StrokeDash("series:N", scale=alt.Scale(domain=list(series), range=DASHES)),
        "opacity": alt.when(chosen).then(alt.value(1.0)).otherwise(alt.value(0.12)),
        "tooltip": style.line_tip(kind, title),
        "y": style.value_axis(kind, zero=zero),
    }  # fmt: skip
    layers: list[alt.Chart] = [
        alt.Chart(style.rows(courses, kind))
        .mark_line()
        .encode(x=style.round_axis(), **look)
        .add_params(chosen),
        # Wide and unseen, so that a tooltip needs no steady hand.
        alt.Chart(style.rows(courses, kind))
        .mark_point(size=160, filled=True, opacity=0)
        .encode(x=style.round_axis(), y=look["y"], tooltip=look["tooltip"]),
    ]
    if len(levels):
        layers.append(alt.Chart(style.rows(levels, kind)).mark_rule(strokeWidth=2).encode(**look))
    best = frame[frame["round"].isin([ring]) & frame.series.eq(series[0])]
    if len(best):
        layers.append(
            alt.Chart(style.rows(best, kind))
            .mark_point(size=110, filled=False, strokeWidth=2, color=INK)
            .encode(x=style.round_axis(), y=look["y"], tooltip=look["tooltip"])
        )
    return _finish(alt.layer(*layers), height=250)


def ribbons(frame: DataFrame, *, series: Sequence[str], kind: Kind, title: str) -> Drawn:
    """Values by round, one line a series, each in the band of its interval.

    `frame` has the columns round, series, value, low, high.
    """
    colour = style.colour(series, legend=True)
    if len(series) > 1:  # of the lines: the bands are faint
        colour = colour.legend(symbolType="stroke", symbolOpacity=1)
    base = alt.Chart(style.rows(frame, kind, columns=["value", "low", "high"])).encode(
        x=style.round_axis()
    )
    tooltip = style.line_tip(kind, title)
    tooltip += [style.tip("low", kind, "at least"), style.tip("high", kind, "at most")]
    band = base.mark_area(opacity=0.2, tooltip=False).encode(
        y=style.value_axis(kind, field="low"), y2="high", color=colour
    )
    line = base.mark_line().encode(y=style.value_axis(kind), color=colour)
    points = base.mark_point(size=160, filled=True, opacity=0).encode(
        y=style.value_axis(kind), tooltip=tooltip
    )
    return _finish(alt.layer(band, line, points), height=250)


def threads(frame: DataFrame, *, kind: Kind, title: str, heading: str) -> Drawn:
    """Values by round for many alike: thin lines, of which the one pointed at stands out."""
    pointed = alt.selection_point(fields=["series"], on="pointerover", empty=False)
    base = alt.Chart(style.rows(frame, kind)).encode(
        x=style.round_axis(),
        y=style.value_axis(kind),
        detail="series:N",
        tooltip=style.line_tip(kind, title, heading),
    )
    line = base.mark_line().encode(
        color=alt.when(pointed).then(alt.value(INK)).otherwise(alt.value(ACCENT)),
        opacity=alt.when(pointed).then(alt.value(1.0)).otherwise(alt.value(0.4)),
        strokeWidth=alt.when(pointed).then(alt.value(3)).otherwise(alt.value(1.5)),
    )
    return _finish(alt.layer(line, base.mark_point(opacity=0, size=60).add_params(pointed)))


def bands(frame: DataFrame, *, kind: Kind) -> Drawn:
    """How a value spreads over clients, by round: all of them, the middle 80 %, the median.

    `frame` has the columns round, lowest, low, median, high, highest.
    """
    quantiles = ["lowest", "low", "median", "high", "highest"]
    base = alt.Chart(style.rows(frame, kind, columns=quantiles)).encode(x=style.round_axis())
    tooltip = [alt.Tooltip("round:Q"), *(style.tip(name, kind, name) for name in quantiles[::-1])]
    return _finish(
        alt.layer(
            base.mark_area(opacity=0.16, color=ACCENT).encode(
                y=style.value_axis(kind, field="lowest"), y2="highest"
            ),
            base.mark_area(opacity=0.3, color=ACCENT).encode(
                y=style.value_axis(kind, field="low"), y2="high"
            ),
            base.mark_line(color=ACCENT).encode(y=style.value_axis(kind, field="median")),
            base.mark_point(opacity=0, size=200, filled=True).encode(
                y=style.value_axis(kind, field="median"), tooltip=tooltip
            ),
        )
    )


def dots(
    frame: DataFrame,
    *,
    kind: Kind,
    title: str,
    heading: str,
    rule: float | None = None,
    zero: bool = False,
    colour_by: Sequence[str] = (),
) -> Drawn:
    """One dot a name, in the frame's order, its value beside it, with a bar from low to high.

    `frame` has the columns name, value, perhaps low and high, and `series` where `colour_by` names
    the values it takes. A rule stands at `rule`. What is not defined says so.
    """
    ends = [end for end in ("low", "high") if end in frame]
    base = alt.Chart(style.rows(frame, kind, columns=["value", *ends])).encode(
        y=alt.Y("name:N", title=None, axis=alt.Axis(labelColor=INK)).scale(domain=list(frame.name)),
        tooltip=[
            alt.Tooltip("name:N", title=heading),
            style.tip("value", kind, title),
            *(style.tip(end, kind, end) for end in ends),
        ],
    )
    scale = alt.Scale(zero=False, nice=True, padding=14)
    if zero or kind == "points":
        scale = alt.Scale(zero=True, nice=True)
    unit = style.unit(kind)
    x = alt.X("value:Q", title=unit, scale=scale, axis=style.axis(kind, grid=True))
    colour = style.colour(colour_by, legend=False) if colour_by else alt.value(ACCENT)
    layers: list[alt.Chart] = []
    if rule is not None and math.isfinite(rule):
        everyone = DataFrame({"value": [rule]})
        layers.append(
            alt.Chart(style.rows(everyone, kind))
            .mark_rule(strokeDash=[4, 3], color=QUIET)
            .encode(x=x, tooltip=[style.tip("value", kind, "all records")])
        )
    if ends:
        layers.append(
            base.mark_bar(height=5, cornerRadius=2.5, opacity=0.3).encode(
                x=alt.X("low:Q", title=unit, scale=scale), x2="high", color=colour
            )
        )
    layers.append(base.mark_point(filled=True, size=90, opacity=1).encode(x=x, color=colour))
    if len(frame) <= 24:
        layers.append(
            base.mark_text(dy=-11).encode(
                x=x, text=alt.Text("value:Q", format=style.TOOLTIP.get(kind, ".3g"))
            )
        )
    if frame.value.isna().any():
        undefined = base.transform_filter("datum.value === null").mark_text(
            align="left", color=QUIET
        )
        layers.append(undefined.encode(x=alt.value(4), text=alt.value("not defined")))
    return _finish(alt.layer(*layers), height=len(frame) * (34 if len(frame) <= 24 else 18))


def histogram(
    values: Sequence[float], *, kind: Kind, title: str, marks: Mapping[str, float]
) -> Drawn:
    """How many clients have which value; `marks` are named rules."""
    finite = np.asarray([value for value in values if math.isfinite(value)])
    counts, edges = np.histogram(finite, bins=min(30, max(8, round(len(finite) ** 0.5))))
    frame = DataFrame({"low": edges[:-1], "high": edges[1:], "clients": counts})
    unit = style.unit(kind)
    x_axis = alt.X("low:Q", bin="binned", title=unit, axis=style.axis(kind))
    bars = (
        alt.Chart(style.rows(frame, kind, columns=["low", "high"]))
        .mark_bar(color=ACCENT, opacity=0.75)
        .encode(
            x=x_axis.scale(zero=False),
            x2="high",
            y=alt.Y("clients:Q", title="clients", axis=alt.Axis(tickMinStep=1)),
            tooltip=[style.tip("low", kind, "from"), style.tip("high", kind, "to"), "clients:Q"],
        )
    )
    layers: list[alt.Chart] = [bars]
    for place, (name, value) in enumerate(marks.items()):
        base = alt.Chart(style.rows(DataFrame({"name": [name], "value": [value]}), kind)).encode(
            x=alt.X("value:Q", title=unit), tooltip=["name:N", style.tip("value", kind, title)]
        )
        height = -8 - 15 * place  # one above the other, so that near ones stay legible
        layers += [
            base.mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.5).encode(
                y=alt.value(height + 8), y2=alt.value(HEIGHT)
            ),
            base.mark_text(y=height).encode(text="name:N"),
        ]
    return _finish(alt.layer(*layers))


def stack(frame: DataFrame, *, classes: Sequence[str], named: bool, shares: bool = False) -> Drawn:
    """Records by client and class as stacked bars: named rows, or a skyline of many clients.

    `frame` has the columns client, order, class, count, share. With `shares` all are equally long.
    """
    chosen = alt.selection_point(fields=["class"], bind="legend")
    client = _in_order()
    value, title = ("share:Q", "share of records") if shares else ("count:Q", "records")
    axis = style.axis("percent" if shares else "count", grid=named)
    scale = alt.Scale(domain=[0, 1]) if shares else alt.Scale()
    kept = frame if shares else frame.drop(columns="share")
    ranked = kept.assign(rank=frame["class"].map(list(classes).index))
    chart = (
        alt.Chart(style.rows(ranked, "count", columns=["share"] if shares else []))
        .encode(
            color=style.colour(
                classes, legend=True, field="class", colours=_of_classes(len(classes))
            ),
            opacity=alt.when(chosen).then(alt.value(1.0)).otherwise(alt.value(0.15)),
            order=alt.Order("rank:Q"),
            tooltip=["client:N", "class:N", style.tip("count", "count", "records")],
        )
        .add_params(chosen)
    )
    if named:
        label = alt.Axis(labelColor=INK)
        bars = chart.mark_bar(height={"band": 0.7}).encode(
            x=alt.X(value, title=title, axis=axis, scale=scale),
            y=alt.Y("client:N", sort=client, title=None, axis=label),
        )
        return _finish(bars, height=26 * frame.client.nunique())
    bars = chart.mark_bar(width={"band": 1}).encode(
        y=alt.Y(value, title=title, axis=axis, scale=scale),
        x=alt.X("order:O", title="clients, largest first", axis=alt.Axis(labels=False, ticks=False))
        .scale(paddingInner=0, paddingOuter=0),
    )  # fmt: skip
    return _finish(bars)


def _in_order() -> alt.EncodingSortField:
    """Clients by their `order`; by default it would be added up over a client's classes."""
    return alt.EncodingSortField("order", op="min")


def _of_classes(number: int) -> list[str]:
    """Light and dark blue for two classes, which is calmer than two hues."""
    return [COLOURS[5], COLOURS[0]] if number == 2 else COLOURS


def heat(frame: DataFrame, *, classes: Sequence[str], named: bool) -> Drawn:
    """Each client's shares of many classes as darkness; columns are clients.

    `frame` has the columns client, order, class, count, share.
    """
    axis = alt.Axis(labels=named, ticks=False, labelAngle=-90, labelLimit=90, labelOverlap=True)
    chart = (
        alt.Chart(style.rows(frame, "count", columns=["share"]))
        .mark_rect(color=ACCENT, width={"band": 1}, height={"band": 0.94})
        .encode(
            x=alt.X("client:N", sort=_in_order(), title="clients", axis=axis),
            y=alt.Y("class:N", sort=list(classes), title=None),
            opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 1]))
            .legend(None),
            tooltip=["client:N", "class:N", style.tip("count", "count", "records"),
                     style.tip("share", "percent", "share")],
        )
    )  # fmt: skip
    return _finish(chart, height=len(classes) * (18 if len(classes) > 12 else 24))


def distances(frame: DataFrame, *, rows: Sequence[str], columns: Sequence[str]) -> Drawn:
    """Distances from 0 to 1 as darkness, a row a feature; `frame` has the columns row, column, value."""
    axis = alt.Axis(
        labels=len(columns) <= 40, ticks=False, labelAngle=-90, labelLimit=90, labelOverlap=True
    )
    chart = (
        alt.Chart(style.rows(frame, "percent"))
        .mark_rect(color=ACCENT, width={"band": 1}, height={"band": 0.94})
        .encode(
            x=alt.X("column:N", sort=list(columns), title=None, axis=axis),
            y=alt.Y("row:N", sort=list(rows), title=None, axis=alt.Axis(labelColor=INK)),
            opacity=alt.Opacity("value:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 1]))
            .legend(None),
            tooltip=["row:N", "column:N", style.tip("value", "percent", "distance")],
        )
    )  # fmt: skip
    return _finish(chart, height=len(rows) * (18 if len(rows) > 12 else 24))


def with_level(chart: Drawn, *, name: str, value: float, kind: Kind) -> Drawn:
    """The chart with a named level across it."""
    frame = DataFrame({"name": [name], "value": [value]})
    base = alt.Chart(style.rows(frame, kind)).encode(
        y=style.value_axis(kind), tooltip=["name:N", style.tip("value", kind, name)]
    )
    rule = base.mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.5)
    return chart + rule + base.mark_text(align="left", x=4, dy=12).encode(text="name:N")


def _finish(chart: Drawn, *, height: int = HEIGHT) -> Drawn:
    return chart.properties(width="container", height=height)
