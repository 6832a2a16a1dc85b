"""Results: of a run, of several, of audits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedmodel.display.tables import bare_table, plain_table

if TYPE_CHECKING:
    from fedmodel.runs.comparison import Comparison
    from fedmodel.runs.run import Run
    from fedmodel.runs.seeds import SeedRuns
    from fedmodel.runs.totals import Total

__all__ = ["comparison_tables", "findings_table", "seeds_summary", "summary", "total_table"]

FEW, FEW_RUNS = 8, 5  # clients that have a line each, runs that have a column each

MODELS = {
    "global": "federated",
    "at_threshold": "at its threshold",
    "non_private": "no privacy",
    "pooled": "pooled",
    "local": "each alone",
}

BOUNDS = {"low": "  from", "high": "  to"}

MEASURES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "roc_auc": "AUC",
    "accuracy_worst_decile": "worst 10%",
    "demographic_parity_difference": "parity gap",
    "equalized_odds_difference": "odds gap",
    "honest_accuracy": "honest",
}


def summary(run: Run) -> RenderableType:
    """The result of a run: models side by side, then privacy, then where everything is."""
    metrics = run.metrics
    name, last_round = run.manifest.get("name", ""), int(metrics["round"].max())
    table = _results(f"{name}, round {last_round}")
    rows = (
        metrics[(metrics.split == "test") & (metrics.scope == "global")]
        if len(metrics)
        else metrics
    )
    shown = {name: title for name, title in MEASURES.items() if (rows.metric == name).any()}
    for title in shown.values():
        table.add_column(title, justify="right", min_width=max(map(len, title.split())))
    for model in MODELS:
        own = rows[rows.model == model]
        if not len(own):
            continue
        last = own[own["round"] == own["round"].max()].set_index("metric").value
        table.add_row(MODELS[model], *(f"{last[n]:.4f}" if n in last else "" for n in shown))
    lines: list[RenderableType] = [table]
    clients = run.clients
    if "epsilon" in clients:
        spent = clients.epsilon
        lines.append(
            f"epsilon by client: median {spent.median():.3f}, largest {spent.max():.3f} "
            f"(delta {clients.delta.iloc[0]:g})"
        )
    if len(clients) and clients.declined.sum():
        lines.append(f"{(clients.declined > 0).sum()} clients declined: their budget was spent")
    if len(clients):  # else it was cut off, and nothing but its rounds is there
        seconds = run.manifest.get("seconds", 0.0)
        lines.append(f"{len(clients)} clients, {seconds:.1f} s on engine {run.manifest['engine']}")
    lines.append(Text(f"run folder  {run.path}", overflow="fold"))
    if run.report.is_file():
        lines.append(Text(f"report      {run.report}", overflow="fold"))
    return Group(*lines)


def seeds_summary(runs: SeedRuns) -> RenderableType:
    """Means over seeds, below them the bounds of their 95 % intervals."""
    done, found = len(runs.finished), runs.summary
    table = _results(f"{runs.manifest['name']}, mean of {done} seeds and its 95% interval")
    rows = found[(found.split == "test") & (found.scope == "global")]
    shown = {name: title for name, title in MEASURES.items() if (rows.metric == name).any()}
    for title in shown.values():
        table.add_column(title, justify="right", min_width=max(map(len, title.split())))
    for model in MODELS:
        own = rows[rows.model == model].set_index("metric")
        if len(own):
            for column, label in {"mean": MODELS[model], **BOUNDS}.items():
                if own[column].notna().any():
                    values = (own[column].get(name, math.nan) for name in shown)
                    table.add_row(label, *(_four(value) for value in values))
    lines: list[RenderableType] = [table] if shown else []
    if privacy := runs.manifest.get("privacy"):
        lines += [Text(sentence) for sentence in privacy["sentences"][:1]]
    lines.append(
        f"{done} of {len(runs.seeds)} seeds finished, {runs.manifest.get('seconds', 0.0):.1f} s"
    )
    lines.append(Text(f"run folder  {runs.path}", overflow="fold"))
    lines.append(Text(f"report      {runs.report}", overflow="fold"))
    return Group(*lines)


def comparison_tables(found: Comparison) -> Iterator[Table]:
    """Results of the runs, their differences from the first one, and the settings that differ."""
    shown = [n for n in MEASURES if n in found.table and found.table[n].notna().any()]
    results = plain_table("", "run", *(MEASURES[n] for n in shown), "ε", "time, s")
    for row in found.table.to_dict("records"):
        spent = "none" if math.isnan(row["epsilon"]) else f"{row['epsilon']:.3f}"
        cells = [_four(row[name]) or "–" for name in shown]
        results.add_row(escape(row["run"]), *cells, spent, f"{row['seconds']:.1f}")
        for end, label in BOUNDS.items():
            if row["seeds"] > 1:
                results.add_row(label, *(_four(row[f"{name}_{end}"]) for name in shown))
    yield results
    title = f"difference from {found.runs[0]}, with its 95% interval"
    table = plain_table(title, "run", "measure", "difference", "at least", "at most", "interval")
    for row in found.differences.to_dict("records"):
        values = [
            "–" if math.isnan(row[k]) else f"{row[k]:+.4f}" for k in ("difference", "low", "high")
        ]
        table.add_row(escape(row["run"]), MEASURES[row["metric"]], *values, row["how"])
    yield table
    if len(found.settings):
        table = plain_table("settings that differ", *map(str, found.settings.columns))
        for cells in found.settings.to_numpy().tolist():
            table.add_row(*(Text(cell, overflow="fold") for cell in cells))
        yield table


def findings_table(findings: Sequence[Any]) -> Table:
    """What audits found, a number a line."""
    from fedmodel.audits.audit import spoken

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("audit")
    table.add_column("what")
    table.add_column("found", justify="right")
    for finding in findings:
        for number, (name, value) in enumerate(finding.figures.items()):
            told = "not measurable here" if math.isnan(value) else f"{value:.4g}"
            table.add_row("" if number else finding.name, spoken(name), told)
    return table


def total_table(total: Total) -> Table:
    """Epsilon of each client by run and together; of many clients the least, the median, the largest."""
    table = Table(
        title=f"epsilon at delta = {total.delta:g}, by {total.accountant.upper()}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    figures = total.table
    runs = figures.columns[2:-1]
    if len(runs) > FEW_RUNS:
        most = figures[runs].max(axis=1)
        figures = figures.drop(columns=runs)
        figures.insert(2, f"most of {len(runs)} runs", most)
    for name in figures.columns:
        kind: Any = "left" if name in ("client", "records") else "right"
        table.add_column(escape(name), justify=kind, overflow="fold")
    for records, part in figures.groupby("records", sort=False):
        if len(part) > FEW:
            ends = part.drop(columns=["client", "records"]).quantile([0.0, 0.5, 1.0])
            named = zip(("least", "median", "largest"), ends.itertuples(index=False), strict=True)
            rows = [(f"{name} of {len(part):,}", str(records), *row) for name, row in named]
        else:
            rows = [tuple(row) for row in part.itertuples(index=False)]
        for client, whose, *epsilons in rows:
            table.add_row(escape(str(client)), whose, *(f"{value:.3f}" for value in epsilons))
    return table


def _results(title: str) -> Table:
    table = bare_table(title)
    table.add_column("model", no_wrap=True)
    return table


def _four(value: float) -> str:
    """Four digits behind the point; nothing for what is not there."""
    return "" if math.isnan(value) else f"{value:.4f}"
