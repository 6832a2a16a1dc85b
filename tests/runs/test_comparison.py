"""Runs side by side: differences against scipy, settings that differ, what cannot be compared."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import scipy.stats

import fedmodel
from fedmodel.evaluation.repeated import newcombe
from fedmodel.runs.comparison import compare
from fedmodel.runs.comparison_page import write_comparison

CONFIG = {
    "name": "hearts",
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "public", "sensitive": ["sex"]},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.3},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two of several seeds, of which two are common; then single ones."""
    folder = tmp_path_factory.mktemp("runs")
    for name, changes in {
        "a": {"seeds": [1, 2, 3]},
        "b": {"seeds": [2, 3, 4], "client.learning_rate": 0.02},
        "attacked": {
            "seed": 2,
            "attack": {"name": "label_flip", "clients": 0.5},
            "strategy": {"name": "compose", "combine": "coordinate_median"},
        },
    }.items():
        fedmodel.run(CONFIG, changes, out=folder / name)
    return folder


def only(found, metric="accuracy"):
    (row,) = found.differences[found.differences.metric == metric].to_dict("records")
    return row


def test_seeds_in_common_are_paired(runs):
    row = only(compare([runs / "a", runs / "b"]), "loss")
    a, b = (
        np.array([fedmodel.load(runs / name / f"seed-{s}").last("loss") for s in (2, 3)])
        for name in "ab"
    )
    expected = scipy.stats.ttest_rel(b, a).confidence_interval(0.95)
    assert row["difference"] == pytest.approx((b - a).mean())
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["how"] == "paired t, 2 seeds"


def test_one_seed_each_is_compared_by_its_records(runs):
    """Poisoned training labels are no other test records."""
    found = compare([runs / "a" / "seed-2", runs / "attacked"])
    row, (a, b) = only(found), found.table.accuracy
    n = int(fedmodel.load(runs / "attacked").last("num_records"))
    expected = newcombe(a, b, first_of=n, second_of=n)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(tuple(expected))
    assert math.isnan(only(found, "loss")["low"])
    assert "test records" not in " ".join(found.notes)


def test_a_single_run_is_held_against_its_seed(runs):
    assert only(compare([runs / "attacked", runs / "a"]))["difference"] == pytest.approx(
        fedmodel.load(runs / "a" / "seed-2").last("accuracy")
        - fedmodel.load(runs / "attacked").last("accuracy")
    )


def test_other_test_records_have_no_interval_and_are_noted(runs):
    found = compare([runs / "a" / "seed-1", runs / "attacked"])
    assert math.isnan(only(found)["low"])
    assert "other test records" in only(found)["how"]
    assert "no seed in common" in found.notes[0]


def test_settings_that_differ_are_listed_and_no_others(runs):
    found = compare([runs / "a" / "seed-2", runs / "attacked"]).settings.set_index("key")
    assert set(found.index) == {"attack.name", "attack.clients", "strategy.combine"}
    assert found.loc["attack.clients"].tolist() == ["–", "0.5"]
    found = compare([runs / "a", runs / "b"]).settings.set_index("key")
    assert found.loc["client.learning_rate"].tolist() == ["0.3", "0.02"]
    assert found.loc["seeds"].tolist() == ["[1, 2, 3]", "[2, 3, 4]"]
    assert len(found) == 2


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    for paths, problem in (
        ([runs / "a"], "nothing to compare"),
        ([runs / "a", runs / "b" / ".." / "a"], "given twice"),
        ([runs / "a", runs], "holds no run"),
    ):
        with pytest.raises(fedmodel.FedmodelError, match=problem):
            compare(paths)
    experiment = fedmodel.Experiment.read(CONFIG)
    for finished in experiment.rounds(tmp_path / "half"):
        if finished.number == 1:
            break
    found = compare([runs / "attacked", tmp_path / "half"])
    assert "half is not finished" in found.notes[0]


def test_the_command_writes_a_page_and_prints_the_tables(runs, tmp_path, monkeypatch, capsys):
    from fedmodel.cli import main

    page = tmp_path / "new" / "c.html"
    arguments = ["compare", str(runs / "a"), str(runs / "b"), "--out", str(page)]
    monkeypatch.setattr(sys, "argv", ["fedmodel", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    said = " ".join(capsys.readouterr().out.split())
    assert done.value.code == 0
    difference = only(compare([runs / "a", runs / "b"]))["difference"]
    for words in (f"{difference:+.4f}", "client.learning_rate", "c.html"):
        assert words in said
    text = page.read_text()
    assert "Settings that differ" in text
    assert not any(address in text for address in ('src="http', 'href="http'))


def test_a_name_that_is_markup_stays_text(runs, tmp_path):
    folder = tmp_path / "<b>[red]"
    fedmodel.run(CONFIG, out=folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["test_fingerprint"] != manifest["data_fingerprint"]
    page = write_comparison(compare([runs / "attacked", folder]), tmp_path / "c.html")
    assert "<b>[red]" not in page.read_text().split("<script")[0]
