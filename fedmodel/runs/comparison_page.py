"""The page of a comparison: a sentence, tables and curves, in the look of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmodel.runs.comparison import COMPARED, Comparison, explained
from fedmodel.runs.page import Block, Column, Figure, Page, Section, Table
from fedmodel.runs.sections.common import course_of_means, dots_of_means, heading
from fedmodel.runs.words import Kind, listed, metric, span, write

__all__ = ["write_comparison"]

OF = "mean over seeds, if there are several"
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
            clause += f" (95% interval of the difference {span(row['low'], row['high'], 'points')})"
        clauses.append(clause)
    if not clauses:
        return "The runs have no accuracy in common."
    return f"Held against {found.runs[0]}: {'; '.join(clauses)}."


def _results(found: Comparison) -> Table:
    """A line a measure, a column a run: these are mostly few."""
    sides = found.table.to_dict("records")
    names = [name for name in COMPARED if found.table[name].notna().any()]
    rows = [["seeds", *(write(side["seeds"], "count") for side in sides)]]
    rows += [[metric(name).label, *(_with_bounds(side, name) for side in sides)] for name in names]
    spent = ["none" if math.isnan(side["epsilon"]) else write(side["epsilon"]) for side in sides]
    rows += [["largest ε", *spent], ["seconds", *(write(side["seconds"]) for side in sides)]]
    return Table(
        caption="The shared models after the last round, on the test records",
        columns=[
            Column(label="measure", kind="text"),
            *(Column(label=run, kind="written") for run in found.runs),
        ],
        rows=rows,
        terms=[(metric(name).label, metric(name).meaning) for name in names],
        note="Of several seeds the mean, and in brackets its 95% t-interval, cut to where the measure "
        "can lie; epsilon is the largest of a client and a single run, seconds the mean of a run.",
    )


def _with_bounds(side: Mapping[Any, Any], name: str) -> str:
    """A mean, and the bounds of its interval in brackets that stay together."""
    kind, low, high = metric(name).kind, side[f"{name}_low"], side[f"{name}_high"]
    bounds = "" if math.isnan(low) else f" ({span(low, high, kind)})"
    return write(side[name], kind) + bounds[:1] + bounds[1:].replace(" ", "\u00a0")


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
    frame = frame.dropna(subset=["value"])  # who has no [privacy] spends nothing
    if f"{name}_low" in found.table:
        frame = frame.assign(low=found.table[f"{name}_low"], high=found.table[f"{name}_high"])
    return dots_of_means(
        frame,
        title=heading(label),
        label=label,
        kind=kind,
        name="run",
        zero=name in ("epsilon", "seconds"),
        of=OF,
    )


def _course(found: Comparison, name: str) -> Figure | None:
    rows = found.curves[found.curves.metric == name].dropna(subset=["value"])
    if rows["round"].nunique() < 2:
        return None
    frame = rows.rename(columns={"run": "series"})
    series = [run for run in found.runs if run in set(frame.series)]
    return course_of_means(frame, name, series=series, of=OF)


def _settings(found: Comparison) -> Block:
    if not len(found.settings):
        return "The runs have the same settings."
    return Table(
        caption="Keys of the experiments that are not the same",
        columns=[Column(label=str(column), kind="text") for column in found.settings.columns],
        rows=found.settings.to_numpy().tolist(),
        note="– where a run leaves the key out.",
    )
