"""One file a client, aligned by a schema: against a table that was whole before it was taken apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmodel.data.federate import federate
from fedmodel.data.federation import files
from fedmodel.data.partition import natural
from fedmodel.errors import FedmodelError

SCHEMA = """
label = "died"
sensitive = ["sex"]
drop = ["patient"]
missing = ["?"]

[clients]
north = { file = "north.csv" }
south = { file = "south.csv", separator = ";", decimal = "," }
east = { file = "east.parquet" }

[columns.age]
kind = "number"
range = [18, 110]
names = ["Age"]
[columns.weight]
kind = "number"
unit = "kg"
names = ["weight_kg"]
at.south = { name = "Weight (lbs)", unit = "lb" }
[columns.glucose]
kind = "number"
unit = "mg/dL"
at.east = { unit = "mmol/L" }
[columns.sex]
kind = "category"
names = ["gender"]
categories = ["female", "male"]
values = { M = "male", F = "female" }
[columns.died]
kind = "category"
categories = ["no", "yes"]
names = ["outcome"]
values = { 1 = "yes", 0 = "no" }
"""


def truth(size, seed):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": draw.integers(18, 90, size).astype(float),
            "weight": draw.normal(78, 14, size).round(1),
            "glucose": draw.gamma(20, 5, size).round(1),
            "sex": draw.choice(["female", "male"], size),
            "died": draw.choice(["no", "yes"], size),
        }
    )


@pytest.fixture
def hospitals():
    """The records of three hospitals as they are, before each writes them in its way."""
    return {name: truth(40 + 10 * number, number) for number, name in enumerate(("north", "south"))}


@pytest.fixture
def write(tmp_path, hospitals):
    """Write the hospitals' files, each in its own way, and the schema; changes by keyword."""

    def to_files(schema=SCHEMA, **changed):
        north = hospitals["north"].rename(columns={"weight": "weight_kg"}).assign(patient="p")
        north["glucose"] = north["glucose"].astype(object)
        north.loc[3, "glucose"] = "?"
        south = hospitals["south"].drop(columns="glucose")
        south["weight"] /= 0.45359237
        south["sex"] = south["sex"].map({"male": "M", "female": "F"})
        south["died"] = south["died"].map({"yes": 1, "no": 0})
        south.columns = ["Age", "Weight (lbs)", "gender", "outcome"]
        east = truth(30, 9).assign(bed=1)
        east["glucose"] /= 18.016
        tables = {"north": north, "south": south, "east": east, **changed}
        tables["north"].to_csv(tmp_path / "north.csv", index=False)
        tables["south"].to_csv(tmp_path / "south.csv", index=False, sep=";", decimal=",")
        tables["east"].to_parquet(tmp_path / "east.parquet")
        (tmp_path / "schema.toml").write_text(schema, encoding="utf-8")
        return tmp_path / "schema.toml"

    return to_files


def refused(path, problem, *, where="schema.toml") -> FedmodelError:
    with pytest.raises(FedmodelError, match=problem) as error:
        files(schema=path)
    assert where in error.value.where and error.value.fix
    return error.value


def test_names_units_and_words_are_made_the_same(write, hospitals):
    records = files(schema=write())
    whole = pd.concat(
        [hospitals["north"], hospitals["south"].assign(glucose=np.nan), truth(30, 9)],
        ignore_index=True,
    )
    whole.loc[3, "glucose"] = np.nan
    for name in ("age", "weight", "glucose"):
        np.testing.assert_allclose(records.features[name], whole[name], rtol=1e-9)
    assert records.features["sex"].tolist() == whole["sex"].tolist()
    assert records.label.tolist() == whole["died"].tolist()
    assert records.classes == ("no", "yes")
    assert records.clients.value_counts(sort=False).to_dict() == {
        "north": 40,
        "south": 50,
        "east": 30,
    }
    assert list(records.features) == ["age", "weight", "glucose", "sex"]
    (note,) = records.card.notes
    assert "south has no glucose" in note and "bed of east left out" in note
    assert "patient" not in note


def test_each_file_is_a_client_and_what_it_lacks_is_marked(write):
    records = files(schema=write())
    data = federate(records, natural(records), seed=1)
    assert data.clients == ("east", "north", "south")
    marked = data.x[data.rows(2, "train"), data.features.index("glucose is missing")]
    assert (marked == 1).all()


def test_public_ranges_are_the_schemas_only_if_it_says_so(write):
    assert files(schema=write()).ranges == {}
    records = files(schema=write("public = true\n" + SCHEMA))
    assert records.ranges == {"age": (18.0, 110.0), "sex": ("female", "male")}
    assert "public = false" not in records.card.notes[0]


def test_a_sensitive_number_is_cut(write):
    bins = 'bins = { age = [45, 60] }\nsensitive = ["sex", "age"]'
    records = files(schema=write(SCHEMA.replace('sensitive = ["sex"]', bins)))
    assert records.attributes["age"] == ("under 45", "45-59", "60 and over")
    assert records.attributes["sex"] == ("female", "male")


def test_missing_values_are_dropped_or_filled(write, hospitals):
    path = write(SCHEMA.replace("[columns.sex]", 'missing = "drop"\n[columns.sex]'))
    refused(path, "no record of client south is left", where="south.csv")
    path = write(SCHEMA.replace("[columns.sex]", "fill = 99.5\n[columns.sex]"))
    glucose = files(schema=path).features["glucose"]
    assert glucose[3] == 99.5 and (glucose[40:90] == 99.5).all()
    north = hospitals["north"].drop(index=[1]).rename(columns={"weight": "weight_kg"})
    north.loc[7, "age"] = None
    path = write(
        SCHEMA.replace('names = ["Age"]', 'names = ["Age"]\nmissing = "drop"'), north=north
    )
    records = files(schema=path)
    assert len(records) == 38 + 50 + 30
    assert "1 of 39 records of north dropped" in records.card.notes[0]


@pytest.mark.parametrize(
    ("column", "value", "problem", "fix"),
    [
        ("age", 999, "north has values .* outside the range 18 to 110 of 'age'.*999.*record 6", "unit"),
        ("weight", "heavy", "'heavy' in record 6 of north.csv, column 'weight_kg'", 'missing = ["heavy"]'),
        ("weight", "72,5", "are no numbers", 'decimal = ","'),
        ("sex", "x", "not among the categories of 'sex': 'x' in record 6", "at.north"),
        ("died", "maybe", "categories of 'died': 'maybe'", "[columns.died] categories"),
        ("died", None, "client north lacks 'died' in record 6", 'missing = "drop"'),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_told_with_client_file_column_and_fix(
    write, hospitals, column, value, problem, fix
):
    north = hospitals["north"].astype(object)
    north.loc[5, column] = value
    path = write(north=north.rename(columns={"weight": "weight_kg"}))
    assert fix in refused(path, problem).fix


def test_what_does_not_fit_may_be_missing(write, hospitals):
    north = hospitals["north"].rename(columns={"weight": "weight_kg"})
    north.loc[5, "age"] = 999
    path = write(SCHEMA.replace("[18, 110]", '[18, 110]\noutside = "missing"'), north=north)
    age = files(schema=path).features["age"]
    assert age.isna().tolist().index(True) == 5 and age.isna().sum() == 1


def test_columns_that_cannot_be_told_apart_or_are_not_there(write, hospitals):
    north = hospitals["north"].assign(weight_kg=1.0)
    refused(write(north=north), "'weight' and 'weight_kg', and both mean 'weight'")
    south = hospitals["south"].rename(columns={"weight": "wt"})
    assert (
        "wt" in refused(write(south=south), "south.csv of client south has no column 'Weight").fix
    )
    other = pd.DataFrame({"sales": [1, 2], "died": ["no", "yes"]})
    path = write(north=other)
    refused(path, "north.csv of client north has no column of the schema", where="north.csv")


def test_files_that_cannot_be_read(write, tmp_path):
    path = write()
    (tmp_path / "north.csv").write_text("a,b\n1,2,3,4\n")
    refused(path, "cannot be read as CSV", where="north.csv")
    (tmp_path / "north.csv").write_text("age,sex\n")
    refused(path, "no records", where="north.csv")
    (tmp_path / "north.csv").unlink()
    refused(path, "no file north.csv", where="north.csv")


@pytest.mark.parametrize(
    ("old", "new", "problem", "marked"),
    [
        ('label = "died"', 'label = "dead"', "no column 'dead'", "label"),
        ('label = "died"', 'label = "age"', "'age' is a number", "kind"),
        ('unit = "lb"', 'unit = "stone"', "'stone' of 'weight' becomes 'kg' is not known", "unit"),
        ("range = [18, 110]", "range = [110, 18]", r"range of 'age' is \[110", "range"),
        ("at.south", "at.sout", "no client 'sout'", "sout"),
        ('F = "female"', 'F = "femal"', "'femal' is not among", "values"),
        ('["gender"]', '["Age"]', "'Age' means 'sex', and also", "sex"),
        ('unit = "mg/dL"', "fill = 'x'", "is a number, filled with 'x'", "fill"),
        ('unit = "mg/dL"', "kindd = 'x'", "has no key `kindd`", "kindd"),
        ('kind = "number"', 'kind = "numeric"', "cannot be", "kind"),
        ("[columns.age]", "[columns.age", "not valid TOML", ""),
    ],
)
def test_a_schema_that_contradicts_itself(write, old, new, problem, marked):
    assert marked in refused(write(SCHEMA.replace(old, new, 1)), problem).where


def test_a_schema_without_a_label(write):
    assert "label" in refused(write(SCHEMA.replace('label = "died"', "")), "names no label").fix
