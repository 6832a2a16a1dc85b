"""What there is: components, cards of data sets, results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.completing import kinds, subjects
from fedmodel.commands.options import Set
from fedmodel.errors import FedmodelError, shown
from fedmodel.terminal import out, overrides, tell_of_seeds

__all__ = ["check", "list_", "show"]

SUBJECT = typer.Argument(hidden=True, autocompletion=subjects)


def list_(
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(hidden=True, autocompletion=kinds),
    ] = None,
) -> None:
    """Show what an experiment can name, with options and defaults.

    KIND is one kind of them, e.g. dataset or aggregator.
    """
    from fedmodel.display.catalogue import catalogue_tables

    for table in catalogue_tables(kind):
        out.print(table)


def show(
    run: Annotated[Path, SUBJECT],
    name: Annotated[Optional[str], SUBJECT] = None,  # noqa: UP045
    set_: Set = None,
    out_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            metavar="FILE",
            help="The page of `show data CONFIG`. [default: <name>-data.html]",
        ),
    ] = None,
) -> None:
    """Show the result of a run, the card of a data set, or how an experiment's clients differ.

    `fedmodel show RUN`: RUN is the run's folder.

    `fedmodel show data NAME`: NAME is a data set of `fedmodel list dataset` or your own, FILE.py:NAME.

    `fedmodel show data CONFIG`: CONFIG is an experiment file (.toml). Sizes, and skew of labels, groups
    and features, before anything is trained; the page has the charts.
    """
    from fedmodel.display.catalogue import data_card
    from fedmodel.display.results import seeds_summary, summary
    from fedmodel.runs.run import Run, load
    from fedmodel.runs.seeds import SeedRuns

    if str(run) == "data" and name is not None and name.endswith(".toml"):
        _show_clients(Path(name), set_, out_)
        return
    if set_ or out_:
        raise FedmodelError(
            f"{'--set' if set_ else '--out'} has no effect here",
            where="fedmodel show",
            fix="Use it with `fedmodel show data CONFIG`, where CONFIG is an experiment file (.toml).",
        )
    if name is None:
        found = load(run)
        out.print(seeds_summary(found) if isinstance(found, SeedRuns) else summary(found))
        if isinstance(found, Run) and found.folder.cut_short:
            out.print(f"[yellow]note:[/] {escape(found.folder.cut_short)}")
    elif str(run) == "data":
        out.print(data_card(name))
    else:
        raise FedmodelError(
            f"{shown(str(run))} is nothing to show {shown(name)} of",
            where="fedmodel show",
            fix=f"Write `fedmodel show {run}` for a run, or `fedmodel show data {name}`.",
        )


def _show_clients(config: Path, set_: list[str] | None, page: Path | None) -> None:
    """What each client of an experiment holds, as a table, in words, and as a page."""
    from fedmodel.dealing import dealt_out
    from fedmodel.display.plans import preview_table
    from fedmodel.experiment import Experiment
    from fedmodel.runs.preview import preview, write_preview

    experiment = Experiment.read(config, overrides(set_))
    records, assignment = dealt_out(experiment.config, experiment.source)
    found = preview(records, assignment, seed=experiment.config.seed)
    page = write_preview(found, experiment.name, page or Path(f"{experiment.file_name}-data.html"))
    out.print(preview_table(found, experiment.name))
    for line in found.sentences:
        out.print(escape(line))
    tell_of_seeds(experiment)
    out.print(f"page  {escape(str(page))}", soft_wrap=True)


def check(
    plugin: Annotated[str, typer.Argument(metavar="FILE.py:NAME", hidden=True)],
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What it is, where its signature does not tell.", autocompletion=kinds),
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
