"""Records that a saved model has not seen: read, and refused where they do not fit what it reads."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from fedmodel.data.encoder import Category, Number
from fedmodel.data.hashing import HashedText
from fedmodel.data.reading import read_file
from fedmodel.data.records import as_text
from fedmodel.data.saved import Reading
from fedmodel.errors import FedmodelError, nearest

__all__ = ["MISSING_WORDS", "fitted", "read_unseen"]

MOST_NAMED = 3  # records, values and columns that an error quotes of each kind
MOST_COLUMNS = 5
WIDTH = 100

# What pandas takes for "no value" in a CSV file; see the reference of pandas.read_csv, na_values.
MISSING_WORDS = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "n/a", "NA", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    ]
)


def read_unseen(
    path: Path, reading: Reading, *, separator: str = ",", missing: Sequence[str] = ()
) -> pd.DataFrame:
    """A table of records: Parquet by its suffix, anything else as CSV, whose cells stay text.

    In a CSV file an empty cell, `missing` and what pandas takes for it mean "no value" in the
    columns that the model reads, unless they are one of a column's categories.

    Raises:
        FedmodelError: it is not there, cannot be read, or has no records.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        fix = "Write it anew with pandas or pyarrow; a CSV file has another suffix."
        return read_file(path, lambda: pd.read_parquet(path), kind="Parquet", fix=fix)
    frame = read_file(
        path,
        lambda: pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            dtype="str",
            keep_default_na=False,
            skipinitialspace=True,
            index_col=False,
        ),
        kind="CSV",
        fix=f"Save the table as CSV in UTF-8 with {separator!r} between columns, and as many "
        "columns in each line as in the header, or as Parquet.",
    )
    header = str(frame.columns[0])
    if frame.shape[1] == 1 < len(reading.columns) and (other := re.search("[;,\t|]", header)):
        raise FedmodelError(
            f"the file has one column, which looks like several separated by {other[0]!r}",
            where=str(path),
            fix=f"Put {separator!r} between the columns, as in the run's own file, or save it as "
            "Parquet.",
        )
    if isinstance(reading.encoder, HashedText):
        return frame
    words = MISSING_WORDS | set(missing)
    for column in reading.encoder.columns:
        if column.name in frame:
            known = set(column.categories) if isinstance(column, Category) else set()
            lacking = frame[column.name].isin(list(words - known))
            frame[column.name] = frame[column.name].mask(lacking)
    return frame


def fitted(
    frame: pd.DataFrame,
    reading: Reading,
    *,
    keep: Sequence[str] = (),
    allow_unknown: bool = False,
    where: str = "the records",
) -> tuple[pd.DataFrame, list[str]]:
    """The columns that the encoder takes, as it takes them, and notes on what it fills in.

    A category that the model does not know is refused, unless `allow_unknown`: then it counts as
    none of the known ones. `keep` names further columns, which are left out here.

    Raises:
        FedmodelError: columns are missing or too many, or values cannot be read: which records,
            which values, and what the model knows.
    """
    _check_columns(frame, reading, keep=keep, where=where)
    columns, faults, notes = {}, [], []
    encoder = reading.encoder
    readers = [encoder] if isinstance(encoder, HashedText) else encoder.columns
    for reader in readers:
        name = reader.column if isinstance(reader, HashedText) else reader.name
        values = frame[name].reset_index(drop=True)
        if isinstance(reader, HashedText):
            columns[name], fault, note = _text(values)
        elif isinstance(reader, Number):
            columns[name], fault, note = _number(values, reader)
        else:
            columns[name], fault, note = _category(values, reader, allow_unknown=allow_unknown)
        if fault:
            faults.append(textwrap.fill(f"{name!r} {fault}", WIDTH, subsequent_indent="    "))
        if note:
            notes.append(f"{name!r}: {note}.")
    if faults:
        more = len(faults) - MOST_COLUMNS
        lines = faults[:MOST_COLUMNS] + ([f"and {more} more columns"] if more > 0 else [])
        what = "a column holds" if len(faults) == 1 else f"{len(faults)} columns hold"
        option = any("unknown to the model" in fault for fault in faults)
        raise FedmodelError(
            f"{what} what the model cannot read",
            where=textwrap.indent("\n".join([f"{where}:", *lines]), "  "),
            fix="Correct these values, or empty the cells if nothing is known."
            + " With `--allow-unknown` (in Python allow_unknown=True) an unknown category counts "
            "as none of the known ones." * option,
        )
    return pd.DataFrame(columns), notes


def _check_columns(
    frame: pd.DataFrame, reading: Reading, *, keep: Sequence[str], where: str
) -> None:
    if frame.empty:
        raise FedmodelError("there are no records", where=where, fix="Give one at least.")
    names = list(map(str, frame.columns))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FedmodelError(
            f"there are two columns {twice[0]!r}", where=where, fix="Leave one of them out."
        )
    needed = reading.columns
    if lacking := [name for name in needed if name not in names]:
        rest = [name for name in names if name not in needed]
        raise FedmodelError(
            f"the model reads {_some(lacking)}, which {_are(lacking)} not among the columns",
            where=where,
            fix=f"Add {'it' if len(lacking) == 1 else 'them'}: with empty cells, if nothing is "
            "known." + (f" {nearest(lacking[0], rest, what='it reads none of')}" if rest else ""),
        )
    if strange := [name for name in keep if name not in names]:
        raise FedmodelError(
            f"there is no column {strange[0]!r} to keep",
            where=where,
            fix=nearest(strange[0], names, what="they have"),
        )
    if extra := [name for name in names if name not in needed and name not in keep]:
        options = " ".join(f"--keep {shlex.quote(name)}" for name in extra[:MOST_NAMED])
        raise FedmodelError(
            f"the model does not read {_some(extra)}",
            where=where,
            fix=f"Leave {'it' if len(extra) == 1 else 'them'} out, or carry over into the "
            f"predictions: {options}{' ...' if len(extra) > MOST_NAMED else ''}. "
            f"The model reads: {', '.join(needed[:20])}{' ...' if len(needed) > 20 else ''}.",
        )


def _number(values: pd.Series, column: Number) -> tuple[pd.Series, str, str]:
    """As float64; no dates, no words, nothing infinite."""
    kind = values.dtype
    if not (pd.api.types.is_numeric_dtype(kind) or _holds_text(values)):
        return values, f"is of type {kind}, and the model reads numbers there", ""
    if _holds_text(values) and values.dropna().isin(["True", "False", "TRUE", "FALSE"]).all():
        values = values.map({"True": 1, "False": 0, "TRUE": 1, "FALSE": 0})
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    lacking = values.isna().to_numpy()
    wrong = numbers.isna().to_numpy() & ~lacking
    if wrong.any():
        return numbers, f"has no number in {_records(wrong, values)}", ""
    if (endless := np.isinf(numbers.to_numpy())).any():
        return numbers, f"is infinite in {_records(endless, values)}", ""
    if not lacking.any():
        return numbers, "", ""
    if not column.may_miss:
        return numbers, f"has no value in {_records(lacking)}, and the model reads no gaps", ""
    note = f"no value in {_records(lacking)}, taken as the middle of its scale"
    return numbers, "", "" if column.indicator else note


def _category(
    values: pd.Series, column: Category, *, allow_unknown: bool
) -> tuple[pd.Series, str, str]:
    """As text; a whole number may be written with a decimal point."""
    known = set(column.categories)
    text = as_text(values)
    whole = text.map(lambda word: re.sub(r"^(-?\d+)\.0+$", r"\1", word), na_action="ignore")
    text = text.where(text.isin(known), whole)
    lacking = text.isna().to_numpy()
    unknown = ~text.isin(known).to_numpy() & ~lacking
    if unknown.any():
        told = f"{_records(unknown, values)}"
        if allow_unknown:
            return text, "", f"a category unknown to the model in {told}, taken as none"
        knows = ", ".join(column.categories[:20]) + (" ..." if len(known) > 20 else "")
        return text, f"has categories unknown to the model in {told}. It knows: {knows}", ""
    note = f"no value in {_records(lacking)}, taken as none of its categories"
    return text, "", note if lacking.any() and not column.indicator else ""


def _text(values: pd.Series) -> tuple[pd.Series, str, str]:
    if not _holds_text(values):
        return values, f"is of type {values.dtype}, and the model reads texts there", ""
    wrong = np.array([not isinstance(value, str) for value in values]) & values.notna().to_numpy()
    if wrong.any():
        return values, f"has no text in {_records(wrong, values)}", ""
    empty = (values.isna() | (values.astype("str").str.strip() == "")).to_numpy()
    return values, "", f"no text in {_records(empty)}" if empty.any() else ""


def _holds_text(values: pd.Series) -> bool:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = pd.Series(values.cat.categories)
    return pd.api.types.is_object_dtype(values.dtype) or pd.api.types.is_string_dtype(values.dtype)


def _records(which: Bool[np.ndarray, " n"], values: pd.Series | None = None) -> str:
    """How many records and the first of them, counted from 1: ``3 records: 'X' (record 2), ...``."""
    found = np.flatnonzero(which)
    first = [
        f"record {row + 1}" if values is None else f"{str(values[row])[:30]!r} (record {row + 1})"
        for row in found[:MOST_NAMED]
    ]
    count = f"{len(found):,} record{'s' * (len(found) > 1)}"
    return f"{count}: {', '.join(first)}{' ...' if len(found) > MOST_NAMED else ''}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    told = ", ".join(map(repr, names[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
    return f"the column{'s' * (len(names) > 1)} {told}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
