"""CSV and Parquet files of a user's: what is read, and what each mistake is answered with."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pandas as pd
import pytest

from fedmodel.data.tables import csv, parquet
from fedmodel.errors import FedmodelError

TABLE = pd.DataFrame(
    {
        "age": [30, 40, 50, 60, 70, 80],
        "job": ["cook", "nurse", None, "cook", "cook", "nurse"],
        "sex": ["f", "m", "f", "m", "f", "m"],
        "site": ["007", "007", "7", "7", "9", "9"],
        "part": ["train", "test"] * 3,
        "sick": [0, 1, 0, 1, 1, 0],
    }
)


@pytest.fixture(params=[csv, parquet], ids=["csv", "parquet"])
def read(request, tmp_path):
    """Write a table in the format, then read it with the options."""

    def write_and_read(table=TABLE, **options):
        path = tmp_path / f"table.{request.param.__name__}"
        if request.param is csv:
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
        return request.param(path=path, **{"label": "sick", **options})

    return write_and_read


@pytest.fixture
def write(tmp_path):
    """Write text to a file and say where it is."""

    def to_file(content: str | bytes, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def refused(problem: str, call, **options) -> FedmodelError:
    with pytest.raises(FedmodelError, match=problem) as error:
        call(**options)
    assert error.value.where and error.value.fix
    return error.value


def test_each_column_gets_its_part(read):
    records = read(sensitive=("sex",), client="site", split="part")
    assert list(records.features) == ["age", "job", "sex"]
    assert records.classes == ("0", "1")
    assert records.label.cat.codes.tolist() == [0, 1, 0, 1, 1, 0]
    assert records.clients.tolist() == ["007", "007", "7", "7", "9", "9"]
    assert records.split.tolist() == ["train", "test"] * 3
    assert records.attributes == {"sex": ("f", "m")}
    assert records.ranges == {}


def test_the_named_features_only(read):
    assert list(read(features=("job", "age")).features) == ["job", "age"]


def test_the_positive_class_is_the_named_one(read):
    assert read(positive="0").classes == ("1", "0")
    assert read(label="sex", positive="f").classes == ("m", "f")
    assert read(label="sex").classes == ("f", "m")


def test_a_sensitive_number_is_cut(read):
    records = read(sensitive=("age",), bins={"age": (45, 60)})
    assert records.attributes == {"age": ("under 45", "45-59", "60 and over")}


def test_texts(read):
    table = TABLE.assign(note=["one 1", "2", "03", "four", None, "six"])
    records = read(table, text="note", sensitive=("sex",), max_tokens=3, buckets=10)
    assert records.features is None and records.text.tolist() == [
        "one 1",
        "2",
        "03",
        "four",
        "",
        "six",
    ]
    assert (records.max_tokens, records.buckets) == (3, 10)


def test_constant_columns_are_fine(read):
    assert set(read(TABLE.assign(same=1, word="x")).features["word"]) == {"x"}


def test_other_separators_and_words_for_missing(write):
    path = write("a;b;y\n1;?;no\n2;n/s;yes\n3;4;no\n")
    records = csv(path=path, label="y", separator=";", missing=("?", "n/s"))
    assert records.features["b"].tolist()[2] == 4
    assert records.features["b"].isna().tolist() == [True, True, False]


def test_spaces_after_commas_and_a_byte_order_mark(write):
    path = write("\ufeffy, a\n yes, 1\n no, 2\n".encode())
    assert csv(path=path, label="y").classes == ("no", "yes")


def test_decimals_are_numbers(tmp_path):
    table = pd.DataFrame({"sum": [Decimal("1.5"), None, Decimal("2")], "y": [0, 1, 1]})
    table.to_parquet(tmp_path / "t.parquet")
    records = parquet(path=tmp_path / "t.parquet", label="y")
    assert records.features["sum"].tolist()[::2] == [1.5, 2.0]


@pytest.mark.parametrize("call", [csv, parquet])
def test_files_that_cannot_be_read(call, tmp_path, write):
    path = write("", "empty")
    assert (
        "Did you mean `empty`?"
        in refused("no file emty", call, path=tmp_path / "emty", label="y").fix
    )
    refused("no file", call, path=tmp_path / "nowhere" / "t", label="y")
    refused("no file", call, path=tmp_path, label="y")
    refused("empty", call, path=path, label="y")
    refused("cannot be read as", call, path=write(b"\xff\xfe\x00\x9c" * 9), label="y")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a,y\n1,0\n1,0,3,4\n", "cannot be read as CSV"),
        ("a,y\n1,0,5\n1,0,3\n", "cannot be read as CSV"),
        ("a,y\n", "no records"),
        ("\n\n", "cannot be read as CSV"),
    ],
)
def test_tables_that_are_none(write, content, problem):
    refused(problem, csv, path=write(content), label="y")


def test_a_missing_column_is_named_with_the_nearest(read):
    assert "`sick`" in refused("no column 'sik'", read, label="sik").fix
    assert "`sex`" in refused("no column 'sxe'", read, sensitive=("sxe",)).fix
    for option in ("client", "split", "text"):
        refused("no column 'what'", read, **{option: "what"})
    refused("no column 'what'", read, features=("age", "what"))


@pytest.mark.parametrize(
    ("changes", "options", "problem"),
    [
        ({"sick": [0, 1, None, 1, 1, 0]}, {}, "1 record has no label in 'sick': record 3"),
        ({"sick": [1] * 6}, {}, "'1' in every record"),
        ({"sick": [0.5, 1.5, 0, 1, 1, 0]}, {}, "has 4 values"),
        ({}, {"positive": "yes"}, "'yes' is not among"),
        ({"sick": [0, 1, 2, 0, 1, 2]}, {"positive": "1"}, "3 classes"),
        ({"part": ["train", "dev"] * 3}, {"split": "part"}, "says 'dev'"),
        ({"part": ["train", None] * 3}, {"split": "part"}, "3 records have no split"),
        ({"part": ["train"] * 6}, {"split": "part"}, "says test nowhere"),
        ({"part": ["test"] * 6}, {"split": "part"}, "says train nowhere"),
        ({"site": ["a", None] * 3}, {"client": "site"}, "no client id in 'site': record 2, 4, 6"),
        ({"age": ["1", "2", "3", "4", "x", "65+"]}, {}, "numbers with 'x', '65\\+': record 5, 6"),
        ({}, {"features": ("age", "sick")}, "is the label"),
        ({}, {"sensitive": ("sick",)}, "is the label"),
        ({}, {"features": ("age", "age")}, "named twice"),
        ({}, {"client": "sick"}, "two roles"),
        ({}, {"text": "job", "features": ("age",)}, "both text and features"),
        ({"age": range(100, 106)}, {"sensitive": ("age",), "bins": {"age": ()}}, "bins of 'age'"),
    ],
)
def test_columns_that_cannot_be_used(read, changes, options, problem):
    refused(problem, read, table=TABLE.assign(**changes), **options)


def test_a_sensitive_number_of_many_values_needs_bins(read):
    table = pd.DataFrame({"age": range(30), "sick": [0, 1] * 15})
    assert "bins = { age" in refused("30 values", read, table=table, sensitive=("age",)).fix


def test_an_index_of_pandas_is_a_column(tmp_path):
    TABLE.set_index("site").to_parquet(tmp_path / "t.parquet")
    records = parquet(path=tmp_path / "t.parquet", label="sick", client="site")
    assert records.clients.tolist() == TABLE["site"].tolist()


def test_columns_without_names(tmp_path):
    pd.DataFrame([[1, "a"], [2, "b"]], index=[7, 9]).to_parquet(tmp_path / "t.parquet")
    assert parquet(path=tmp_path / "t.parquet", label="1").features["0"].tolist() == [1, 2]


def test_dates_are_refused(tmp_path):
    day = datetime.date(2020, 1, 1)
    pd.DataFrame({"day": [day, day], "y": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(FedmodelError, match="type date in 'day'"):
        parquet(path=tmp_path / "t.parquet", label="y")


def test_two_columns_of_one_name_are_refused(write):
    path = write("age,job,age,sick\n" + "30,cook,31,0\n40,nurse,41,1\n" * 5)
    refused("two columns are called 'age'", csv, path=path, label="sick")


def test_an_index_that_a_program_wrote_is_no_feature(tmp_path):
    path = tmp_path / "table.csv"
    TABLE.to_csv(path)
    error = refused("column 1 of table.csv has no name", csv, path=path, label="sick")
    assert "the order of the records" in error.fix
    assert list(csv(path=path, label="sick", features=("age",)).features) == ["age"]


@pytest.mark.parametrize(("sign", "written"), [(";", '";"'), ("\t", r'"\t"'), ("|", '"|"')])
def test_another_separator_is_named(write, sign, written):
    path = write(sign.join(["age", "sick"]) + "\n" + f"30{sign}0\n40{sign}1\n")
    error = refused("has no column 'sick'", csv, path=path, label="sick")
    assert f"separator = {written}" in error.fix
    assert len(csv(path=path, label="sick", separator=sign)) == 2
