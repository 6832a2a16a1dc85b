"""What a user reads when a table of theirs is wrong: problem, place, remedy, exit code 2, no run."""

from __future__ import annotations

import numpy as np
from errors.changing import changed

TABLE = '[data]\nname = "csv"\npath = "t.csv"\nlabel = "ill"\nclient = "site"\n'


def table(*, site=lambda i: "ab"[i % 2], ill=lambda i: i % 3 == 0, split=lambda i: "train") -> str:
    draw = np.random.default_rng(0)
    rows = [f"{site(i)},{draw.normal():.2f},{int(ill(i))},{split(i)}" for i in range(40)]
    return "site,age,ill,part\n" + "\n".join(rows) + "\n"


def with_table(experiment: str, *lines: str) -> str:
    old = '[data]\nname = "heart_disease"\nencode = "public"\ntest = 0.25\n'
    return changed(experiment, old, TABLE + "".join(f"{line}\n" for line in lines))


def test_a_missing_table(fedmodel, experiment):
    said = fedmodel.run(with_table(experiment), files={"tt.csv": table()})
    said.refused(
        "there is no file t.csv", str(fedmodel.file.parent / "t.csv"), "Did you mean `tt.csv`?"
    )


def test_a_missing_table_is_not_the_experiment(fedmodel, experiment):
    said = fedmodel.run(changed(with_table(experiment), "t.csv", "e.csv"))
    said.refused("there is no file e.csv", "Check the path")


def test_a_missing_column(fedmodel, experiment):
    text = changed(with_table(experiment), '"ill"', '"il"')
    said = fedmodel.run(text, files={"t.csv": table()})
    said.refused("t.csv has no column 'il'", "Did you mean `ill`?", "age")
    assert said.marked == ("e.toml:6", "label")


def test_a_missing_column_in_a_list(fedmodel, experiment):
    text = with_table(experiment, 'sensitive = ["agee"]')
    said = fedmodel.run(text, files={"t.csv": table()}).refused("Did you mean `age`?")
    assert said.marked == ("e.toml:8", "sensitive")


def test_one_class_only(fedmodel, experiment):
    said = fedmodel.run(with_table(experiment), files={"t.csv": table(ill=lambda i: True)})
    said.refused("the label 'ill' is '1' in every record", "t.csv", "name another column")


def test_a_client_without_training_records(fedmodel, experiment):
    text = with_table(experiment, 'split = "part"')
    parts = table(split=lambda i: "test" if i % 2 or i % 10 == 0 else "train")
    said = fedmodel.run(text, files={"t.csv": parts})
    said.refused("no training record is left to 'b'", "Mark a record of each client as train")
    assert said.marked == ("e.toml:8", "split")


def test_no_records_to_test_with(fedmodel, experiment):
    said = fedmodel.run(changed(experiment, "0.25", "0.0")).refused("no client has test records")
    assert said.marked == ("e.toml:6", "test")


def test_more_clients_than_records(fedmodel, experiment):
    text = changed(experiment, '"natural"', '"iid"\nclients = 5000')
    said = fedmodel.run(text).refused("5000 clients for the 920 records", "clients <= 920")
    assert said.marked == ("e.toml:10", "clients")
