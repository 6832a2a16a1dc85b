"""One client's file, read in parts so that its size does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from fedmodel.data.reading import check_file, reading
from fedmodel.data.records import as_text
from fedmodel.errors import FedmodelError

__all__ = ["ClientFile", "as_written", "parts", "to_numbers", "to_text"]

RECORDS_A_PART = 50_000
SAMPLE = 1_000  # records that tell how numbers are written


@dataclass(frozen=True, kw_only=True)
class ClientFile:
    """Where a client's records are, and how they are written there (the rest is for CSV only)."""

    client: str
    path: Path
    separator: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()  # words that mean "no value" beside those that pandas knows


def parts(file: ClientFile) -> Iterator[pd.DataFrame]:
    """The records in parts, with their numbers as index, counted from 1. CSV cells are text.

    Raises:
        FedmodelError: the file is not there, empty, no such table, or has a column twice.
    """
    check_file(file.path)
    what = "Parquet" if file.path.suffix == ".parquet" else "CSV"
    fix = (
        "Write it anew with pandas or pyarrow."
        if what == "Parquet"
        else "Save it as CSV in UTF-8, with as many columns in each line as in the header; what "
        f'separates them is written [clients.{file.client}] separator = ";".'
    )
    begin = 1
    with reading(file.path, kind=what, fix=fix):
        reader = _parquet(file) if what == "Parquet" else _csv(file)
    while True:
        with reading(file.path, kind=what, fix=fix):
            part = next(reader, None)
        if part is None:
            break
        part = part.set_axis(part.columns.map(str), axis="columns")
        if not part.columns.is_unique:
            raise FedmodelError(
                f"{file.path.name} of client {file.client} has two columns "
                f"{part.columns[part.columns.duplicated()][0]!r}",
                where=str(file.path),
                fix="Rename or leave out one of them.",
            )
        part.index = pd.RangeIndex(begin, begin + len(part))
        begin += len(part)
        yield part
    if begin == 1:
        raise FedmodelError(
            f"{file.path.name} of client {file.client} has no records",
            where=str(file.path),
            fix="Fill it, or leave this client out.",
        )


def _csv(file: ClientFile) -> Iterator[pd.DataFrame]:
    return iter(
        pd.read_csv(
            file.path,
            sep=file.separator,
            encoding="utf-8-sig",
            na_values=list(file.missing),
            skipinitialspace=True,
            index_col=False,
            dtype="str",
            chunksize=RECORDS_A_PART,
        )
    )


def _parquet(file: ClientFile) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path) as opened:
        for batch in opened.iter_batches(batch_size=RECORDS_A_PART):
            part = batch.to_pandas().reset_index(drop=True)
            yield part.where(~part.isin(file.missing)) if file.missing else part


def as_written(client: str, path: Path, *, missing: tuple[str, ...] = ()) -> ClientFile:
    """A client's file, with what seems to separate its columns and its decimals.

    The separator is that of , ; | and tab which is most often in the header; a comma is a decimal
    one where a column holds nothing but such numbers in its first records.

    Raises:
        FedmodelError: the file is not there, empty, or no text.
    """
    check_file(path)
    if path.suffix == ".parquet":
        return ClientFile(client=client, path=path, missing=missing)
    with reading(path, kind="CSV", fix="Save it as CSV in UTF-8, with a header."):
        header = pd.read_csv(path, sep="\x01", nrows=0, encoding="utf-8-sig")
    line = " ".join(map(str, header.columns))
    separator = max(",;\t|", key=line.count)
    file = ClientFile(client=client, path=path, separator=separator, missing=missing)
    if separator == ",":
        return file
    first = next(parts(file)).head(SAMPLE)
    columns = [first[name].dropna() for name in first]
    comma = any(
        len(c) and c.str.fullmatch(r"-?\d+(,\d+)?").all() and c.str.contains(",").any()
        for c in columns
    )
    return replace(file, decimal="," if comma else ".")


def to_numbers(values: pd.Series, *, decimal: str = ".") -> Float[np.ndarray, " n"]:
    """Finite numbers as float64; NaN for anything else, truth values among it."""
    if pd.api.types.is_bool_dtype(values):
        return np.full(len(values), np.nan)
    if not pd.api.types.is_numeric_dtype(values):
        values = values.astype("str").str.strip()
        if decimal != ".":
            values = values.str.replace(decimal, ".", regex=False)
        values = pd.to_numeric(values, errors="coerce")
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def to_text(values: pd.Series) -> pd.Series:
    """Values as text, missing ones kept; 1.0 is 1, which many programs write for it."""
    text = as_text(values).str.strip()
    return text.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
