"""What differential privacy will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN, Set
from fedmodel.terminal import out, overrides, tell_of_seeds

__all__ = ["privacy_plan"]


def privacy_plan(
    config: Annotated[Path, HIDDEN],
    set_: Set = None,
    out_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE", help="The page. [default: <name>-privacy.html]"),
    ] = None,
) -> None:
    """Show before anything runs what the clients will spend: noise, steps, epsilon by round.

    CONFIG is the experiment file (.toml). The page has a chart of epsilon for several noise levels.
    """
    from fedmodel.afterwards import share_asked
    from fedmodel.display.plans import outlook_table
    from fedmodel.experiment import Experiment
    from fedmodel.planning import planned_evaluations
    from fedmodel.runs.outlook import evaluation_cost, outlook, write_outlook

    experiment = Experiment.read(config, overrides(set_))
    built = experiment.built
    counts, evaluations = built.workload.count_noise, planned_evaluations(experiment.config)
    if built.plans is None and counts is not None:
        out.print("There is no [privacy]: training records are not protected.")
        out.print(escape(evaluation_cost(counts, evaluations)))
        return
    found = outlook(
        built.plans,
        sizes=built.data.sizes("train").numpy(),
        names=built.data.clients,
        rounds=experiment.config.rounds,
        sample=share_asked(built.strategy),
        counts=counts,
        evaluations=evaluations,
    )
    page = write_outlook(
        found, experiment.name, out_ or Path(f"{experiment.file_name}-privacy.html")
    )
    out.print(outlook_table(found, experiment.name))
    for line in found.sentences:
        out.print(escape(line))
    if experiment.config.seeds:
        out.print(
            "What all seeds release together costs more than one run: their report adds it up."
        )
    tell_of_seeds(experiment)
    out.print(f"page  {escape(str(page))}", soft_wrap=True)
