"""The page of a comparison: a sentence, tables and curves, in the look of the report."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from fedmodel.runs import charts
from fedmodel.runs.comparison import COMPARED, Comparison, explained
from fedmodel.runs.page import Block, Column, Figure, Page, Section, Table
from fedmodel.runs.sections.common import thinned, within
from fedmodel.runs.words import Kind, listed, metric, write

__all__ = ["write_comparison"]

CURVES = ("accuracy", "loss", "demographic_parity_difference", "equalized_odds_difference")


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write the page to `path` and return it."""
    blocks: list[Block] = [_results(found)]
    blocks += [f for f in (_dots(found, name) for name in ("accuracy", "epsilon", "seconds")) if f]
    curves: list[Block] = [f for f in (_course(found, name) for name in CURVES) if f]
    sections = [
        Section(title="Side by side", blocks=blocks),
        Section(title="Differences", blocks=[_differences(found)]),
    ]
    if curves:
        sections.append(Section(title="Round by round", blocks=curves))
    sections.append(Section(title="Settings that differ", blocks=[_settings(found)]))
    first, *others = found.runs
    page = Page(
        title="Comparison",
        about=[f"{listed(others)} against {first}"],
        headline=_headline(found),
        notes=found.notes,
        sections=sections,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(), encoding="utf-8")
    return path


def _headline(found: Comparison) -> str:
    rows = found.differences[found.differences.metric == "accuracy"].dropna(subset=["difference"])
    clauses = []
    for row in rows.to_dict("records"):
        more = "more" if row["difference"] >= 0 else "less"
        clause = f"{row['run']} has {write(abs(row['difference']), 'points')} {more} accuracy"
        if not math.isnan(row["low"]):
            clause += f" (95% interval of the difference {_span(row['low'], row['high'])})"
        clauses.append(clause)
    if not clauses:
        return "The runs have no accuracy in common."
    return f"Held against {found.runs[0]}: {'; '.join(clauses)}."


def _span(low: float, high: float) -> str:
    return f"{write(low, 'points').removesuffix(' points')} to {write(high, 'points')}"


def _results(found: Comparison) -> Table:
    names = [name for name in COMPARED if found.table[name].notna().any()]
    columns = [
        Column(label="run", kind="text"),
        Column(label="seeds", kind="count"),
        *(Column(label=metric(n).label, kind="written", meaning=metric(n).meaning) for n in names),
        Column(label="largest ε", kind="written"),
        Column(label="seconds", kind="number"),
    ]
    rows: list[list[object]] = []
    for row in found.table.to_dict("records"):
        cells = []
        for name in names:
            kind, value = metric(name).kind, row[name]
            half = row[f"{name}_high"] - value
            cells.append(
                write(value, kind) + ("" if math.isnan(half) else f" ± {write(half, kind)}")
            )
        spent = "none" if math.isnan(row["epsilon"]) else write(row["epsilon"])
        rows.append([row["run"], row["seeds"], *cells, spent, row["seconds"]])
    return Table(
        caption="The shared models after the last round, on the test records",
        columns=columns,
        rows=rows,
        note="Of several seeds the mean, ± half its 95% t-interval; epsilon is the largest of a client "
        "and a single run, seconds the mean of a run.",
    )


def _differences(found: Comparison) -> Table:
    rows = []
    for row in found.differences.to_dict("records"):
        what = metric(row["metric"])
        kind: Kind = "points" if what.kind == "percent" else what.kind
        values = [write(row[end], kind) for end in ("difference", "low", "high")]
        bounds = ["–", "–"] if math.isnan(row["low"]) else values[1:]
        rows.append([row["run"], what.label, values[0], *bounds, row["how"]])
    return Table(
        caption=f"Difference from {found.runs[0]}",
        columns=[
            Column(label="run", kind="text"),
            Column(label="measure", kind="text"),
            *(
                Column(label=label, kind="written")
                for label in ("difference", "at least", "at most")
            ),
            Column(label="interval", kind="text"),
        ],
        rows=rows,
        terms=explained(found),
        note="Each 95% interval holds by itself; of many, about one in twenty misses. An interval over "
        "seeds allows for what seeds draw, one over records for which records there are.",
    )


def _dots(found: Comparison, name: str) -> Figure | None:
    if not found.table[name].notna().any():
        return None
    label, kind = {"epsilon": "largest ε", "seconds": "seconds"}.get(name), metric(name).kind
    label = label or metric(name).label
    frame = found.table.rename(columns={"run": "name", name: "value"})[["name", "value"]]
    caption = ""
    if found.table.get(f"{name}_low", pd.Series([math.nan])).notna().any():
        frame["low"], frame["high"] = found.table[f"{name}_low"], found.table[f"{name}_high"]
        caption = "Dot: mean over seeds. Bar: its 95% interval."
    chart = charts.dots(
        frame, kind=kind, title=label, heading="run", zero=name in ("epsilon", "seconds")
    )
    return Figure(
        title=label[:1].upper() + label[1:],
        spec=charts.specification(chart),
        description=listed(f"{n} {write(v, kind)}" for n, v in zip(frame.name, frame.value)) + ".",
        caption=caption,
    )


def _course(found: Comparison, name: str) -> Figure | None:
    rows = found.curves[found.curves.metric == name].dropna(subset=["value"])
    if rows["round"].nunique() < 2:
        return None
    what = metric(name)
    frame = thinned(rows.rename(columns={"run": "series"}))
    series = [run for run in found.runs if run in set(frame.series)]
    frame = within(frame[["round", "series", "value", "low", "high"]], name)
    chart = charts.ribbons(frame, series=series, kind=what.kind, title=what.label)
    ends = frame.sort_values("round").groupby("series").value.last()
    return Figure(
        title=f"{what.label[:1].upper()}{what.label[1:]} by round",
        spec=charts.specification(chart),
        description="In the last round: "
        + ", ".join(f"{s} {write(ends[s], what.kind)}" for s in series)
        + ".",
        caption="Of several seeds the mean, in the band of its 95% interval."
        if frame.low.notna().any()
        else "",
    )


def _settings(found: Comparison) -> Block:
    if not len(found.settings):
        return "The runs have the same settings."
    return Table(
        caption="Keys of the experiments that are not the same",
        columns=[Column(label=str(column), kind="text") for column in found.settings.columns],
        rows=found.settings.to_numpy().tolist(),
        note="– where a run leaves the key out.",
    )
