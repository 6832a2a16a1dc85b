"""The command line: thin, and never a bare traceback for a user's mistake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Optional

import typer
from rich.markup import escape

from fedmodel.errors import FedmodelError, shown
from fedmodel.terminal import err, follow, out, overrides, tell, told

app = typer.Typer(
    name="fedmodel",
    help="Federated-learning experiments that show privacy, fairness and robustness.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
privacy = typer.Typer(name="privacy", help="What differential privacy costs.", no_args_is_help=True)
app.add_typer(privacy)

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

# typer 0.20 drops the help of arguments with this click; the docstrings say what they are.
HIDDEN = typer.Argument(hidden=True)
Set = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this at run time
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, e.g. client.learning_rate=0.05."
    ),
]
Engine = Annotated[
    Optional[Literal["inline", "ray", "flower"]],  # noqa: UP045
    typer.Option(help="Where clients execute; results are the same."),
]


@app.command(epilog=EXAMPLE)
def run(
    config: Annotated[Path, HIDDEN],
    set_: Set = None,
    engine: Engine = None,
    seed: Annotated[Optional[int], typer.Option(help="Seed of the experiment.")] = None,  # noqa: UP045
    out_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", metavar="DIR", help="Run folder; new or empty. [default: runs/<name>-<time>]"
        ),
    ] = None,
) -> None:
    """Run an experiment and write its tables, model and report.

    CONFIG is the experiment file (.toml).
    """
    from fedmodel.config import changes_of
    from fedmodel.experiment import Experiment

    changes = changes_of(overrides(set_), engine=engine, seed=seed)
    experiment = Experiment.read(config, changes)
    follow(experiment, lambda: experiment.rounds(out_))


@app.command()
def resume(run: Annotated[Path, HIDDEN]) -> None:
    """Go on with an interrupted run, as if nothing had happened.

    RUN is the folder that `fedmodel run` printed.
    """
    from fedmodel.experiment import Experiment
    from fedmodel.runs.run import load

    if load(run).manifest["finished"]:
        err.print("this run is finished: no round is left", style="yellow")
    experiment, left = Experiment.resume(run)
    follow(experiment, lambda: left)


@app.command()
def validate(
    config: Annotated[Path, HIDDEN],
    set_: Set = None,
) -> None:
    """Check an experiment as far as possible without running it: names, options, data, privacy plan.

    CONFIG is the experiment file (.toml).
    """
    from fedmodel.display import plan_table
    from fedmodel.experiment import Experiment

    experiment = Experiment.read(config, overrides(set_))
    out.print(plan_table(experiment))
    for note in experiment.built.notes:
        out.print(f"[yellow]note:[/] {escape(note)}")
    out.print(f"[green]{escape(str(config))} is ready to run[/]")


@privacy.command("plan")
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
    from fedmodel.display import outlook_table
    from fedmodel.experiment import Experiment, share_asked
    from fedmodel.runs.outlook import outlook, write_outlook

    experiment = Experiment.read(config, overrides(set_))
    built = experiment.built
    found = outlook(
        built.plans,
        sizes=built.data.sizes("train").numpy(),
        names=built.data.clients,
        rounds=experiment.config.rounds,
        sample=share_asked(built.strategy),
    )
    page = write_outlook(found, experiment.name, out_ or Path(f"{experiment.name}-privacy.html"))
    out.print(outlook_table(found, experiment.name))
    for line in found.sentences:
        out.print(escape(line))
    out.print(f"page  {escape(str(page))}", soft_wrap=True)


@app.command("list")
def list_(
    kind: Annotated[Optional[str], HIDDEN] = None,  # noqa: UP045
) -> None:
    """Show what an experiment can name, with options and defaults.

    KIND is one kind of them, e.g. dataset or aggregator.
    """
    from fedmodel.display import catalogue_tables

    for table in catalogue_tables(kind):
        out.print(table)


@app.command()
def show(
    run: Annotated[Path, HIDDEN],
    name: Annotated[Optional[str], HIDDEN] = None,  # noqa: UP045
) -> None:
    """Show the result of a run, or the card of a data set: `fedmodel show data NAME`.

    RUN is the run's folder; NAME is a data set of `fedmodel list dataset` or your own, FILE.py:NAME.
    """
    from fedmodel.display import data_card, summary
    from fedmodel.runs.run import load

    if name is None:
        out.print(summary(load(run)))
    elif str(run) == "data":
        out.print(data_card(name))
    else:
        raise FedmodelError(
            f"{shown(str(run))} is nothing to show {shown(name)} of",
            where="fedmodel show",
            fix=f"Write `fedmodel show {run}` for a run, or `fedmodel show data {name}`.",
        )


@app.command()
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


@app.command()
def audit(
    subject: Annotated[Path, HIDDEN],
    audits: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--audit", metavar="NAME", help="Only this audit; may be repeated."),
    ] = None,
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of CONFIG, or an audit's option: audit.membership.shadows=16.",
        ),
    ] = None,
    out_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where findings go; new or empty. [default: RUN, or audits/<name>-<time>]",
        ),
    ] = None,
) -> None:
    """Attack a run or an experiment on purpose, and say what the attacks learn.

    SUBJECT is a run folder, or an experiment file (.toml), which is then trained as well.
    """
    from fedmodel.audits import audit as auditing
    from fedmodel.display import findings_table

    changes = overrides(set_)
    own = {key: value for key, value in changes.items() if not key.startswith("audit.")}
    options: dict[str, dict[str, Any]] = {}
    for key in changes:
        if key not in own:
            name, _, option = key.removeprefix("audit.").rpartition(".")
            options.setdefault(name, {})[option] = changes[key]
    components = auditing.chosen(audits or [], options)
    experiment, place = auditing.subject(subject, own)
    experiment.say = lambda line: out.print(escape(line))
    try:
        findings = auditing.audit(experiment, components, out=out_ or place)
    except FedmodelError as error:
        error.where = experiment.source.place(error.where)
        raise
    except KeyboardInterrupt:
        err.print("stopped; tables of finished audits are kept", style="yellow")
        raise typer.Exit(1) from None
    out.print(findings_table(findings))
    out.print(f"page  {escape(str((out_ or place) / 'audit.html'))}", soft_wrap=True)


def main() -> NoReturn:
    """Entry point: mistakes become one screen of text and exit code 2, failed runs 1."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except FedmodelError as error:
        tell(error)
        sys.exit(error.exit_code)
    except Exception as error:
        explained = told(error)
        if explained is None:
            err.print("this is a mistake in fedmodel itself; please report it", style="bold red")
            raise
        tell(explained)
        sys.exit(explained.exit_code)


if __name__ == "__main__":
    main()
