"""A federation of files looked at before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from fedmodel.commands.options import HIDDEN
from fedmodel.errors import FedmodelError
from fedmodel.terminal import out

if TYPE_CHECKING:
    from fedmodel.data.client_file import ClientFile

__all__ = ["schema"]


def schema(
    files: Annotated[list[Path], HIDDEN],
    label: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="COLUMN", help="Column that is to be predicted."),
    ] = None,
    sensitive: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="COLUMN", help="Sensitive attribute; may be repeated."),
    ] = None,
    missing: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="WORD", help="A word that means no value; may be repeated."),
    ] = None,
    minimum: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Nothing is told of fewer records.",
        ),
    ] = 5,
    limits: Annotated[
        bool, typer.Option("--limits", help="Tell lowest and highest values; they are records'.")
    ] = False,
    out_: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where the schema goes; a new file.",
        ),
    ] = Path("schema.toml"),
) -> None:
    """Write a schema of a federation from sums over its files, and say what does not fit, by client.

    FILES are tables (CSV, Parquet), one a client, which is called like its file; or one schema
    (.toml): then its clients' files are looked at through it, and nothing is written.
    """
    from fedmodel.data.proposal import propose, seen_through, written
    from fedmodel.data.readiness import readiness
    from fedmodel.data.schema import read_schema
    from fedmodel.data.sums import client_sums
    from fedmodel.display.plans import readiness_table

    if [path.suffix for path in files] == [".toml"]:
        (path,) = files
        plan, _ = read_schema(path)
        clients = plan.files(path.parent)
        sums = [client_sums(c, minimum=minimum, limits=limits, schema=plan) for c in clients]
        ready = readiness(sums, plan)
        out.print(readiness_table(ready))
        if not ready.fits:
            raise FedmodelError(
                "a run would refuse these files",
                where=str(path),
                fix='Correct the schema or the files as said above, or write outside = "missing" '
                "for a column whose odd values may be left out.",
            )
        out.print(f"[green]the files fit[/] {escape(str(path))}")
        if plan.label is None:
            out.print('[yellow]note:[/] it names no label yet: write label = "..." at its top')
        return
    if out_.exists():
        raise FedmodelError(
            f"{out_} is there already",
            where="--out",
            fix=f"Look at it by `fedmodel schema {out_}`, or name a new file: --out other.toml.",
        )
    clients = _clients(files, tuple(missing or ()))
    sums = [client_sums(c, minimum=minimum, limits=limits) for c in clients]
    plan = propose(sums, clients, base=out_.parent, label=label, sensitive=sensitive or ())
    out.print(readiness_table(readiness(seen_through(plan, sums), plan)))
    out_.write_text(written(plan, name=out_.name), encoding="utf-8")
    out.print(f"schema  {escape(str(out_))}", soft_wrap=True)


def _clients(paths: list[Path], missing: tuple[str, ...]) -> list[ClientFile]:
    from fedmodel.data.client_file import as_written

    names = [path.name.split(".")[0] for path in paths]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise FedmodelError(
            f"two files would make the client {twice!r}",
            where=", ".join(str(path) for path in paths),
            fix="A client is called like its file: rename one of them.",
        )
    return [as_written(name, path, missing=missing) for name, path in zip(names, paths)]
