"""Runs side by side, and what is in them in other programs' forms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN
from fedmodel.terminal import out

__all__ = ["compare", "export"]


def compare(
    runs: Annotated[list[Path], HIDDEN],
    out_: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Hold runs against the first of them: results, differences with intervals, settings.

    RUNS are two run folders or more, of one seed or of several.
    """
    from fedmodel.display.results import comparison_tables
    from fedmodel.runs.comparison import compare as compared
    from fedmodel.runs.comparison_page import write_comparison

    found = compared(runs)
    page = write_comparison(found, out_)
    for table in comparison_tables(found):
        out.print(table)
    for note in found.notes:
        out.print(f"[yellow]note:[/] {escape(note)}")
    out.print(f"page  {escape(str(page))}", soft_wrap=True)


def export(
    run: Annotated[Path, HIDDEN],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to; new or empty.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="csv, tensorboard or svg. [default: csv]",
            show_default=False,
        ),
    ] = "csv",
) -> None:
    """Write a run's tables as CSV, its curves as TensorBoard's event files, or its figures as SVG.

    RUN is a run folder, of one seed or of several.
    """
    from fedmodel.runs.export import export as exported

    written = exported(run, to, form=form)
    for file in written:
        out.print(escape(str(file)), soft_wrap=True)
    if not written:
        out.print("there is nothing to write yet", style="yellow")
