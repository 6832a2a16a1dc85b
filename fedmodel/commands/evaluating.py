"""A saved model on another data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.markup import escape

from fedmodel.commands.options import HIDDEN, RUN, RunFolder, Set
from fedmodel.terminal import err, follow, overrides

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, RUN],
    config: Annotated[Path, HIDDEN],
    set_: Set = None,
    out_: RunFolder = None,
) -> None:
    """Evaluate a run's model on other data, without training: tables and report of a run of its own.

    RUN is the run's folder; CONFIG a file with [data], and perhaps [partition] and [evaluation].
    """
    from fedmodel.evaluating import evaluation_of
    from fedmodel.runs.run import Run

    experiment = evaluation_of(run, config, overrides(set_))
    if note := Run(run).folder.cut_short:
        err.print(f"[yellow]note:[/] {escape(note)}")
    follow(experiment, lambda: experiment.rounds(out_))
