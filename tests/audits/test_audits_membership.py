"""Membership inference from end to end: who memorises is found out, who trains on nothing is not."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from calling import call

from fedmodel.audits import membership as module
from fedmodel.audits.audit import audit, chosen, subject
from fedmodel.audits.membership import membership
from fedmodel.audits.watching import shadow, watch
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment

HEARTS = """
name = "hearts"
rounds = 2
[data]
name = "heart_disease"
encode = "public"
sensitive = ["sex"]
[model]
name = "logistic"
[client]
name = "dp_sgd"
learning_rate = 0.3
[privacy]
noise_multiplier = 2.0
delta = 1e-3
accountant = "rdp"
"""


@pytest.fixture
def random_labels(tmp_path):
    """40 records at each of two clients, 60 features, and labels that mean nothing."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(80, 60))).add_prefix("f")
    frame["y"] = draw.choice(["no", "yes"], 80)
    frame["where"] = np.repeat(["a", "b"], 40)
    frame.to_csv(tmp_path / "labels.csv", index=False)
    return {
        "rounds": 2,
        "data": {
            "name": "csv",
            "path": str(tmp_path / "labels.csv"),
            "label": "y",
            "client": "where",
            "encode": "none",
            "test": 0.5,
        },
        "model": {"name": "logistic"},
        "client": {"name": "sgd", "learning_rate": 1.0, "epochs": 12, "batch_size": 40},
    }


def attack(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    return table.set_index("attack")


def test_memorised_records_are_found_by_the_server_before_the_peer(random_labels):
    found = membership(Experiment.read(random_labels), shadows=12)
    table = found.tables["attacks"]
    server = attack(table, of="runs like it", position="server")
    peer = attack(table, of="runs like it", position="peer client")
    assert server.auc["LiRA online"] > 0.9
    assert server.auc["LiRA online"] > peer.auc["LiRA online"] > 0.7
    assert found.figures["auc"] == server.auc["LiRA online"]
    assert attack(table, of="this run", position="server").auc.min() > 0.75
    assert (found.tables["records"].exposure_server > 0.5).mean() > 0.9
    # 40 records were not trained on, 480 pairs of record and shadow were not.
    run = attack(table, of="this run", position="server")
    assert run["tpr_at_0.01"].isna().all()
    assert math.isnan(found.figures["this_run_tpr_at_0.1"])
    assert not math.isnan(found.figures["tpr_at_0.1"])
    assert "not measurable here" in str(found.section.blocks)


def test_a_model_that_hardly_trains_gives_nobody_away(random_labels):
    random_labels["client"]["learning_rate"] = 1e-9
    found = membership(Experiment.read(random_labels), shadows=12)
    table = found.tables["attacks"]
    assert (abs(table[table.of == "this run"].auc - 0.5) < 0.25).all()
    assert (abs(table[table.of == "runs like it"].auc - 0.5) < 0.1).all()


def test_the_experiment_trained_again_is_the_run(tmp_path):
    (tmp_path / "hearts.toml").write_text(HEARTS)
    experiment = Experiment.read(tmp_path / "hearts.toml")
    for _ in experiment.rounds(tmp_path / "run"):
        pass
    again, _ = subject(tmp_path / "run")
    seen = watch(again, data=again.built.data, seed=again.config.seed, last=1)
    saved = again.built.model.join(dict(again.run.model.named_parameters()))
    torch.testing.assert_close(seen.vector, saved)
    assert module._notes(again, seen.vector + 1, np.ones(5, bool))[0].startswith("Trained again")


def test_chance_alone_looks_like_nothing():
    # Models that differ as a whole, and on which no record leaves a trace: there is nothing to see.
    shadows, records, areas = 6, 400, []
    for seed in range(6):
        draw = np.random.default_rng(seed)
        half = np.array([draw.permutation(records) < records // 2 for _ in range(shadows // 2)])
        member = np.stack([half, ~half], axis=1).reshape(shadows, records)
        signals = draw.normal(0, 1, (shadows, 1)) + draw.normal(0, 1, (shadows, records))
        known, together = np.ones(records, dtype=bool), np.zeros(records, np.int64)
        trial = module._Trials(known, signals[0], signals, member, member[0], together)
        table, _ = module._attacked({"server": trial})
        areas.append(attack(table, of="runs like it").auc)
    assert (abs(pd.concat(areas, axis=1).mean(axis=1) - 0.5) < 0.02).all()


def test_a_shadow_knows_only_its_records(random_labels):
    # Two shadows with the same members agree; another half gives other models.
    experiment = Experiment.read(random_labels)
    member = np.arange(80) % 2 == 0
    first, same = (shadow(experiment, member, number=0, last=1) for _ in range(2))
    other = shadow(experiment, ~member, number=0, last=1)
    np.testing.assert_array_equal(first.log_odds["server"], same.log_odds["server"])
    surer = first.log_odds["server"] > other.log_odds["server"]
    assert surer[member].mean() > 0.7
    assert surer[~member].mean() < 0.3
    assert (first.log_odds["server"][member] > 0).all()  # it knows their labels by heart
    assert not (first.log_odds["server"][~member] > 0).all()


def test_attackers_are_not_scored(random_labels):
    random_labels["attack"] = {"name": "label_flip", "clients": ["a"]}
    found = membership(Experiment.read(random_labels), shadows=6)
    assert found.tables["attacks"].members.min() == 20
    exposed = found.tables["records"].groupby("client").exposure_server.count()
    assert exposed.to_dict() == {"a": 0, "b": 40}
    assert any("attackers" in note for note in found.notes)


def test_the_command_writes_tables_and_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hearts.toml").write_text(HEARTS)
    code, said = call(monkeypatch, capsys, "run", "hearts.toml", "--out", "run")
    assert code == 0, said
    few = ("--set", "audit.membership.shadows=6")
    code, said = call(
        monkeypatch, capsys, "audit", "run", "--audit", "membership", "--audit", "canaries", *few
    )
    assert code == 0, said
    for words in ("AUC", "TPR at 1% FPR", "not measurable here", "epsilon lower", "run/audit.html"):
        assert words in said
    groups = pd.read_parquet("run/audits/membership/groups.parquet")
    assert {"sex", "label", "client"} == set(groups.by)
    figures = json.loads((tmp_path / "run/audits/membership/figures.json").read_text())
    assert figures["this_run_tpr_at_0.001"] is None
    assert 0 <= figures["auc"] <= 1
    page = (tmp_path / "run/audit.html").read_text()
    for words in ("Membership inference", "ROC of the peer client", "sex: Female", "Canaries"):
        assert words in page
    code, said = call(
        monkeypatch, capsys, "audit", "hearts.toml", "--set", "rounds=1", "--audit", "canaries",
        "--out", "new",
    )  # fmt: skip
    assert code == 0, said
    assert (tmp_path / "new/audits/canaries/canaries.parquet").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--audit", "membershop"], "Did you mean `membership`?"),
        (["--set", "audit.membership.shadows=7"], "even number"),
        (["--set", "audit.membership.shadws=6"], "Did you mean `shadows`?"),
        (["--set", "audit.membership.shadows=2"], "It should be at least 6."),
        (["--audit", "canaries", "--set", "audit.membership.shadows=8"], "not asked for"),
        (["--out", "."], "is not empty"),
        (["--set", "data.test=0.0"], "no client has test records"),
    ],
)
def test_mistakes_are_told(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hearts.toml").write_text(HEARTS)
    code, told = call(monkeypatch, capsys, "audit", "hearts.toml", *arguments)
    assert code == 2
    assert said in " ".join(told.split())


def test_a_run_is_audited_as_it_was_run_and_when_it_is_finished(tmp_path):
    (tmp_path / "hearts.toml").write_text(HEARTS)
    experiment = Experiment.read(tmp_path / "hearts.toml")
    for _ in experiment.rounds(tmp_path / "run"):
        break
    with pytest.raises(FedmodelError, match="not finished"):
        subject(tmp_path / "run")
    with pytest.raises(FedmodelError, match="cannot be changed"):
        subject(tmp_path / "run", {"rounds": 3})
    with pytest.raises(FedmodelError, match="is not empty"):
        audit(experiment, chosen(["canaries"]), out=tmp_path)
