"""A table too large for memory is refused with the figure, before it is loaded."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fedmodel.data import memory
from fedmodel.data.tables import csv, parquet
from fedmodel.errors import FedmodelError


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({f"number {k}": draw.normal(size=20_000) for k in range(5)})
    frame = frame.assign(word=draw.choice(["a", "several words"], 20_000), y=frame.index % 2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    return tmp_path, frame


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_the_estimate_is_near_what_the_table_takes(table, name):
    folder, frame = table
    exact = 2 * frame.memory_usage(deep=True).sum() + 8 * frame.size
    assert memory.bytes_needed(folder / name) == pytest.approx(exact, rel=0.05)


def test_a_compressed_file_is_counted_unpacked(table):
    folder, _ = table
    ratio = memory.bytes_needed(folder / "t.csv.gz") / memory.bytes_needed(folder / "t.csv")
    assert 0.3 < ratio < 10


@pytest.mark.parametrize(("read", "name"), [(csv, "t.csv"), (parquet, "t.parquet")])
def test_what_does_not_fit_is_refused_with_the_figures(table, monkeypatch, read, name):
    folder, _ = table
    free = SimpleNamespace(available=1_000_000)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(FedmodelError, match=r"about \d\.\d MB .* and 1\.0 MB are free") as error:
        read(path=folder / name, label="y")
    assert "columns" in error.value.fix and name in error.value.where


def test_what_fits_is_read(table, monkeypatch):
    folder, frame = table
    free = SimpleNamespace(available=int(1.2 * memory.bytes_needed(folder / "t.csv")))
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    assert len(csv(path=folder / "t.csv", label="y")) == len(frame)
