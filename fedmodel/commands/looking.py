"""What there is: components, cards of data sets, results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN
from fedmodel.errors import FedmodelError, shown
from fedmodel.terminal import out

__all__ = ["check", "list_", "show"]


def list_(
    kind: Annotated[Optional[str], HIDDEN] = None,  # noqa: UP045
) -> None:
    """Show what an experiment can name, with options and defaults.

    KIND is one kind of them, e.g. dataset or aggregator.
    """
    from fedmodel.display import catalogue_tables

    for table in catalogue_tables(kind):
        out.print(table)


def show(
    run: Annotated[Path, HIDDEN],
    name: Annotated[Optional[str], HIDDEN] = None,  # noqa: UP045
) -> None:
    """Show the result of a run, or the card of a data set: `fedmodel show data NAME`.

    RUN is the run's folder; NAME is a data set of `fedmodel list dataset` or your own, FILE.py:NAME.
    """
    from fedmodel.display import data_card, seeds_summary, summary
    from fedmodel.runs.run import load
    from fedmodel.runs.seeds import SeedRuns

    if name is None:
        found = load(run)
        out.print(seeds_summary(found) if isinstance(found, SeedRuns) else summary(found))
    elif str(run) == "data":
        out.print(data_card(name))
    else:
        raise FedmodelError(
            f"{shown(str(run))} is nothing to show {shown(name)} of",
            where="fedmodel show",
            fix=f"Write `fedmodel show {run}` for a run, or `fedmodel show data {name}`.",
        )


def check(
    plugin: Annotated[str, typer.Argument(metavar="FILE.py:NAME", hidden=True)],
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What it is, where its signature does not tell."),
    ] = None,
) -> None:
    """Try a plug-in alone against what its kind must keep to.

    FILE.py:NAME is your function or class, e.g. mine.py:middle.
    """
    from fedmodel.contracts import check_plugin

    kind, findings = check_plugin(plugin, kind=kind)
    out.print(f"[bold]{escape(plugin)}[/] as {kind}")
    for finding in findings:
        mark = "[green]ok  [/]" if finding.passed else "[red]FAIL[/]"
        out.print(f"  {mark} {escape(finding.what)}")
        if not finding.passed:
            out.print(f"       {escape(finding.detail)}", style="red")
    if not all(finding.passed for finding in findings):
        raise typer.Exit(2)
    out.print(f'[green]sound; use it as[/] name = "{escape(plugin)}"')
