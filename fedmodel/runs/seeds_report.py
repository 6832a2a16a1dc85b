"""The report over several seeds: means with their intervals, and how far the seeds lie apart."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from fedmodel.runs.page import Block, Code, Column, Facts, Figure, Listing, Page, Section, Table
from fedmodel.runs.sections.common import (
    course_of_means,
    dots_of_means,
    flat,
    heading,
    model_name,
)
from fedmodel.runs.seeds import SeedRuns, place_of
from fedmodel.runs.words import METRICS, MODELS, bound_of, listed, metric, span, write

__all__ = ["write_seeds_report"]

INTERVAL = (
    "Between the bounds lies the mean over further seeds, 95 times in 100, if the values are about "
    "normal (Student's t-interval, cut to where the measure can lie). Seeds draw the partition, the split, the initial model, batches and "
    "noise; that other people could be in the data is not in the interval."
)
OF = "mean over seeds"
CURVES = ("accuracy", "loss")
GAPS = ("demographic_parity_difference", "equalized_odds_difference", "accuracy_difference")
KEY = ("accuracy", "roc_auc", "accuracy_worst_decile", GAPS[0])
RATES = ("accuracy", "selection_rate", "true_positive_rate", "false_positive_rate")


def write_seeds_report(runs: SeedRuns, path: Path) -> Path:
    """Write the page to `path` and return it."""
    summary = runs.summary
    summary = summary[summary.split == "test"]
    sections = [_learning(runs, summary), _groups(summary), _clients(runs, summary)]
    sections += [_privacy(runs), _each(runs), _reproduce(runs)]
    done, asked = len(runs.finished), len(runs.seeds)
    page = Page(
        title=runs.manifest["name"],
        about=[
            f"{asked} seeds: {listed(map(str, runs.seeds))}",
            f"engine {runs.manifest['engine']}",
            f"{write(runs.manifest['seconds'])} s in all",
            str(runs.manifest["started"])[:16].replace("T", " "),
        ],
        headline=_headline(summary, done),
        warning=""
        if done == asked
        else f"{done} of {asked} runs are finished; means are of those.",
        key_figures=_key_figures(summary),
        notes=runs.manifest["notes"],
        sections=[section for section in sections if section is not None],
    )
    path.write_text(page.render(), encoding="utf-8")
    return path


def _of(summary: pd.DataFrame, name: str, *, model: str = "global", key: str = "") -> pd.Series:
    """Mean, low and high of one metric; NaN where it was not measured."""
    rows = summary[(summary.metric == name) & (summary.model == model) & (summary.key == key)]
    row = rows[rows.scope.ne("client")].head(1)
    if len(row):
        return row.iloc[0]
    return pd.Series({"seeds": 0, "mean": math.nan, "low": math.nan, "high": math.nan})


def _headline(summary: pd.DataFrame, done: int) -> str:
    row = _of(summary, "accuracy")
    if math.isnan(row["mean"]):
        return "No run is finished yet, so there is no mean."
    text = (
        f"Over {done} seeds, the shared model is right on {write(row['mean'], 'percent')} of the test "
        "records on average"
    )
    if math.isnan(row.low):
        return text + "; an interval needs two finished runs."
    text += f" (95% interval {span(row.low, row.high, 'percent')})"
    gap = _of(summary, GAPS[0])
    if not math.isnan(gap.low):
        text += (
            f"; the share of positive decisions differs by {write(gap['mean'], 'points')} between the "
            f"groups ({span(gap.low, gap.high, 'points')})"
        )
    return text + "."


def _key_figures(summary: pd.DataFrame) -> list[tuple[str, str, str]]:
    figures = []
    for name in KEY:
        row = _of(summary, name)
        if not math.isnan(row["mean"]):
            what = metric(name)
            remark = (
                f"95% interval {span(row.low, row.high, what.kind)}"
                if row.seeds > 1
                else "one seed"
            )
            figures.append((heading(what.label), write(row["mean"], what.kind), remark))
    return figures


def _learning(runs: SeedRuns, summary: pd.DataFrame) -> Section | None:
    """Curves of the means in their bands, and all metrics of all models."""
    rounds = runs.by_round
    if not len(rounds):
        return None
    rounds = rounds[(rounds.split == "test") & (rounds.scope == "global") & (rounds.key == "")]
    rounds = rounds[rounds.seeds == len(runs.runs)]  # a mean of the same seeds at each round
    blocks: list[Block] = [INTERVAL]
    for name in CURVES:
        rows = rounds[(rounds.metric == name) & rounds.model.isin(["global", "non_private"])]
        if rows["round"].nunique() > 1:
            frame = rows.assign(series=rows.model.map(model_name)).rename(columns={"mean": "value"})
            series = [model_name(m) for m in MODELS if m in set(rows.model)]
            blocks.append(course_of_means(frame, name, series=series, of=OF))
    found = summary[(summary.scope == "global") & ~summary.metric.map(bound_of).astype(bool)]
    models = [model for model in MODELS if model in set(found.model)]
    names = [n for n in found.metric.unique() if n not in ("num_records", "roc_auc_bound")]
    for model in models:
        table = [
            [
                metric(n).label,
                *(write(_of(found, n, model=model)[c], metric(n).kind) for c in FIGURES),
            ]
            for n in names
            if not math.isnan(_of(found, n, model=model)["mean"])
        ]
        blocks.append(
            Table(
                caption=f"{heading(model_name(model))}: {MODELS[model][1]}",
                columns=[
                    Column(label="measure", kind="text"),
                    *(Column(label=label, kind="written") for label in FIGURES.values()),
                ],
                rows=table,
                folded=model != "global",
                terms=[
                    (METRICS[n].label, METRICS[n].meaning)
                    for n in names
                    if n in METRICS and model == "global"
                ],
            )
        )
    return Section(title="Learning", blocks=blocks)


FIGURES = {"mean": "mean", "low": "at least", "high": "at most", "std": "standard deviation"}


def _dots(rows: pd.DataFrame, name: str, *, title: str, names: str) -> Figure:
    what = metric(name)
    frame = rows.rename(columns={"key": "name", "mean": "value"})[["name", "value", "low", "high"]]
    return dots_of_means(
        frame,
        title=title,
        label=what.label,
        kind=what.kind,
        name=names,
        zero=what.kind == "points",
        of=OF,
    )


def _groups(summary: pd.DataFrame) -> Section | None:
    rows = summary[(summary.scope == "group") & (summary.model == "global")]
    rows = rows[rows["mean"].notna()]
    figures: list[Block] = []
    for name in RATES:
        own = rows[(rows.metric == name) & rows.key.str.count("=").eq(1)].head(24)
        if len(own):
            title = f"{heading(metric(name).label)} by group"
            figures.append(_dots(own, name, title=title, names="group"))
    gaps = rows[rows.metric.isin(GAPS) & ~rows.key.str.contains("=", regex=False)]
    whole = summary[(summary.scope == "global") & (summary.model == "global")]
    whole = whole[whole.metric.isin(GAPS) & whole["mean"].notna()]
    names = {key.split("=")[0] for key in rows.key if "=" in key}
    every = names.pop() if len(names) == 1 and not len(gaps) else "all combined"
    table = pd.concat([gaps, whole.assign(key=every)])
    if not len(figures) and not len(table):
        return None
    blocks: list[Block] = [
        "A gap is the largest difference between groups, so chance makes it larger on average: the mean "
        "of the gaps is at least the gap of the mean rates.",
        *figures,
        Table(
            caption="Differences between groups, mean over seeds",
            columns=[
                Column(label="difference", kind="text"),
                Column(label="attribute", kind="text"),
                *(Column(label=label, kind="points") for label in FIGURES.values()),
            ],
            rows=[
                [metric(str(row.metric)).label, row.key, *(getattr(row, c) for c in FIGURES)]
                for row in table.itertuples()
            ],
        ),
    ]
    return Section(title="Fairness", blocks=blocks)


def _clients(runs: SeedRuns, summary: pd.DataFrame) -> Section | None:
    """Each client's accuracy, where a client is the same in every run."""
    rows = summary[(summary.scope == "client") & (summary.model == "global")]
    rows = rows[rows.metric.eq("accuracy") & rows["mean"].notna()]
    first = next(iter(runs.runs.values()))
    if len(rows) < 2 or first.partition != "natural":
        return None
    rows = rows.sort_values("mean", ascending=False)
    blocks: list[Block] = []
    if len(rows) <= 40:
        blocks.append(_dots(rows, "accuracy", title="Accuracy at each client", names="client"))
    blocks.append(
        Table(
            caption="Accuracy at each client, mean over seeds",
            columns=[
                Column(label="client", kind="text"),
                Column(label="seeds", kind="count"),
                *(Column(label=label, kind="percent") for label in FIGURES.values()),
            ],
            rows=[[r.key, r.seeds, *(getattr(r, c) for c in FIGURES)] for r in rows.itertuples()],
            folded=True,
            sortable=True,
        )
    )
    return Section(title="Clients", blocks=blocks)


def _privacy(runs: SeedRuns) -> Section | None:
    stated = runs.manifest.get("privacy")
    if not stated:
        return None
    terms = {k: v for k, v in stated.items() if k not in ("sentences", "outside")}
    blocks: list[Block] = [
        Listing(caption="What all runs give away together", items=stated["sentences"]),
        Listing(
            caption="What lies outside the guarantee", items=stated["outside"], weight="caution"
        ),
        Facts(pairs=flat(terms), caption="The terms", folded=True),
    ]
    return Section(title="Privacy", blocks=blocks)


def _each(runs: SeedRuns) -> Section:
    """A row and a link for each seed."""
    names = [name for name in KEY if not math.isnan(runs.last(name))]
    private = "epsilon" in runs.clients
    rows: list[list[object]] = []
    for seed, run in runs.runs.items():
        values = [run.last(name) for name in names]
        if private:
            values.append(run.clients["epsilon"].max() if "epsilon" in run.clients else math.nan)
        rows.append([str(seed), *values, run.manifest["seconds"], run.manifest["finished"]])
    links = Markup(", ").join(
        Markup('<a href="{}/report.html">seed {}</a>').format(place_of(seed), seed)
        for seed in runs.runs
    )
    columns = [Column(label=metric(name).label, kind=metric(name).kind) for name in names]
    return Section(
        title="Seeds",
        blocks=[
            Markup("Each seed is an ordinary run, with a report of its own: {}.").format(links),
            Table(
                caption="Each seed after its last round, on the test records",
                columns=[
                    Column(label="seed", kind="text"),
                    *columns,
                    *([Column(label="largest ε")] if private else []),
                    Column(label="seconds"),
                    Column(label="finished", kind="truth"),
                ],
                rows=rows,
            ),
        ],
    )


def _reproduce(runs: SeedRuns) -> Section:
    told = ("command", "privacy", "notes", "runs", "seeds")
    pairs = flat({key: part for key, part in runs.manifest.items() if key not in told})
    text = (runs.path / "config.toml").read_text(encoding="utf-8")
    return Section(
        title="Reproduce",
        blocks=[
            Code(caption="Command", text=runs.manifest["command"]),
            Code(caption="Experiment (config.toml)", text=text, folded=True),
            Facts(pairs=pairs, caption="Versions, machine", folded=True),
        ],
    )
