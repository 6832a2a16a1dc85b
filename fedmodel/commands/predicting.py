"""A trained model at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN, RUN
from fedmodel.terminal import err, out

__all__ = ["predict"]


def predict(
    run: Annotated[Path, RUN],
    file: Annotated[Path, HIDDEN],
    out_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", metavar="FILE", help="The predictions. [default: <FILE>-predictions.csv]"
        ),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="The best round's model, not the last round's.")
    ] = False,
    client: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ID", help="Whose records these are; needed with encode = client."),
    ] = None,
    keep: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="COLUMN", help="Carry a column over; may be repeated."),
    ] = None,
    allow_unknown: Annotated[
        bool,
        typer.Option("--allow-unknown", help="Take an unknown category as none of the known."),
    ] = False,
) -> None:
    """Apply a run's model to new records: the class of each, and the probability of each class.

    RUN is the run's folder; FILE a CSV or Parquet table with the columns of the data set, before
    encoding: no label, no client.
    """
    from fedmodel.runs.predict import predict_file

    predicted, written = predict_file(
        run,
        file,
        out=out_,
        best=best,
        client=client,
        allow_unknown=allow_unknown,
        keep=keep or [],
    )
    for note in predicted.attrs["notes"]:
        err.print(f"[yellow]note:[/] {escape(note)}")
    counts = predicted["prediction"].value_counts()
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    out.print(f"{len(predicted):,} records: {escape(told)}")
    out.print(f"predictions  {escape(str(written))}", soft_wrap=True)
