"""What the command line shows: progress, tables, summaries. It reads, and never computes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedmodel.catalogue import KINDS
from fedmodel.errors import FedmodelError, nearest, shown

if TYPE_CHECKING:
    from pandas import DataFrame

    from fedmodel.data.readiness import Readiness
    from fedmodel.experiment import Experiment, Round
    from fedmodel.runs.comparison import Comparison
    from fedmodel.runs.outlook import Outlook
    from fedmodel.runs.preview import Preview
    from fedmodel.runs.run import Run
    from fedmodel.runs.seeds import SeedRuns
    from fedmodel.runs.totals import Total

__all__ = [
    "Progress",
    "catalogue_tables",
    "comparison_tables",
    "data_card",
    "findings_table",
    "outlook_table",
    "plan_table",
    "preview_table",
    "readiness_table",
    "seeds_summary",
    "summary",
    "total_table",
]


class Progress:
    """Live progress on a terminal, a line a round elsewhere: loss, accuracy, epsilon, time left."""

    def __init__(self, console: Console, experiment: Experiment) -> None:
        self.console, self.experiment = console, experiment
        self.total = experiment.config.rounds
        self.begun = time.perf_counter()
        self.first: tuple[int, float] | None = None
        self.line = "loading data"
        self.number = 0
        self.live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        try:
            self.experiment.built  # noqa: B018 - load the data while "loading data" shows
        except BaseException:
            self.__exit__()  # the terminal gets its cursor back
            raise
        self.line = f"starting engine {self.experiment.config.engine.name}"
        return self

    def __exit__(self, *error: Any) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def say(self, line: str) -> None:
        """A line above the progress."""
        self.console.print(line, soft_wrap=True)  # a path is whole, to be copied
        self.line = line if line.startswith("reference") else self.line

    def advance(self, finished: Round) -> None:
        """Show a finished round."""
        self.number = finished.number
        parts = [f"round {finished.number}/{self.total}"]
        if finished.evaluated:
            parts += [f"loss {finished['loss']:.4f}", f"accuracy {finished['accuracy']:.4f}"]
        if len(finished.epsilon):
            parts.append(f"epsilon \u2264 {finished.epsilon.max():.2f}")
        now = time.perf_counter()
        if self.first is None:
            self.first = (finished.number, now)
        elif finished.number > self.first[0]:
            each = (now - self.first[1]) / (finished.number - self.first[0])
            parts.append(f"{_duration(each * (self.total - finished.number))} left")
        self.line = "   ".join(parts)
        if not self.console.is_terminal:
            self.console.print(self.line)

    def _draw(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            ProgressBar(total=self.total, completed=self.number, width=30), Text(self.line)
        )
        return grid


FEW, FEW_RUNS = 8, 5  # clients that have a line each, runs that have a column each
MODELS = {
    "global": "federated",
    "at_threshold": "at its threshold",
    "non_private": "no privacy",
    "pooled": "pooled",
    "local": "each alone",
}


MEASURES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "roc_auc": "AUC",
    "accuracy_worst_decile": "worst 10%",
    "demographic_parity_difference": "parity gap",
    "equalized_odds_difference": "odds gap",
    "honest_accuracy": "honest",
}


def _results(title: str) -> Table:
    table = Table(
        title=escape(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("model", no_wrap=True)
    return table


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
        table.add_column(title, justify="right", no_wrap=True)
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
    seconds = run.manifest.get("seconds", 0.0)
    lines.append(f"{len(clients)} clients, {seconds:.1f} s on engine {run.manifest['engine']}")
    lines.append(Text(f"run folder  {run.path}", overflow="fold"))
    lines.append(Text(f"report      {run.report}", overflow="fold"))
    return Group(*lines)


def seeds_summary(runs: SeedRuns) -> RenderableType:
    """Means over seeds, below them half the width of their 95 % intervals."""
    done, found = len(runs.finished), runs.summary
    table = _results(f"{runs.manifest['name']}, mean of {done} seeds ± half its 95% interval")
    rows = found[(found.split == "test") & (found.scope == "global")]
    shown = {name: title for name, title in MEASURES.items() if (rows.metric == name).any()}
    for title in shown.values():
        table.add_column(title, justify="right", no_wrap=True)
    for model in MODELS:
        own = rows[rows.model == model].set_index("metric")
        if len(own):
            half = own["high"] - own["mean"]
            table.add_row(
                MODELS[model], *(f"{own['mean'][n]:.4f}" if n in own.index else "" for n in shown)
            )
            table.add_row("", *(f"±{half[n]:.4f}" if n in own.index else "" for n in shown))
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
    results = _plain_table("", "run", *(MEASURES[n] for n in shown), "epsilon", "seconds")
    for row in found.table.to_dict("records"):
        cells = [_with_half(row[n], row[f"{n}_high"] - row[n]) for n in shown]
        spent = "none" if math.isnan(row["epsilon"]) else f"{row['epsilon']:.3f}"
        results.add_row(escape(row["run"]), *cells, spent, f"{row['seconds']:.1f}")
    yield results
    title = f"difference from {found.runs[0]}, with its 95% interval"
    table = _plain_table(title, "run", "measure", "difference", "at least", "at most", "interval")
    for row in found.differences.to_dict("records"):
        values = [
            "–" if math.isnan(row[k]) else f"{row[k]:+.4f}" for k in ("difference", "low", "high")
        ]
        table.add_row(escape(row["run"]), MEASURES[row["metric"]], *values, row["how"])
    yield table
    if len(found.settings):
        table = _plain_table("settings that differ", *map(str, found.settings.columns))
        for cells in found.settings.to_numpy().tolist():
            table.add_row(*(Text(cell, overflow="fold") for cell in cells))
        yield table


def _plain_table(title: str, first: str, *others: str) -> Table:
    table = Table(
        title=escape(title) or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column(first, overflow="fold")
    for name in others:
        least = max(map(len, name.split()), default=0) if title == "" else None
        justify: Any = "left" if name in ("measure", "interval") else "right"
        table.add_column(escape(name), justify=justify, min_width=least)
    return table


def _with_half(value: float, half: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if math.isnan(half) else f"{value:.4f} ±{half:.4f}"


def plan_table(experiment: Experiment) -> Table:
    """What an experiment would do, before it runs."""
    built, config = experiment.built, experiment.config
    table = Table(title=escape(experiment.name), title_justify="left", show_header=False)
    sizes = built.data.sizes("train")
    rows = {
        "data": f"{config.data.name}: {int(sizes.sum()):,} training and "
        f"{int(built.data.sizes('test').sum()):,} test records, {len(built.data.classes)} classes",
        "clients": f"{built.data.num_clients}, {int(sizes.min())} to {int(sizes.max())} training records each",
        "model": f"{config.model.name}, {built.model.size:,} parameters",
        "client": f"{config.client.name}, {int(built.workload.training.num_steps.min())} to "
        f"{int(built.workload.training.num_steps.max())} steps a round",
        "strategy": config.strategy.name,
        "rounds": str(config.rounds),
        "seeds": ", ".join(map(str, config.seeds or [config.seed])),
        "engine": config.engine.name,
    }
    if built.plans is not None:
        noise, budget = built.plans.noise_multiplier, built.plans.budget
        low, high = built.plans.target.min(), built.plans.target.max()
        target = f"epsilon {low:g}" + (f" to {high:g}" if high > low else "")
        rows["privacy"] = (
            f"of each {budget.unit}{f' ({budget.mode})' if budget.mode else ''}: "
            f"{target if high < float('inf') else 'noise set by hand'}, "
            f"delta {built.plans.budget.delta:g}; noise multiplier {noise.min():.3f} to {noise.max():.3f}"
        )
    if built.dishonest is not None and config.attack is not None:
        rows["attack"] = f"{config.attack.name} by {int(built.dishonest.sum())} clients"
    for name, text in rows.items():
        table.add_row(name, escape(text))
    return table


def outlook_table(outlook: Outlook, name: str) -> Table:
    """What the clients will spend, a line a client or a group of them by size."""
    return _texts(outlook.table, f"{name}: privacy plan")


def preview_table(preview: Preview, name: str) -> Table:
    """How clients differ, a line a measure."""
    return _texts(preview.table, f"{name}: who holds what")


def _texts(frame: DataFrame, title: str) -> Table:
    """A table of texts; the first column says what a line is of."""
    table = Table(
        title=escape(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for number, column in enumerate(frame.columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in row))
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


def catalogue_tables(kind: str | None) -> Iterator[Table]:
    """One table a kind: names, options and what they are."""
    chosen = {n: c for n, c in KINDS.items() if kind in (None, n, c.plural)}
    if kind is not None and not chosen:
        raise FedmodelError(
            f"there is no kind {shown(kind)}", fix=nearest(kind, KINDS, what="the kinds are")
        )
    for name, catalogue in chosen.items():
        table = Table(title=catalogue.plural, title_justify="left")
        for column in ("name", "options", "what it is"):
            table.add_column(column, overflow="fold")
        from pathlib import Path

        for component in sorted(catalogue.names()):
            function = catalogue.find(component, base=Path.cwd())
            options = ", ".join(
                option
                if parameter.default is parameter.empty
                else f"{option} = {_value(parameter.default)}"
                for option, parameter in catalogue.schema(function).items()
            )
            first = (function.__doc__ or "").strip().splitlines()[0]
            table.add_row(component, escape(options), escape(first))
        if table.row_count:
            yield table
        elif kind is not None:
            raise FedmodelError(
                f"no {name} has a name of its own", fix="Yours is written `file.py:name`."
            )


def data_card(name: str) -> RenderableType:
    """The card of a data set and what it holds; of one that reads a user's data, what it is.

    Raises:
        FedmodelError: no such data set, or one that cannot be loaded.
    """
    import inspect
    from pathlib import Path

    from fedmodel.data.describe import summary_of

    datasets = KINDS["dataset"]
    function = datasets.find(name, base=Path.cwd())
    if any(option.default is option.empty for option in datasets.schema(function).values()):
        about = (inspect.getdoc(function) or "").split("\n\nArgs:")[0].split("\n\nRaises:")[0]
        paragraphs = [" ".join(paragraph.split()) for paragraph in about.split("\n\n")]
        return Text("\n\n".join([f"{name} reads data that you name.", *paragraphs]))
    records = datasets.bind(name, base=Path.cwd())()
    card = records.card
    table = Table(title=escape(card.title), title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    lines = {"name": card.name, "source": card.source, "licence": card.licence}
    lines |= {"citation": card.citation, **summary_of(records), "known harms": card.harms}
    for key, text in lines.items():
        if text:
            table.add_row(escape(key), escape(text))
    for number, text in enumerate(card.cautions):
        table.add_row("" if number else "be careful", f"[yellow]{escape(text)}[/]")
    return table


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


def readiness_table(ready: Readiness) -> RenderableType:
    """The columns of a federation side by side, then what does not fit, by client."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("column", overflow="fold", min_width=12)
    for name in ("clients", "missing", "mean", "sd", "median", "half lies in"):
        table.add_column(name, justify="right", no_wrap=True)
    lines: list[RenderableType] = [table]
    for row in ready.table.to_dict("records"):
        cells = [row["column"] + (f" ({row['unit']})" if row["unit"] else "")]
        cells += [f"{row['clients']} of {ready.clients}", f"{row['missing']:.1%}"]
        if not math.isnan(row["mean"]):
            cells += [f"{row['mean']:.4g}", f"{row['deviation']:.4g}"]
            middle, error = _between(row["median_low"], row["median_high"])
            cells.append(f"{middle} \u00b1 {error}" if error else middle)
            low, high = row["q25_low"], row["q75_high"]
            cells.append("not told" if math.isinf(high - low) else f"{low:.4g} to {high:.4g}")
        table.add_row(*map(escape, cells))
        if row["categories"]:
            counts = sorted(row["categories"].items(), key=lambda item: -item[1])
            told = ", ".join(f"{word} {count:,}" for word, count in counts[:6])
            more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
            lines.append(Text(f"{row['column']}: {told}{more}"))
    client = None
    for name, text in ready.mismatches:
        if name != client:
            lines.append(f"\n[bold]{escape(name)}[/]")
        client = name
        lines.append(Text(f"  {text}"))
    return Group(*lines, "")


def _between(low: float, high: float) -> tuple[str, str]:
    """Certain limits as a middle and what it can be off by."""
    if math.isinf(low) or math.isinf(high):
        return "not told", ""
    return f"{(low + high) / 2:.4g}", f"{(high - low) / 2:.2g}"


def _value(default: Any) -> str:
    return getattr(default, "__name__", None) or repr(default)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
