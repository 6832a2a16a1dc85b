"""A user's file read, or told what is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from fedmodel.data.memory import check_memory
from fedmodel.errors import FedmodelError

__all__ = ["check_file", "check_header", "read_file", "reading"]


def read_file(
    path: Path, read: Callable[[], pd.DataFrame], *, kind: str, fix: str, separator: str = ","
) -> pd.DataFrame:
    """What `read` makes of the file at `path`; column names become text.

    `kind` and `fix` say what was expected and what to do, should `read` fail.

    Raises:
        FedmodelError: the file is not there, is empty, is too large for memory, cannot be read or
            has no records.
    """
    check_file(path)
    with reading(path, kind=kind, fix=fix):
        check_memory(path, separator=separator)
        if kind == "CSV":
            check_header(path, separator)
        frame = read()
    if frame.empty:
        raise FedmodelError(
            "the file has no records", where=str(path), fix="Fill it, or name another file."
        )
    frame = frame.reset_index(drop=frame.index.name is None)  # pandas may have made a column one
    return frame.set_axis(frame.columns.map(str), axis="columns")


def check_header(path: Path, separator: str = ",") -> None:
    """Refuse a CSV file with two columns of one name, which pandas would rename without a word."""
    header = pd.read_csv(
        path,
        sep=separator,
        encoding="utf-8-sig",
        skipinitialspace=True,
        header=None,
        nrows=1,
        index_col=False,
        dtype="str",
    )
    names = header.iloc[0].dropna()
    if names.duplicated().any():
        raise FedmodelError(
            f"two columns are called {names[names.duplicated()].iloc[0]!r}",
            where=str(path),
            fix="Rename one of them in the first line, or take it out of the file.",
        )


def check_file(path: Path) -> None:
    """Refuse a table's file that is not there, or empty."""
    if not path.is_file():
        # By their stems, for endings are all alike; an experiment is not a table.
        files = path.parent.iterdir() if path.parent.is_dir() else ()
        tables = [file for file in files if file.suffix != ".toml"]
        beside = {f.stem: f.name for f in sorted(tables, key=lambda f: f.suffix == path.suffix)}
        near = [beside[stem] for stem in get_close_matches(path.stem, beside, n=1)]
        raise FedmodelError(
            f"there is no file {path.name}",
            where=str(path),
            fix=f"Did you mean `{near[0]}`?" if near else "Check the path and the file's name.",
        )
    if path.stat().st_size == 0:
        raise FedmodelError("the file is empty", where=str(path), fix="Fill it or name another.")


@contextmanager
def reading(path: Path, *, kind: str, fix: str) -> Iterator[None]:
    """What the readers raise inside, as one error about the file."""
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            yield
    except FedmodelError:
        raise
    except Exception as error:  # the readers raise many kinds, all about this one file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FedmodelError(
            f"the file cannot be read as {kind}: {reason[0]}", where=str(path), fix=fix
        ) from error
