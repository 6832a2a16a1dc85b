"""What several runs cost together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN
from fedmodel.terminal import out

__all__ = ["privacy_total"]


def privacy_total(
    runs: Annotated[list[Path], HIDDEN],
    delta: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Of the sum. [default: the largest of the runs']"),
    ] = None,
    out_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE", help="Write every client's figures there, as CSV."),
    ] = None,
) -> None:
    """Add up what private runs on the same records cost each client, tuning runs among them.

    RUNS are run folders of the same data and partition.
    """
    from fedmodel.display.results import total_table
    from fedmodel.runs.totals import total

    found = total(runs, delta=delta)
    out.print(total_table(found))
    for line in found.sentences:
        out.print(escape(line))
    if out_ is not None:
        found.table.to_csv(out_, index=False)
        out.print(f"table  {escape(str(out_))}", soft_wrap=True)
