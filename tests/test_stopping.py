"""Early stopping: the rule by hand, and runs that end, resume and tell why."""

import json

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import fedmodel
from fedmodel.config import Stop
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.stopping import Stopping

BASE = {
    "rounds": 12,
    "data": {"name": "heart_disease", "encode": "public", "validation": 0.2},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.2, "batch_size": 64},
    "evaluation": {"stop": {"metric": "loss", "patience": 2, "min_delta": 0.02}},
}


def table(number, value, metric):
    row = {"round": number, "split": "validation", "model": "global", "scope": "global"}
    return pd.DataFrame([{**row, "key": "", "metric": metric, "value": value}])


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
@given(
    values=st.lists(st.integers(0, 6), min_size=1, max_size=15),
    patience=st.integers(1, 4),
    least=st.integers(0, 2),
    cut=st.integers(0, 15),
)
def test_it_stops_where_a_plain_loop_stops_resumed_or_not(metric, values, patience, least, cut):
    sign = -1 if metric == "loss" else 1
    expected, best, best_at = None, None, 0
    for at, value in enumerate(values, 1):
        if best is None or sign * (value - best) > least:
            best, best_at = value, at
        elif at - best_at >= patience:
            expected = at
            break
    stop = Stop(metric=metric, patience=patience, min_delta=float(least))
    tables = [table(at, float(value), metric) for at, value in enumerate(values, 1)]
    stopping = Stopping(stop, pd.concat([table(0, 99.0, metric), *tables[:cut]]))
    for part in tables[cut:]:
        stopping.see(part)
    assert bool(stopping.reason) == (expected is not None)
    assert stopping.best_round == best_at
    if expected is not None:
        assert f"after round {expected}:" in stopping.reason


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    config = {**BASE, "evaluation": {**BASE["evaluation"], "references": ["pooled"]}}
    return fedmodel.run(config, out=tmp_path_factory.mktemp("stop") / "run")


def validation_loss(run):
    rows = run.metrics.query("split == 'validation' and metric == 'loss' and scope == 'global'")
    return rows[rows.model == "global"].set_index("round").value


def test_a_run_ends_where_validation_records_say_and_keeps_the_best(stopped):
    manifest = json.loads((stopped.path / "manifest.json").read_text())
    told, losses = manifest["stopped"], validation_loss(stopped)
    assert manifest["finished"] and 2 < told["round"] < 12
    assert told["round"] == losses.index.max() == told["best_round"] + 2
    assert told["best"] == losses[told["best_round"]]
    assert (losses[told["best_round"]] - losses[told["best_round"] + 1 :] <= 0.02).all()
    assert manifest["best"]["round"] == losses[1:].idxmin()
    assert told["reason"] in stopped.report.read_text()
    shorter = {**BASE, "rounds": manifest["best"]["round"], "evaluation": {}}
    kept = load_file(stopped.path / "best.safetensors")
    same = fedmodel.run(shorter, out=stopped.path.parent / "shorter")
    for name, value in same.model.state_dict().items():
        torch.testing.assert_close(kept[name], value)


def test_references_train_as_long_as_the_run_did(stopped):
    number = json.loads((stopped.path / "manifest.json").read_text())["stopped"]["round"]
    shorter = {**BASE, "rounds": number, "evaluation": {"references": ["pooled"]}}
    same = fedmodel.run(shorter, out=stopped.path.parent / "as_long").metrics
    pooled = stopped.metrics[stopped.metrics.model == "pooled"]
    assert set(pooled["round"]) == {number}
    torch.testing.assert_close(
        torch.tensor(pooled.value.values), torch.tensor(same[same.model == "pooled"].value.values)
    )


def test_a_resumed_run_stops_at_the_same_round(stopped, tmp_path):
    for round in Experiment.read(BASE).rounds(tmp_path / "cut"):
        if round.number == 2:
            break
    _, left = Experiment.resume(tmp_path / "cut")
    for _ in left:
        pass
    found, expected = (
        json.loads((path / "manifest.json").read_text())
        for path in (tmp_path / "cut", stopped.path)
    )
    assert found["stopped"] == expected["stopped"] and found["finished"]
    _, left = Experiment.resume(tmp_path / "cut")
    assert list(left) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data.validation": 0.0}, "no validation records to stop by"),
        ({"evaluation.epsilon": 1.0}, "noised counts tell no loss"),
        ({"evaluation.stop.patience": 0}, "cannot be 0"),
        ({"evaluation.stop.metric": "f1"}, "cannot be"),
        ({"evaluation.stop.min_delta": -1.0}, "cannot be -1"),
        ({"evaluation.stop": True}, "cannot be true"),
    ],
)
def test_what_cannot_stop_a_run_is_refused(changes, problem):
    with pytest.raises(FedmodelError, match=problem) as refused:
        Experiment.read(BASE, changes).built  # noqa: B018
    assert refused.value.fix


def test_a_private_run_says_that_its_end_depends_on_validation_records(tmp_path):
    private = {
        "client": {"name": "dp_sgd", "learning_rate": 0.2},
        "privacy": {"epsilon": 3.0, "delta": 1e-3, "accountant": "rdp"},
        "evaluation": {"stop": {"metric": "accuracy", "patience": 1, "min_delta": 1.0}},
    }
    run = fedmodel.run({**BASE, **private}, out=tmp_path / "run")
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["stopped"]["round"] == 2
    assert any("the run stopped" in said for said in manifest["privacy"]["outside"])
    assert run.epsilon["round"].max() == 2
