"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from fedmodel.commands.completing import run_folders

__all__ = ["HIDDEN", "RUN", "Engine", "RunFolder", "Set"]

# typer 0.20 drops the help of arguments with this click; the docstrings say what they are.
HIDDEN = typer.Argument(hidden=True)
RUN = typer.Argument(hidden=True, autocompletion=run_folders)
Set = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this at run time
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, e.g. client.learning_rate=0.05."
    ),
]
RunFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--out", metavar="DIR", help="Run folder; new or empty. [default: runs/<name>-<time>]"
    ),
]
Engine = Annotated[
    Optional[Literal["inline", "ray", "flower"]],  # noqa: UP045
    typer.Option(help="Where clients execute; results are the same."),
]
