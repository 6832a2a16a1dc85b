"""What the command line shows: a run's progress, and mistakes as one screen of text."""

from __future__ import annotations

import os
import re
import signal
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from fedmodel.errors import FedmodelError, RunFailed, shown, user_place, what_failed

__all__ = ["err", "follow", "follow_seeds", "out", "overrides", "tell", "tell_of_seeds", "told"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def overrides(pairs: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs as settings by dotted key; a value that is no TOML is a bare word."""
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


def tell_of_seeds(experiment: Any) -> None:
    """Say whose figures a look at an experiment shows, if it has several seeds."""
    if experiment.config.seeds:
        out.print(
            f"[yellow]note:[/] figures of seed {experiment.config.seed}, the first of "
            f"{len(experiment.config.seeds)}; what is drawn, e.g. the split, differs in the others."
        )


def follow(experiment: Any, start: Callable[[], Iterator[Any]]) -> None:
    """Show a run's progress, end it cleanly on Ctrl-C, and print where everything is."""
    from fedmodel.display.results import summary

    try:
        _watch(experiment, start, told=set())
    except BaseException:
        if experiment.folder is not None and experiment.folder.entries():
            _say_what_is_kept(experiment.folder.path)
        raise
    out.print(summary(experiment.run))
    _conclude(experiment.run)


def follow_seeds(repetition: Any) -> None:
    """Show the progress of one run after the other, then what they come to together."""
    from fedmodel.display.results import seeds_summary

    told: set[str] = set()
    try:
        for seed, experiment, left in repetition.left():
            out.print(f"[bold]seed {seed}[/]")
            _watch(experiment, partial(iter, left), told=told)
    except BaseException:
        if repetition.begun:
            repetition.finish()
            _say_what_is_kept(repetition.path)
        raise
    runs = repetition.finish()
    out.print(seeds_summary(runs))
    _conclude(runs)


def _watch(experiment: Any, start: Callable[[], Iterator[Any]], *, told: set[str]) -> None:
    """One run; `told` are the notes that the user has seen."""
    from fedmodel.display.progress import Progress

    try:
        with Progress(out, experiment) as progress, _interruptible(experiment):
            for note in experiment.built.notes:
                if note not in told:
                    lines = textwrap.fill(f"note: {note}", out.width - 2, subsequent_indent="  ")
                    progress.say(f"[yellow]note:[/]{escape(lines[len('note:') :])}")
            told.update(experiment.built.notes)
            experiment.say = lambda line: progress.say(escape(line))
            for finished in start():
                progress.advance(finished)
    except FedmodelError as error:  # raised where nobody knows the file
        error.where = experiment.source.place(error.where)
        raise


def _conclude(run: Any) -> None:
    if not run.manifest["finished"]:
        err.print(f"stopped early; go on with: fedmodel resume {escape(str(run.path))}")
        raise typer.Exit(1)


def _say_what_is_kept(folder: Path) -> None:
    told = [f"what was finished is kept; go on with: fedmodel resume {folder}"]
    if (folder / "plugins").is_dir():
        told.append(f"it takes your code from the copy in {folder / 'plugins'}")
    for line in told:
        out.print(escape(line), soft_wrap=True)  # a path is whole, to be copied


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


def tell(error: FedmodelError) -> None:
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


def told(error: Exception) -> FedmodelError | None:
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
