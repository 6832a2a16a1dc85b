"""How all charts of the report look: colours, axes, tooltips, and the rows that they draw.

Colours are CSS variables (`var(--c1)`, ...), which the page defines for light, dark and print: the
browser resolves them, so a chart follows the reader's theme without being drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
from pandas import DataFrame

from fedmodel.runs.words import Kind

__all__ = [
    "ACCENT",
    "COLOURS",
    "CONFIG",
    "DASHES",
    "INK",
    "QUIET",
    "TOOLTIP",
    "VEGA_LITE",
    "axis",
    "colour",
    "line_tip",
    "round_axis",
    "rows",
    "tip",
    "unit",
    "value_axis",
]

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])  # what altair writes for
COLOURS = [f"var(--c{slot})" for slot in range(1, 8)]
DASHES = [[1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [1, 0], [7, 3], [2, 2]]
INK, QUIET, GRID, ACCENT = "var(--ink)", "var(--quiet)", "var(--line)", "var(--c1)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": GRID,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "titlePadding": 8,
    },
    "axisX": {
        "grid": False,
        "tickColor": GRID,
        "ticks": True,
        "domain": True,
        "domainColor": GRID,
        "labelSeparation": 8,
    },
    "legend": {
        "orient": "top",
        "labelColor": INK,
        "labelFontSize": 12,
        "title": None,
        "symbolStrokeWidth": 2.5,
        "symbolSize": 140,
        "columnPadding": 14,
        "offset": 8,
    },
    "line": {"strokeWidth": 2, "strokeJoin": "round"},
    "text": {"color": INK, "fontSize": 12},
}

# How a kind of value is written on an axis and in a tooltip (d3-format).
_AXIS: dict[Kind, str] = {"percent": "~%"}
TOOLTIP: dict[Kind, str] = {"percent": ".1%", "points": ".1f", "count": ",d"}


def rows(frame: DataFrame, kind: Kind, *, columns: Sequence[str] = ("value",)) -> alt.InlineData:
    """The frame as JSON rows of few digits; what is not finite becomes null and is not drawn."""
    values = []
    for row in frame.to_dict("records"):
        for name in columns:
            row[name] = _scaled(row[name], kind)
        values.append({str(name): _plain(value) for name, value in row.items()})
    return alt.InlineData(values=values)


def _scaled(value: float, kind: Kind) -> float:
    return 100 * value if kind == "points" else value


def _plain(value: object) -> object:
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return str(value)


def colour(
    series: Sequence[str],
    *,
    legend: bool,
    field: str = "series",
    colours: Sequence[str] = COLOURS,
) -> alt.Color:
    """Colours for a series' values, in their order; a legend only where it tells something."""
    colour = alt.Color(f"{field}:N", scale=alt.Scale(domain=list(series), range=list(colours)))
    return colour if legend and len(series) > 1 else colour.legend(None)


def round_axis() -> alt.X:
    """The horizontal axis of whatever goes by rounds."""
    axis = alt.Axis(tickMinStep=1, tickCount=6)
    return alt.X("round:Q", title="round", axis=axis).scale(nice=False)


def value_axis(kind: Kind, *, zero: bool = False, field: str = "value") -> alt.Y:
    """The vertical axis; the figure's heading says what it is, so that only a unit is left."""
    return alt.Y(f"{field}:Q", title=unit(kind), axis=axis(kind)).scale(
        zero=zero or kind == "points"
    )


def unit(kind: Kind) -> str | None:
    """What an axis has to say beyond the figure's heading."""
    return "percentage points" if kind == "points" else None


def axis(kind: Kind, **options) -> alt.Axis:
    """An axis that writes a kind of value."""
    return alt.Axis(format=_AXIS.get(kind, ",~f"), tickCount=5, **options)


def tip(field: str, kind: Kind, title: str) -> alt.Tooltip:
    """A tooltip's line for a kind of value."""
    return alt.Tooltip(f"{field}:Q", format=TOOLTIP.get(kind, ".3g"), title=title)


def line_tip(kind: Kind, title: str, heading: str = "line") -> list[alt.Tooltip]:
    """The tooltip of a line's point: which line, which round, which value."""
    return [
        alt.Tooltip("series:N", title=heading),
        alt.Tooltip("round:Q"),
        tip("value", kind, title),
    ]
