"""Several runs on the same records cost what one accountant says of all their histories."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import fedmodel
from fedmodel.errors import FedmodelError
from fedmodel.privacy import epsilon_of_history
from fedmodel.privacy.repeated import composed_epsilon
from fedmodel.runs.totals import total

CONFIG = {
    "seed": 4,
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "private"},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.1},
    "privacy": {"epsilon": 2.0, "delta": 1e-3, "encoding_epsilon": 0.3},
    "evaluation": {"every": 2, "noise_multiplier": 3.0},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs: one, one with another learning rate and budget, one that splits by another seed."""
    folder = tmp_path_factory.mktemp("totals")
    other = {**CONFIG, "client": {"name": "dp_sgd", "learning_rate": 0.3}}
    other["privacy"] = {**CONFIG["privacy"], "epsilon": 1.0}
    for name, config in (("one", CONFIG), ("other", other), ("seed", {**CONFIG, "seed": 5})):
        fedmodel.run(config, engine="inline", out=folder / name)
    return folder


def history(run, client, records):
    table = pd.read_parquet(run / "released.parquet")
    own = table[(table.client == client) & table.records.isin(records)]
    columns = (own[name].tolist() for name in ("noise_multiplier", "sample_rate", "steps"))
    return list(zip(*columns, strict=True))


def test_a_run_keeps_what_it_released(runs):
    table = pd.read_parquet(runs / "one" / "released.parquet")
    assert table.what.value_counts().to_dict() == {
        "feature scales": 4,
        "training": 4,
        "evaluation counts": 4,
    }
    spent = pd.read_parquet(runs / "one" / "clients.parquet").set_index("client").epsilon
    for client in spent.index:
        both = epsilon_of_history(history(runs / "one", client, ["training"]), delta=1e-3).epsilon
        assert both == pytest.approx(spent[client], abs=1e-6)
    stated = json.loads((runs / "one" / "manifest.json").read_text())["privacy"]
    assert [release["what"] for release in stated["releases"]] == list(table.what.unique())
    report = (runs / "one" / "report.html").read_text(encoding="utf-8")
    assert "as both ledgers add up" in report


def test_two_runs_cost_their_composition_for_each_ledger(runs):
    found = total([runs / "one", runs / "other"])
    assert (found.delta, found.accountant) == (1e-3, "prv")
    assert set(found.table.records) == {"training", "evaluation"}
    for row in found.table.itertuples():
        parts = [history(runs / run, row.client, [row.records]) for run in ("one", "other")]
        exact = epsilon_of_history(parts[0] + parts[1], delta=1e-3).epsilon
        assert row.together == pytest.approx(exact, abs=1e-6)
        assert max(row.one, row.other) < row.together < row.one + row.other
    assert any("same seed" in line for line in found.sentences)


def test_runs_that_split_differently_add_up_both_ledgers(runs):
    found = total([runs / "one", runs / "seed"], delta=1e-4)
    assert set(found.table.records) == {"any"}
    row = found.table.iloc[0]
    parts = [history(runs / run, row.client, ["training", "evaluation"]) for run in ("one", "seed")]
    assert row.together == pytest.approx(epsilon_of_history(parts[0] + parts[1], delta=1e-4).epsilon, abs=1e-6)  # fmt: skip
    assert "split the records differently" in found.sentences[0]
    assert not any("same seed" in line for line in found.sentences)


def test_one_run_is_its_own_total(runs):
    found = total([runs / "one"]).table
    assert found.together.tolist() == found.one.tolist()


def test_what_cannot_be_added_up_is_refused(runs, tmp_path):
    with pytest.raises(FedmodelError, match="given twice"):
        total([runs / "one", runs / "other" / ".." / "one"])
    with pytest.raises(FedmodelError, match="not between 0 and 1"):
        total([runs / "one"], delta=2.0)
    with pytest.raises(FedmodelError, match="holds no run"):
        total([tmp_path])
    parted = {**CONFIG, "partition": {"name": "iid", "clients": 3}}
    fedmodel.run(parted, engine="inline", out=tmp_path / "parted")
    with pytest.raises(FedmodelError, match="differ in their records, or in the clients") as error:
        total([runs / "one", tmp_path / "parted"])
    assert "same data and partition" in error.value.fix
    plain = {k: v for k, v in CONFIG.items() if k not in ("privacy", "evaluation")}
    plain |= {"data": {"name": "heart_disease"}, "client": {"name": "sgd", "learning_rate": 0.1}}
    fedmodel.run(plain, engine="inline", out=tmp_path / "plain")
    with pytest.raises(FedmodelError, match="does not say what it released") as error:
        total([runs / "one", tmp_path / "plain"])
    assert "[privacy]" in error.value.fix


def test_seeds_add_up_private_scales_too(runs, tmp_path):
    """Of two runs with one client that counts most at every order, the sum is one long history."""
    two = fedmodel.run(
        {k: v for k, v in CONFIG.items() if k != "seed"} | {"seeds": [4, 5], "rounds": 1},
        engine="inline",
        out=tmp_path / "seeds",
    )
    at_each = [
        [history(run.path, client, ["training"]) for client in run.clients.client]
        for run in two.runs.values()
    ]
    assert all(
        (noise > 0.0 and steps >= 1) for run in at_each for h in run for noise, _, steps in h
    )
    found = two.composed_epsilon()
    for first in at_each[0]:
        for second in at_each[1]:
            both = epsilon_of_history(first + second, delta=1e-3, accountant="rdp").epsilon
            assert found >= both - 1e-9
    training = [[h[-1:] for h in run] for run in at_each]
    assert found > composed_epsilon(training, delta=1e-3)
    assert two.manifest["privacy"]["epsilon"] == pytest.approx(found)
