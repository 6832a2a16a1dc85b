"""Data sets read from a user's table: a CSV or a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from fedmodel.data.columns import records_of
from fedmodel.data.reading import read_file
from fedmodel.data.records import Records

__all__ = ["csv", "parquet"]


def csv(
    *,
    path: Path,
    label: str,
    sensitive: tuple[str, ...] = (),
    bins: Mapping[str, tuple[float, ...]] | None = None,
    client: str | None = None,
    features: tuple[str, ...] | None = None,
    split: str | None = None,
    positive: str | None = None,
    text: str | None = None,
    max_tokens: int = 64,
    buckets: int = 8192,
    separator: str = ",",
    missing: tuple[str, ...] = (),
    epsilon_column: str | None = None,
) -> Records:
    """A CSV file with one record a line and a header, in UTF-8; may be compressed (.gz, .zip).

    Args:
        path: the file.
        label: column of the class. Of two classes the last by name or size is the positive one,
            unless `positive` names it.
        sensitive: columns of sensitive attributes. They are features too, unless `features`
            leaves them out. Who lacks a value belongs to the level "unknown".
        bins: edges at which to cut sensitive numbers, e.g. ``{ age = [45, 60] }``.
        client: column that says which client a record belongs to.
        features: columns to learn from; default: all but label, client and split.
        split: column that says train, validation or test.
        text: column with texts to learn from, in place of features. Its words are hashed into
            `buckets`; the first `max_tokens` of a record count.
        separator: what stands between two columns.
        missing: words that mean "no value" beside an empty cell, NA, NaN, None and null.
        epsilon_column: `[privacy] epsilon_column`, which is then no feature.

    Raises:
        FedmodelError: the file or a column is not there or cannot be used as asked.
    """
    # Ids are names: 007 is not 7. Everything else is a number where all its values are.
    as_they_are = {name: "str" for name in (client, text) if name is not None}
    frame = read_file(
        path,
        lambda: pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            na_values=list(missing),
            skipinitialspace=True,
            low_memory=False,
            index_col=False,
            dtype=as_they_are,
        ),
        kind="CSV",
        fix="Save the table as CSV in UTF-8, with as many columns in each line as in the header, "
        'or say what separates them, e.g. separator = ";".',
        separator=separator,
    )
    return records_of(
        frame,
        path,
        label=label,
        sensitive=sensitive,
        bins=bins,
        client=client,
        features=features,
        split=split,
        positive=positive,
        text=text,
        max_tokens=max_tokens,
        buckets=buckets,
        epsilon=epsilon_column,
    )


def parquet(
    *,
    path: Path,
    label: str,
    sensitive: tuple[str, ...] = (),
    bins: Mapping[str, tuple[float, ...]] | None = None,
    client: str | None = None,
    features: tuple[str, ...] | None = None,
    split: str | None = None,
    positive: str | None = None,
    text: str | None = None,
    max_tokens: int = 64,
    buckets: int = 8192,
    epsilon_column: str | None = None,
) -> Records:
    """A Parquet file with one record a row. The options are those of `csv`.

    Raises:
        FedmodelError: the file or a column is not there or cannot be used as asked.
    """
    frame = read_file(
        path,
        lambda: _decimals_as_floats(pd.read_parquet(path)),
        kind="Parquet",
        fix='Write it anew with pandas or pyarrow; a CSV file is read by name = "csv".',
    )
    return records_of(
        frame,
        path,
        label=label,
        sensitive=sensitive,
        bins=bins,
        client=client,
        features=features,
        split=split,
        positive=positive,
        text=text,
        max_tokens=max_tokens,
        buckets=buckets,
        epsilon=epsilon_column,
    )


def _decimals_as_floats(frame: pd.DataFrame) -> pd.DataFrame:
    for name, kind in frame.dtypes.items():
        if (
            pd.api.types.is_object_dtype(kind)
            and pd.api.types.infer_dtype(frame[name], skipna=True) == "decimal"
        ):
            frame[name] = frame[name].astype(float)
    return frame
