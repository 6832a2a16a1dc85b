"""The command line: thin, and never a bare traceback for a user's mistake."""

from __future__ import annotations

import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Optional

import typer
from rich.console import Console
from rich.markup import escape

from fedmodel.errors import FedmodelError

app = typer.Typer(
    name="fedmodel",
    help="Federated-learning experiments that show privacy, fairness and robustness.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

EXAMPLE = """
An experiment file names a data set, a partition, a model, a client behaviour and a strategy:

    rounds = 20
    [data]
    name = "heart_disease"
    [partition]
    name = "natural"
    [model]
    name = "logistic"
    [client]
    name = "dp_sgd"
    learning_rate = 0.5
    [privacy]
    epsilon = 3.0

Exit codes: 0 done, 1 the run failed or was stopped (what was finished is kept), 2 something must be mended first.
"""

Set = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this at run time
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key, e.g. client.learning_rate=0.05."
    ),
]
Engine = Annotated[
    Optional[Literal["inline", "ray", "flower"]],  # noqa: UP045
    typer.Option(help="Where clients execute; results are the same."),
]


@app.command(epilog=EXAMPLE)
def run(
    config: Annotated[Path, typer.Argument(help="The experiment file (.toml).")],
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
    """Run an experiment and write its tables, model and report."""
    from fedmodel.config import changes_of
    from fedmodel.experiment import Experiment

    changes = changes_of(_overrides(set_), engine=engine, seed=seed)
    experiment = Experiment.read(config, changes)
    _follow(experiment, lambda: experiment.rounds(out_))


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="The folder of an interrupted run.")]) -> None:
    """Go on with an interrupted run, as if nothing had happened."""
    from fedmodel.experiment import Experiment

    experiment, left = Experiment.resume(run)
    _follow(experiment, lambda: left)


@app.command()
def validate(
    config: Annotated[Path, typer.Argument(help="The experiment file (.toml).")],
    set_: Set = None,
) -> None:
    """Check an experiment as far as possible without running it: names, options, data, privacy plan."""
    from fedmodel.display import plan_table
    from fedmodel.experiment import Experiment

    experiment = Experiment.read(config, _overrides(set_))
    out.print(plan_table(experiment))
    for note in experiment.built.notes:
        out.print(f"[yellow]note:[/] {escape(note)}")
    out.print(f"[green]{escape(str(config))} is ready to run[/]")


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="One kind, e.g. dataset or aggregator.")
    ] = None,
) -> None:
    """Show what an experiment can name, with options and defaults."""
    from fedmodel.display import catalogue_tables

    for table in catalogue_tables(kind):
        out.print(table)


@app.command()
def show(run: Annotated[Path, typer.Argument(help="The folder of a run.")]) -> None:
    """Show the result of a run."""
    from fedmodel.display import summary
    from fedmodel.runs.run import load

    out.print(summary(load(run)))


@app.command()
def check(
    plugin: Annotated[str, typer.Argument(metavar="FILE.py:NAME", help="Your function or class.")],
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What it is, where its signature does not tell."),
    ] = None,
) -> None:
    """Try a plug-in alone against what its kind must keep to."""
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


def _overrides(pairs: list[str] | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise FedmodelError(
                f"{pair!r} is not KEY=VALUE",
                where="--set",
                fix="E.g. --set client.learning_rate=0.05.",
            )
        try:
            changes[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.strip()] = text  # a bare word
    return changes


def _follow(experiment: Any, start: Callable[[], Iterator[Any]]) -> None:
    """Show a run's progress, end it cleanly on Ctrl-C, and print where everything is."""
    from fedmodel.display import Progress, summary

    with Progress(out, experiment) as progress, _interruptible(experiment):
        for note in experiment.built.notes:
            progress.say(f"[yellow]note:[/] {escape(note)}")
        experiment.say = lambda line: progress.say(escape(line))
        try:
            for finished in start():
                progress.advance(finished)
        except FedmodelError:
            if experiment.folder is not None:
                progress.say(f"What was finished is in {experiment.folder.path}")
            raise
    finished_run = experiment.run
    out.print(summary(finished_run))
    if not finished_run.manifest["finished"]:
        err.print(f"stopped early; go on with: fedmodel resume {escape(str(finished_run.path))}")
        raise typer.Exit(1)


@contextmanager
def _interruptible(experiment: Any) -> Iterator[None]:
    """The first Ctrl-C asks the run to end after this round; the second one ends it at once."""

    def on_interrupt(number: int, frame: Any) -> None:
        if experiment.stop:
            raise KeyboardInterrupt
        experiment.stop = True
        err.print("\nending after this round; press Ctrl-C again to stop at once", style="yellow")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main() -> NoReturn:
    """Entry point: mistakes become one screen of text and exit code 2, failed runs 1."""
    try:
        app(standalone_mode=False)
        sys.exit(0)
    except FedmodelError as error:
        err.print(f"[bold red]error:[/] {escape(error.problem)}")
        if error.where:
            place = error.where if error.where.startswith(" ") else f"  {error.where}"
            err.print(f"\n{escape(place)}", soft_wrap=True)
        if error.fix:
            err.print(f"\n  {escape(error.fix)}")
        sys.exit(error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except KeyboardInterrupt:
        err.print("stopped at once; what was finished is kept: fedmodel resume", style="yellow")
        sys.exit(1)
    except Exception as error:
        _usage_or_bug(error)


def _usage_or_bug(error: Exception) -> NoReturn:
    import click

    if isinstance(error, click.exceptions.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(2)
    if isinstance(error, click.Abort):
        sys.exit(1)
    raise error


if __name__ == "__main__":
    main()
