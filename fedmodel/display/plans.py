"""What an experiment would do and cost, before it runs; who holds what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsInt

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedmodel.display.tables import text_table

if TYPE_CHECKING:
    from fedmodel.data.readiness import Readiness
    from fedmodel.experiment import Experiment
    from fedmodel.runs.outlook import Outlook
    from fedmodel.runs.preview import Preview

__all__ = ["outlook_table", "plan_table", "preview_table", "readiness_table"]


def plan_table(experiment: Experiment) -> Table:
    """What an experiment would do, before it runs."""
    built, config = experiment.built, experiment.config
    table = Table(title=escape(experiment.name), title_justify="left", show_header=False)
    sizes, steps = built.data.sizes("train"), built.workload.training.num_steps
    rows = {
        "data": f"{config.data.name}: {int(sizes.sum()):,} training and "
        f"{int(built.data.sizes('test').sum()):,} test records, {len(built.data.classes)} classes",
        "clients": f"{built.data.num_clients}, {_span(sizes.min(), sizes.max())} training records each",
        "model": f"{config.model.name}, {built.model.size:,} parameters",
        "client": f"{config.client.name}, {_span(steps.min(), steps.max())} steps a round",
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


def _span(low: SupportsInt, high: SupportsInt) -> str:
    return f"{int(low)}" if int(low) == int(high) else f"{int(low)} to {int(high)}"


def outlook_table(outlook: Outlook, name: str) -> Table:
    """What the clients will spend, a line a client or a group of them by size."""
    return text_table(outlook.table, f"{name}: privacy plan")


def preview_table(preview: Preview, name: str) -> Table:
    """How clients differ, a line a measure."""
    return text_table(preview.table, f"{name}: who holds what")


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
