"""What several sections need: fewer points, quantiles over clients, and the figures they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pandas import DataFrame

from fedmodel.runs import charts
from fedmodel.runs.page import Figure
from fedmodel.runs.words import MODELS, Kind, listed, metric, write

__all__ = [
    "FEW",
    "MANY",
    "course",
    "course_of_means",
    "dots_of_means",
    "flat",
    "heading",
    "model_name",
    "quantiles",
    "spread",
    "thinned",
]

FEW = 40  # up to here each client is drawn by name
MANY = 100  # above, charts show quantiles instead of one line a client
POINTS = 300  # rounds drawn at most


def thinned(frame: DataFrame, *, most: int = POINTS, keep: int | None = None) -> DataFrame:
    """The frame at no more than `most` evenly spaced rounds, with the first, the last and `keep`."""
    rounds = np.unique(frame["round"])
    if len(rounds) <= most:
        return frame
    kept = rounds[np.linspace(0, len(rounds) - 1, most).round().astype(int)]
    return frame[frame["round"].isin({*kept.tolist(), keep})]


def quantiles(frame: DataFrame) -> DataFrame:
    """How `value` spreads in each round: columns round, lowest, low, median, high, highest.

    Each is the value of a client, none lies between two: one may be infinite.
    """
    by_round = frame.dropna(subset=["value"]).groupby("round").value
    shares = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    table = by_round.quantile(shares, interpolation="nearest").unstack()
    return table.set_axis(["lowest", "low", "median", "high", "highest"], axis=1).reset_index()


def course(
    frame: DataFrame,
    name: str,
    *,
    series: Sequence[str],
    title: str,
    caption: str = "",
    ring: int | None = None,
    zero: bool = False,
) -> Figure:
    """A metric by round, one line a series; `frame` has the columns round, series, value."""
    what = metric(name)
    ends = frame.dropna(subset=["value"]).sort_values("round").groupby("series").value.last()
    chart = charts.lines(
        thinned(frame, keep=ring)[["round", "series", "value"]],
        series=series,
        kind=what.kind,
        title=what.label,
        ring=ring,
        zero=zero,
    )
    return Figure(
        title=title,
        spec=charts.specification(chart),
        description="In the last round: "
        + ", ".join(f"{s} {write(ends[s], what.kind)}" for s in series if s in ends)
        + ".",
        caption=caption,
    )


def course_of_means(frame: DataFrame, name: str, *, series: Sequence[str], of: str) -> Figure:
    """A metric's mean by round, one line a series in the band of its interval.

    `frame` has the columns round, series, value, low, high; `of` says what the mean is of.
    """
    what = metric(name)
    ends = frame.sort_values("round").groupby("series").value.last()
    chart = charts.ribbons(
        thinned(frame)[["round", "series", "value", "low", "high"]],
        series=series,
        kind=what.kind,
        title=what.label,
    )
    return Figure(
        title=f"{heading(what.label)} by round",
        spec=charts.specification(chart),
        description="In the last round: "
        + ", ".join(f"{s} {write(ends[s], what.kind)}" for s in series)
        + ".",
        caption=f"Line: {of}. Band: its 95% interval." if frame.low.notna().any() else "",
    )


def dots_of_means(
    frame: DataFrame, *, title: str, label: str, kind: Kind, name: str, zero: bool, of: str
) -> Figure:
    """A mean of each name, the bar of its interval behind it; `of` says what the mean is of.

    `frame` has the columns name, value, and perhaps low and high; `name` says what the names are.
    """
    chart = charts.dots(frame, kind=kind, title=label, heading=name, zero=zero)
    several = "low" in frame and frame.low.notna().any()
    return Figure(
        title=title,
        spec=charts.specification(chart),
        description=listed(f"{n} {write(v, kind)}" for n, v in zip(frame.name, frame.value)) + ".",
        caption=f"Dot: {of}. Bar: its 95% interval." if several else "",
    )


def spread(
    frame: DataFrame, name: str, *, title: str, caption: str, marks: Mapping[str, float]
) -> Figure:
    """A metric over clients, worst last: a named dot each, or a histogram of more than a few.

    `frame` has the columns client, value, and perhaps low and high; the first mark is a rule.
    """
    what = metric(name)
    frame = frame.dropna(subset=["value"]).sort_values("value", ascending=False)
    if len(frame) <= FEW:
        chart = charts.dots(
            frame.rename(columns={"client": "name"}),
            kind=what.kind,
            title=what.label,
            heading="client",
            rule=next(iter(marks.values()), None),
        )
        first = next(iter(marks), "")
        caption = f"{caption} Dashed: {first}." if first else caption
    else:
        chart = charts.histogram(
            frame.value.tolist(), kind=what.kind, title=what.label, marks=marks
        )
    low, middle, high = frame.value.quantile([0.0, 0.5, 1.0])
    return Figure(
        title=title,
        spec=charts.specification(chart),
        description=f"{len(frame)} clients: lowest {write(low, what.kind)}, median "
        f"{write(middle, what.kind)}, highest {write(high, what.kind)}.",
        caption=caption.strip(),
        wide=12 < len(frame) <= FEW,
    )


def heading(label: str) -> str:
    """A label with a capital, as it stands over a figure.

    >>> heading("worst tenth of clients"), heading("AUC")
    ('Worst tenth of clients', 'AUC')
    """
    return label[:1].upper() + label[1:]


def model_name(model: str) -> str:
    """A model as the reader knows it."""
    return MODELS[model][0] if model in MODELS else model


def flat(tree: Mapping, prefix: str = "") -> list[tuple[str, str | tuple[str, ...]]]:
    """A nested mapping as pairs of dotted name and text."""
    pairs: list[tuple[str, str | tuple[str, ...]]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            pairs += flat(value, f"{name} · ")
        elif isinstance(value, list | tuple):
            pairs.append((name, tuple(map(str, value)) or ("none",)))
        elif isinstance(value, bool):
            pairs.append((name, write(value, "truth")))
        elif isinstance(value, float):
            pairs.append((name, f"{value:.6g}"))
        elif value is not None:
            pairs.append((name, str(value)))
    return pairs
