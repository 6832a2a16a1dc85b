"""The command line: which commands there are, and never a bare traceback for a user's mistake."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import NoReturn

import click
import typer
import typer.core

from fedmodel.commands import (
    auditing,
    comparing,
    composing,
    diagnosing,
    evaluating,
    looking,
    planning,
    predicting,
    running,
    schema,
    starting,
)
from fedmodel.errors import FedmodelError, RunFailed, user_place
from fedmodel.terminal import err, tell, told

INTERRUPTED = 130  # what typer makes of Ctrl-C

typer.core.HAS_RICH = False  # else help has a stray backslash before [default: ...]

app = typer.Typer(
    name="fedmodel",
    help="Federated-learning experiments that show privacy, fairness and robustness.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(diagnosing.any_command)
app.command(epilog=running.EXAMPLE)(running.run)
app.command()(running.resume)
app.command()(running.validate)
app.command("list")(looking.list_)
app.command()(looking.show)
app.command()(looking.check)
app.command()(auditing.audit)
app.command()(comparing.compare)
app.command()(comparing.export)
app.command()(schema.schema)
app.command()(predicting.predict)
app.command()(evaluating.evaluate)
app.command()(starting.init)
app.command()(diagnosing.doctor)

privacy = typer.Typer(name="privacy", help="What differential privacy costs.", no_args_is_help=True)
privacy.command("plan")(planning.privacy_plan)
privacy.command("total")(composing.privacy_total)
app.add_typer(privacy)


def main() -> NoReturn:
    """Entry point: mistakes become one screen of text and exit code 2, failed runs 1."""
    try:
        code = app(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as nothing:
        err.print(nothing.format_message(), markup=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as ended:
        if not _within_a_command(ended):
            raise  # so click and typer end when they have answered the shell: completion
        tell(
            RunFailed(
                "your code ended the program before the command was done",
                where=user_place(ended),
                fix="Raise an error in place of `sys.exit` or `exit`.",
            )
        )
        sys.exit(1)
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
    if code == INTERRUPTED:
        err.print("stopped at once", style="yellow")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _within_a_command(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parent == Path(running.__file__).parent for frame in frames)


if __name__ == "__main__":
    main()
