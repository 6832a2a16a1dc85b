"""Sums that leave a client: together equal to pandas on pooled records, and silent on few of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.data import client_file, sums
from fedmodel.data.client_file import ClientFile
from fedmodel.data.histogram import quantile
from fedmodel.data.sums import client_sums, pooled
from fedmodel.errors import FedmodelError


@pytest.fixture(params=["csv", "parquet"])
def told(request, tmp_path, monkeypatch):
    """Write a table and say what its client tells; it is read 7 records at a time."""
    monkeypatch.setattr(client_file, "RECORDS_A_PART", 7)

    def of(frame, *, client="north", missing=(), **options):
        path = tmp_path / f"{client}.{request.param}"
        if request.param == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        return client_sums(ClientFile(client=client, path=path, missing=missing), **options)

    return of


def table(size, seed):
    draw = np.random.default_rng(seed)
    weight = pd.Series(draw.normal(1e6, 14, size))  # far from 0: squares must not cancel
    weight[draw.random(size) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "weight": weight,
            "age": draw.integers(18, 90, size),
            "job": draw.choice(["cook", "nurse", None], size),
        }
    )


def test_sums_of_clients_are_those_of_pandas_on_all_records(told):
    tables = [table(size, size) for size in (40, 61, 53)]
    clients = [told(frame, client=f"c{i}", limits=True) for i, frame in enumerate(tables)]
    whole = pd.concat(tables)
    assert sum(c.records for c in clients) == len(whole)
    for name in ("weight", "age"):
        together = pooled([c.columns[name] for c in clients])
        assert together.numbers == whole[name].count()
        assert together.missing == whole[name].isna().sum()
        assert together.mean == pytest.approx(whole[name].mean(), rel=1e-12)
        assert together.deviation == pytest.approx(whole[name].std(ddof=0), rel=1e-9)
        assert (together.lowest, together.highest) == (whole[name].min(), whole[name].max())
        for share in (0.25, 0.5, 0.75):
            low, high = quantile([c.columns[name].histogram for c in clients], share)
            exact = np.quantile(whole[name].dropna(), share, method="inverted_cdf")
            assert low <= exact < high
    jobs = pooled([c.columns["job"] for c in clients])
    assert jobs.categories == whole["job"].value_counts().to_dict()
    assert jobs.missing == whole["job"].isna().sum()


def test_nothing_is_told_of_few_records(told):
    frame = pd.DataFrame({"job": ["cook"] * 9 + ["mayor"] * 4, "dose": [None] * 9 + [7.25] * 4})
    answer = told(frame)
    assert answer.columns["job"].categories == {"cook": 9} and answer.columns["job"].rare == 4
    dose = answer.columns["dose"]
    assert (dose.mean, dose.squares, dose.histogram, dose.categories) == (None, None, None, {})
    assert "mayor" not in repr(answer) and "7.25" not in repr(answer)
    assert told(frame, minimum=1).columns["dose"].mean == 7.25
    lone = told(pd.DataFrame({"x": np.linspace(3.21, 98.76, 30)}))
    assert lone.columns["x"].lowest is None
    edges = lone.columns["x"].histogram.edges
    assert edges.min() > 3.21 + 3 and edges.max() < 98.76 - 3


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1), st.integers(1, 6))
def test_a_category_is_told_from_the_minimum_on(words, minimum):
    running = sums._Running()
    running.add(pd.Series(words, dtype="str"))
    column = running.told(minimum, False)
    counts = pd.Series(words).value_counts()
    assert column.categories == counts[counts >= minimum].to_dict()
    assert column.rare == counts[counts < minimum].sum()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", None], "number"),
        (["a", "b", None], "category"),
        (["1", "2", "x"], "mixed"),
        (["1", "x", "y"], "category"),
        ([None, None, None], "empty"),
        (["True", "False", None], "category"),
        (["1", "inf", "3"], "mixed"),
    ],
)
def test_what_kind_of_column_it_is(told, values, kind):
    frame = pd.DataFrame({"x": pd.Series(values, dtype="str"), "y": [1, 2, 3]})
    assert told(frame, minimum=1).columns["x"].kind == kind


def test_words_that_mean_missing(told):
    frame = pd.DataFrame({"x": ["1", "?", "3"], "y": 1})
    column = told(frame, missing=("?",)).columns["x"]
    assert (column.kind, column.missing) == ("number", 1)


def test_names_and_ids_are_not_counted(told, monkeypatch):
    monkeypatch.setattr(sums, "MOST_WORDS", 10)
    column = told(pd.DataFrame({"id": [f"p{i}" for i in range(30)] * 6})).columns["id"]
    assert column.many and not column.categories


def test_sums_of_converted_values_are_the_converted_sums(told):
    frame = table(50, 1)
    there = told(frame, limits=True).columns["age"].converted(0.5, 3.0, {})
    here = told(frame.assign(age=0.5 * frame["age"] + 3), limits=True).columns["age"]
    assert there.mean == pytest.approx(here.mean)
    assert there.squares == pytest.approx(here.squares)
    assert (there.lowest, there.highest) == (here.lowest, here.highest)
    low, high = quantile([there.histogram], 0.5)
    exact = np.quantile(0.5 * frame["age"] + 3, 0.5, method="inverted_cdf")
    assert low <= exact < high
    jobs = told(frame).columns["job"].converted(1, 0, {"cook": "x", "nurse": "x"})
    assert jobs.categories == {"x": frame["job"].count()}


def test_a_column_twice_and_other_files_that_are_none(tmp_path):
    path = tmp_path / "north.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(FedmodelError, match="cannot be read as Parquet"):
        client_sums(ClientFile(client="north", path=path))
    with pytest.raises(FedmodelError, match=r"no file south\.csv"):
        client_sums(ClientFile(client="south", path=tmp_path / "south.csv"))


@pytest.mark.parametrize(
    ("text", "separator", "decimal"),
    [
        ("a,b\n1,2\n", ",", "."),
        ("a;b,c;d\n1;2;3\n", ";", "."),
        ("a\tb\n1.5\t2\n", "\t", "."),
        ("a\n1\n", ",", "."),
        ("a;b\n1,5;x\n2;y\n", ";", ","),
        ("a;b\n1,5;x\n2.5;y\n", ";", "."),
        ("a;b\nx, y;1\n", ";", "."),
    ],
)
def test_how_a_file_is_written(tmp_path, text, separator, decimal):
    (tmp_path / "t.csv").write_text(text)
    file = client_file.as_written("t", tmp_path / "t.csv")
    assert (file.separator, file.decimal) == (separator, decimal)
