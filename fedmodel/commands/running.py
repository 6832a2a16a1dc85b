"""Run an experiment, go on with it, check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN, RUN, Engine, RunFolder, Set
from fedmodel.terminal import err, follow, follow_seeds, out, overrides

__all__ = ["resume", "run", "validate"]

EXAMPLE = """
An experiment file names a data set, a partition, a model, a client behaviour and a strategy:

\b
    rounds = 20
    [data]
    name = "heart_disease"
    [model]
    name = "logistic"
    [client]
    name = "dp_sgd"
    learning_rate = 0.5
    [privacy]
    epsilon = 3.0
    delta = 1e-3

\b
Exit codes: 0 done; 1 the run failed or was stopped (what was finished is kept);
2 something must be mended first.
"""


def run(
    config: Annotated[Path, HIDDEN],
    set_: Set = None,
    engine: Engine = None,
    seed: Annotated[Optional[int], typer.Option(help="Seed of the experiment.")] = None,  # noqa: UP045
    out_: RunFolder = None,
) -> None:
    """Run an experiment and write its tables, model and report; with `seeds`, once with each.

    CONFIG is the experiment file (.toml).
    """
    from fedmodel.config_file import changes_of
    from fedmodel.experiment import Experiment
    from fedmodel.seeds import Repetition

    changes = changes_of(overrides(set_), engine=engine, seed=seed)
    experiment = Experiment.read(config, changes)
    if experiment.config.seeds is not None:
        follow_seeds(Repetition.begin(experiment, out_))
    else:
        follow(experiment, lambda: experiment.rounds(out_))


def resume(run: Annotated[Path, RUN]) -> None:
    """Go on with an interrupted run, as if nothing had happened.

    RUN is the folder that `fedmodel run` printed. Of several seeds, finished runs stay as they are.
    """
    from fedmodel.experiment import Experiment
    from fedmodel.runs.run import load
    from fedmodel.runs.seeds import SeedRuns
    from fedmodel.seeds import Repetition

    begun = load(run)
    if begun.manifest["finished"]:
        err.print("this run is finished: no round is left", style="yellow")
    if isinstance(begun, SeedRuns):
        follow_seeds(Repetition.resume(run))
    else:
        experiment, left = Experiment.resume(run)
        follow(experiment, lambda: left)


def validate(
    config: Annotated[Path, HIDDEN],
    set_: Set = None,
) -> None:
    """Check an experiment as far as possible without running it: names, options, data, privacy plan.

    CONFIG is the experiment file (.toml).
    """
    from fedmodel.display.plans import plan_table
    from fedmodel.experiment import Experiment

    experiment = Experiment.read(config, overrides(set_))
    out.print(plan_table(experiment))
    for note in experiment.built.notes:
        out.print(f"[yellow]note:[/] {escape(note)}")
    out.print(f"[green]{escape(str(config))} is ready to run[/]")
