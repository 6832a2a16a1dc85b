"""The command line: thin, and never a bare traceback for a user's mistake."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Optional

import typer
from rich.console import Console
from rich.markup import escape

from fedmodel.errors import FedmodelError, RunFailed, shown, user_place, what_failed

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
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

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

    changes = changes_of(_overrides(set_), engine=engine, seed=seed)
    experiment = Experiment.read(config, changes)
    _follow(experiment, lambda: experiment.rounds(out_))


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
    _follow(experiment, lambda: left)


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

    experiment = Experiment.read(config, _overrides(set_))
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

    experiment = Experiment.read(config, _overrides(set_))
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

    changes = _overrides(set_)
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


def _overrides(pairs: list[str] | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise FedmodelError(
                f"{shown(pair)} is not KEY=VALUE",
                where="--set",
                fix="Write e.g. --set client.learning_rate=0.05.",
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
        except BaseException as error:
            _say_what_is_kept(experiment, progress.say)
            if isinstance(error, FedmodelError):  # raised where nobody knows the file
                error.where = experiment.source.place(error.where)
            if isinstance(error, KeyboardInterrupt):
                err.print("stopped at once", style="yellow")
                raise typer.Exit(1) from None
            raise
    finished_run = experiment.run
    out.print(summary(finished_run))
    if not finished_run.manifest["finished"]:
        err.print(f"stopped early; go on with: fedmodel resume {escape(str(finished_run.path))}")
        raise typer.Exit(1)


def _say_what_is_kept(experiment: Any, say: Callable[[str], None]) -> None:
    folder = experiment.folder
    if folder is None or not folder.entries():
        return
    say(f"what was finished is kept; go on with: fedmodel resume {escape(str(folder.path))}")
    if (folder.path / "plugins").is_dir():
        say(f"it takes your code from the copy in {escape(str(folder.path / 'plugins'))}")


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
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except FedmodelError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except Exception as error:
        told = _told(error)
        if told is None:
            err.print("this is a mistake in fedmodel itself; please report it", style="bold red")
            raise
        _tell(told)
        sys.exit(told.exit_code)


def _tell(error: FedmodelError) -> None:
    """Problem, place and fix on standard error, wrapped; the quoted line stays as it is."""
    err.print(f"[bold red]error:[/] {escape(error.problem)}")
    for part in (error.where, error.fix):
        if part:
            quoted = part.startswith(" ")  # a line of a file and its mark stay as they are
            err.print("\n" + escape(part if quoted else _wrapped(part)), soft_wrap=True)


def _wrapped(text: str) -> str:
    lines = [
        textwrap.fill(line, err.width - 2, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return textwrap.indent("\n".join(lines), "  ")


def _told(error: Exception) -> FedmodelError | None:
    """Another exception than ours in our words; None if it is a mistake of our own."""
    import click

    if isinstance(error, click.ClickException):
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        sentences = dict.fromkeys(re.split(r"(?<=[.?]) ", error.format_message()))
        problem, *more = (" ".join(sentences)).split(". ", 1)
        return FedmodelError(
            problem[:1].lower() + problem[1:].rstrip("."),
            fix=" ".join([*more, f"`{command or 'fedmodel'} --help` shows what it takes."]),
        )
    if place := user_place(error):
        return RunFailed(
            f"your code failed: {what_failed(error)}",
            where=place,
            fix="Mend it; `fedmodel check FILE.py:NAME` tries it alone.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return RunFailed(
            f"{os.fspath(error.filename)} cannot be used: {error.strerror}",
            fix="Give a place that can be written to, with room on the disk.",
        )
    return None


if __name__ == "__main__":
    main()
