"""A saved model on another data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fedmodel.commands.options import HIDDEN, RUN, RunFolder, Set
from fedmodel.terminal import follow, overrides

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

    experiment = evaluation_of(run, config, overrides(set_))
    follow(experiment, lambda: experiment.rounds(out_))
