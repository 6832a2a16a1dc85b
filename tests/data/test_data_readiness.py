"""A proposed schema and what does not fit, on hospitals that write the same records in their ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmodel.data.client_file import as_written
from fedmodel.data.federation import files
from fedmodel.data.proposal import propose, seen_through, written
from fedmodel.data.readiness import readiness, suspected
from fedmodel.data.schema import read_schema
from fedmodel.data.sums import client_sums
from fedmodel.data.units import KNOWN
from fedmodel.errors import FedmodelError


def hospital(size, seed):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": draw.integers(18, 90, size),
            "weight_kg": draw.normal(78, 14, size).round(1),
            "glucose": draw.gamma(20, 5, size).round(1),
            "sex": draw.choice(["female", "male"], size),
            "died": draw.choice(["no", "yes"], size),
        }
    )


@pytest.fixture
def proposed(tmp_path):
    """What `fedmodel schema` makes of tables by client: the schema, read back, and the readiness."""

    def of(tables, **options):
        clients = []
        for name, frame in tables.items():
            path = tmp_path / f"{name}.csv"
            comma = {"sep": ";", "decimal": ","} if name == "south" else {}
            frame.to_csv(path, index=False, **comma)
            clients.append(as_written(name, path))
        told = [client_sums(client) for client in clients]
        schema = propose(told, clients, base=tmp_path, **options)
        path = tmp_path / "schema.toml"
        path.write_text(written(schema, name="schema.toml"), encoding="utf-8")
        read, _ = read_schema(path)
        assert read == schema
        return path, schema, readiness(seen_through(schema, told), schema)

    return of


def said(ready, client):
    return "\n".join(text for name, text in ready.mismatches if name == client)


def test_names_units_and_case_are_matched_and_the_files_train(proposed):
    north, south = hospital(80, 0), hospital(60, 1)
    theirs = south.assign(sex=south["sex"].str.upper(), id=[f"p{i}" for i in range(60)])
    theirs["weight_kg"] /= 0.45359237
    theirs.columns = ["Age", "Weight (lbs)", "Glucose", "Sex", "died", "id"]
    path, schema, ready = proposed({"north": north, "south": theirs}, label="died")
    assert ready.mismatches == () and ready.fits
    assert list(schema.columns) == ["age", "weight", "glucose", "sex", "died"]
    assert schema.drop == ["id"]
    assert schema.columns["weight"].unit == "kg"
    records = files(schema=path)
    whole = pd.concat([north, south], ignore_index=True)
    np.testing.assert_allclose(records.features["weight"], whole["weight_kg"])
    assert records.features["sex"].tolist() == whole["sex"].tolist()
    row = ready.table.set_index("column").loc["weight"]
    assert row["mean"] == pytest.approx(whole["weight_kg"].mean())
    assert row["deviation"] == pytest.approx(whole["weight_kg"].std(ddof=0))
    exact = np.quantile(whole["weight_kg"], 0.5, method="inverted_cdf")
    assert row["median_low"] <= exact < row["median_high"]
    assert row["clients"] == 2 and row["missing"] == 0


def test_mismatches_are_told_by_client(proposed):
    tables = {name: hospital(80, i) for i, name in enumerate(("north", "south", "east", "west"))}
    tables["south"]["glucose"] /= 18.016
    tables["east"] = tables["east"].drop(columns="glucose").assign(insurer="x")
    tables["west"]["weight_kg"] = tables["west"]["weight_kg"].astype(object)
    tables["west"].loc[:5, "weight_kg"] = "unknown"
    tables["west"]["sex"] = tables["west"]["sex"].map({"male": "M", "female": "F"})
    _, _, ready = proposed(tables, label="died")
    assert said(ready, "north") == ""
    assert "mmol/L in place of mg/dL (times 18.016)?" in said(ready, "south")
    assert "lacks glucose" in said(ready, "east") and "here only: insurer" in said(ready, "east")
    assert "mixes 74 numbers with 6 words ('unknown')" in said(ready, "west")
    assert "sex has categories that are here only: 'F', 'M'" in said(ready, "west")


def test_a_label_of_0_and_1_is_a_category(proposed):
    tables = {n: hospital(60, i).assign(died=lambda t: t.index % 2) for i, n in enumerate("ab")}
    path, schema, _ = proposed(tables, label="died", sensitive=["sex"])
    assert schema.columns["died"].categories == ["0", "1"]
    assert files(schema=path).attributes == {"sex": ("female", "male")}


def test_two_columns_of_one_client_are_not_the_same(proposed):
    frame = hospital(60, 0).assign(weight_lb=lambda t: t["weight_kg"] / 0.45359237)
    _, schema, _ = proposed({"a": frame, "b": hospital(60, 1)})
    assert {"weight_kg", "weight_lb"} <= set(schema.columns)


def test_words_where_others_have_numbers(proposed):
    tables = {name: hospital(60, i) for i, name in enumerate("abc")}
    tables["b"]["age"] = "old"
    _, schema, ready = proposed(tables)
    assert schema.columns["age"].kind == "number"
    assert said(ready, "b") == "age holds words here, and numbers elsewhere"


def test_a_label_that_nobody_has(proposed):
    with pytest.raises(FedmodelError, match="no file has a column 'dead'") as error:
        proposed({"a": hospital(60, 0), "b": hospital(60, 1)}, label="dead")
    assert error.value.where == "--label" and "died" in error.value.fix


def test_no_label_is_said_in_the_schema(proposed):
    path, _, _ = proposed({"a": hospital(60, 0), "b": hospital(60, 1)})
    assert '# label = "..."' in path.read_text()


@pytest.mark.parametrize("known", KNOWN, ids=lambda c: f"{c.of}:{c.source}-{c.target}")
def test_a_known_unit_is_suspected_where_it_explains_the_means(known):
    mean, deviation = 100.0, 15.0  # in the target's unit
    there = ((mean - known.offset) / known.scale, deviation / known.scale)
    found = suspected(known.of or "x", *there, mean, deviation)
    assert found is not None
    assert found.scale == pytest.approx(known.scale, rel=0.4)
    assert abs(found.scale * there[0] + found.offset - mean) < deviation / 2


def test_hospitals_that_differ_as_hospitals_do_are_not_suspected(proposed):
    old = hospital(80, 0).assign(age=lambda t: t["age"] + 25)
    _, _, ready = proposed({"a": old, "b": hospital(80, 1), "c": hospital(80, 2)})
    assert ready.mismatches == ()


def test_a_schema_looks_at_the_files_again_and_counts_what_it_refuses(proposed, tmp_path):
    frame = hospital(60, 0)
    path, _, _ = proposed({"a": frame, "b": hospital(60, 1)}, label="died")
    frame.loc[[3, 4], "sex"] = "X"
    frame.loc[9, "age"] = 555
    frame.assign(bed=1).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"sales": [1]}).to_csv(tmp_path / "b.csv", index=False)
    path.write_text(
        path.read_text().replace("[columns.age]\n", "[columns.age]\nrange = [0, 120]\n")
    )
    schema, _ = read_schema(path)
    told = [client_sums(file, schema=schema) for file in schema.files(tmp_path)]
    ready = readiness(told, schema)
    assert not ready.fits
    assert "sex: 2 of 60 values outside" in said(ready, "a")
    assert "age: 1 of 60 values outside" in said(ready, "a")
    assert "not in the schema: bed" in said(ready, "a")
    assert "b.csv of client b has no column of the schema to learn from" in said(ready, "b")
    assert "555" not in repr(told)
