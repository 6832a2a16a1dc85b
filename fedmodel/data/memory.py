"""Whether a table fits into memory: told before it is loaded, not by the system's killer after."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import psutil

from fedmodel.errors import FedmodelError

__all__ = ["bytes_needed", "check_memory"]

SAMPLE = 1_000  # records that the estimate looks at
COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
TIMES_LARGER = 6  # text, unpacked: a usual figure
MOST_TIMES = 30  # a table in memory over its text: two characters become a float64 and two float32


def bytes_needed(path: Path, *, separator: str = ",") -> int:
    """About how much memory an experiment on this table takes, in bytes.

    Twice the table (while it is read), and twice its columns as float32 (the encoded records, and
    in the order of clients). From the first records, their size, and the size of the file.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            records = file.metadata.num_rows
            batch = next(file.iter_batches(batch_size=SAMPLE), None)
            sample = batch.to_pandas() if batch is not None else pd.DataFrame()
    else:
        sample = pd.read_csv(
            path, sep=separator, encoding="utf-8-sig", nrows=SAMPLE, index_col=False
        )
        records = len(sample)
        if records == SAMPLE:
            size = _unpacked(path) * SAMPLE
            records = size // len(sample.to_csv(index=False).encode())
    if sample.empty:
        return 0
    table = int(sample.memory_usage(deep=True).sum()) * records // len(sample)
    return 2 * table + 2 * 4 * records * sample.shape[1]


def check_memory(*paths: Path, separator: str = ",") -> None:
    """Refuse tables that together need more memory than there is free.

    Raises:
        FedmodelError: with how much is needed and how much is free.
    """
    free = psutil.virtual_memory().available
    texts = all(path.suffix != ".parquet" for path in paths)
    if texts and MOST_TIMES * sum(map(_unpacked, paths)) < free:
        return
    if (needed := sum(_estimate(path, separator) for path in paths)) > free:
        raise FedmodelError(
            f"{', '.join(path.name for path in paths[:3])}{' ...' if len(paths) > 3 else ''} would "
            f"need about {_gigabytes(needed)} of memory, and {_gigabytes(free)} are free",
            where=str(paths[0]),
            fix="Keep only the columns and the records that you need in the file, or use a machine "
            "with more memory. `fedmodel schema` reads a file in parts, whatever its size.",
        )


def _estimate(path: Path, separator: str) -> int:
    try:
        with warnings.catch_warnings(action="ignore"):
            return bytes_needed(path, separator=separator)
    except Exception:  # a file that cannot be read: its reader says so
        return 0


def _unpacked(path: Path) -> int:
    return path.stat().st_size * (TIMES_LARGER if path.suffix in COMPRESSED else 1)


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
