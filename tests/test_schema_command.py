"""`fedmodel schema` as its user meets it: from files to a schema, mended by hand, to a run."""

import numpy as np
import pandas as pd
import pytest
from calling import call

from fedmodel.runs.run import load

CONFIG = """
rounds = 1
[data]
name = "files"
schema = "schema.toml"
[model]
name = "logistic"
[client]
name = "sgd"
learning_rate = 0.1
"""


@pytest.fixture
def hospitals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("north", "south", "broken")):
        draw = np.random.default_rng(number)
        frame = pd.DataFrame(
            {
                "age": draw.integers(18, 90, 60),
                "weight_kg": draw.normal(78, 14, 60).round(1),
                "died": draw.choice(["no", "yes"], 60),
            }
        )
        if name == "south":
            frame["weight_kg"] /= 0.45359237
            frame.columns = ["Age", "Weight (lb)", "died"]
        if name == "broken":
            frame.loc[7, "died"] = "perhaps"
        frame.to_csv(f"{name}.csv", index=False, sep=";" if name == "south" else ",")
    (tmp_path / "e.toml").write_text(CONFIG)
    return tmp_path


def test_from_files_to_a_run(hospitals, monkeypatch, capsys):
    files = ("north.csv", "south.csv", "broken.csv")
    code, said = call(monkeypatch, capsys, "schema", *files, "--label", "died")
    assert code == 0 and "weight (kg)" in said and "3 of 3" in said
    assert "died: 1 record in categories too rare" in said
    code, said = call(monkeypatch, capsys, "schema", "schema.toml")
    assert code == 2 and "1 of 60 values outside" in said and "perhaps" not in said
    code, said = call(monkeypatch, capsys, "validate", "e.toml")
    assert code == 2
    assert "client broken" in said and "'perhaps' in record 8 of broken.csv" in said.replace(
        "\n", " "
    )
    path = hospitals / "schema.toml"
    mended = path.read_text().replace(
        "[columns.died]\n", '[columns.died]\nvalues.perhaps = "yes"\n'
    )
    path.write_text(mended)
    code, said = call(monkeypatch, capsys, "schema", "schema.toml")
    assert code == 0 and "the files fit schema.toml" in said
    code, said = call(monkeypatch, capsys, "run", "e.toml", "--out", "here", "--engine", "inline")
    assert code == 0
    clients = load("here").clients
    assert sorted(clients["client"]) == ["broken", "north", "south"]


def test_nothing_is_written_over(hospitals, monkeypatch, capsys):
    (hospitals / "schema.toml").write_text("mine")
    code, said = call(monkeypatch, capsys, "schema", "north.csv", "south.csv")
    assert code == 2 and "is there already" in said
    assert (hospitals / "schema.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("north.csv", "./north.csv"), "two files would make the client 'north'"),
        (("nort.csv",), "there is no file nort.csv"),
        (("north.csv", "south.csv", "--label", "dead"), "no file has a column 'dead'"),
        (("nothing.toml",), "there is no schema nothing.toml"),
        ((), "Missing argument"),
    ],
)
def test_mistakes(hospitals, monkeypatch, capsys, arguments, problem):
    code, said = call(monkeypatch, capsys, "schema", *arguments)
    assert code == 2 and problem.lower() in said.lower()


def test_the_experiment_is_no_schema_to_look_for(hospitals, monkeypatch, capsys):
    """Its own file is near by name, and not what is missing."""
    (hospitals / "schemes.toml").write_text(
        'rounds = 1\n[data]\nname = "files"\nschema = "schema.toml"\n[model]\nname = "logistic"\n'
        '[client]\nname = "sgd"\nlearning_rate = 0.1\n'
    )
    code, said = call(monkeypatch, capsys, "run", "schemes.toml", "--out", "here")
    said = " ".join(said.split())
    assert code == 2 and "there is no schema schema.toml" in said
    assert "`fedmodel schema FILE... --out schema.toml` writes one" in said
    assert "schemes" not in said
