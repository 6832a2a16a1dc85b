"""The first files of an experiment."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fedmodel.errors import FedmodelError
from fedmodel.terminal import out

__all__ = ["init"]


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", hidden=True)],
) -> None:
    """Start an experiment of your own: an experiment file, two plug-ins, their test.

    DIR is a new folder, or an empty one.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FedmodelError(
            f"{folder} is not empty" if folder.is_dir() else f"{folder} is a file",
            where="fedmodel init",
            fix="Give a new folder: nothing is written over.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((files("fedmodel") / "template").iterdir(), key=lambda file: file.name):
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
            out.print(f"wrote {escape(str(folder / file.name))}", soft_wrap=True)
    out.print(f"README.md says how to go on: cd {escape(str(folder))}", soft_wrap=True)
