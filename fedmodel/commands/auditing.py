"""Attacks on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from fedmodel.commands.completing import audit_names
from fedmodel.commands.options import RUN
from fedmodel.errors import FedmodelError
from fedmodel.terminal import err, out, overrides

__all__ = ["audit"]


def audit(
    subject: Annotated[Path, RUN],
    audits: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--audit",
            metavar="NAME",
            help="Only this audit; may be repeated.",
            autocompletion=audit_names,
        ),
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
    from fedmodel.display.results import findings_table

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
