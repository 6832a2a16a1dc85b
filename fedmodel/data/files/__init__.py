"""The data sets that come with fedmodel, as Parquet; PROVENANCE.md says where each is from."""

from __future__ import annotations

from importlib.resources import as_file, files

import pandas as pd

__all__ = ["read_shipped"]


def read_shipped(name: str) -> pd.DataFrame:
    """One of the shipped tables, as it was published: nothing dropped, nothing filled in."""
    with as_file(files(__name__) / f"{name}.parquet") as path:
        return pd.read_parquet(path)
