"""Whole runs whose evaluation counts are noised: the table, the statement, the report, refusals."""

from __future__ import annotations

import json

import pytest

import fedmodel
from fedmodel._flower import arrays_of
from fedmodel.apps import CohortApp
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.messages import Instructions, requests
from fedmodel.privacy import epsilon_of

CONFIG = {
    "seed": 4,
    "rounds": 3,
    "data": {
        "name": "heart_disease",
        "encode": "public",
        "sensitive": ["sex"],
        "validation": 0.2,
    },
    "partition": {"name": "iid", "clients": 4},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.1},
    "evaluation": {"every": 2, "noise_multiplier": 2.0, "delta": 1e-4},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("private-evaluation")
    exact = {**CONFIG, "evaluation": {"every": 2}}
    return {
        name: fedmodel.run(config, engine="inline", out=folder / name)
        for name, config in (("noised", CONFIG), ("again", CONFIG), ("exact", exact))
    }


def test_epsilon_is_that_of_the_evaluations_made(runs):
    said = runs["noised"].manifest["privacy"]["evaluation"]
    assert said["evaluations"] == 3  # rounds 0, 2 and the last
    spent = epsilon_of(sample_rate=1.0, noise_multiplier=2.0, steps=3, delta=1e-4)
    assert said["epsilon"] == pytest.approx(spent)
    assert "privacy" not in runs["exact"].manifest
    assert json.loads(json.dumps(said)) == said


def test_noise_is_in_the_table_and_its_bounds_hold_the_exact_figure(runs):
    noised, exact = runs["noised"].metrics, runs["exact"].metrics
    assert noised.equals(runs["again"].metrics)
    keys = ["round", "split", "scope", "key", "metric"]
    both = noised.merge(exact, on=keys, suffixes=("", "_exact"))
    assert (both.value != both.value_exact).mean() > 0.5
    assert not noised.metric.isin(["roc_auc", "roc_auc_bound"]).any()
    assert noised[noised.metric == "loss"].value.isna().all()
    wide = noised.pivot(index=keys[:-1], columns="metric", values="value").join(
        exact.pivot(index=keys[:-1], columns="metric", values="value"), rsuffix="_exact"
    )
    inside = []
    for name in ("accuracy", "selection_rate", "demographic_parity_difference"):
        known = wide[wide[f"{name}_low"].notna() & wide[f"{name}_exact"].notna()]
        exact_value = known[f"{name}_exact"]
        inside += [*exact_value.between(known[f"{name}_low"], known[f"{name}_high"])]
    assert len(inside) >= 20
    assert sum(inside) >= 0.9 * len(inside)


def test_models_are_the_same_but_for_which_is_best(runs):
    first, second = runs["noised"].model, runs["exact"].model
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name])


def test_what_flowers_strategies_see_is_noised_too():
    def replies(evaluation, nodes):
        built = Experiment.read({**CONFIG, "evaluation": evaluation}).built
        app = CohortApp(built.workload)
        arrays = arrays_of(built.model.initial, built.layout)
        asked = Instructions(nodes, "evaluate", arrays, {"server-round": 0})
        return app.answer(requests(asked)[0], [node - 1 for node in nodes], {}).metrics

    noised, exact = replies(CONFIG["evaluation"], [1, 2, 3, 4]), replies({}, [1, 2, 3, 4])
    alone = [replies(CONFIG["evaluation"], [node]) for node in (1, 2, 3, 4)]
    for name, values in noised.items():
        assert [float(one[name][0]) for one in alone] == values.tolist()
    assert "eval_loss" in exact and "eval_loss" not in noised
    assert (noised["num-examples"] != exact["num-examples"]).any()
    assert (noised["eval_acc"] != exact["eval_acc"]).any()


def test_the_report_tells_the_budget_and_the_intervals(runs):
    text = runs["noised"].report.read_text(encoding="utf-8")
    assert "3 evaluations spent epsilon" in text
    assert "How sure the differences are" in text
    assert "accuracy low" not in text
    assert "How sure the differences are" not in runs["exact"].report.read_text(encoding="utf-8")


def test_a_budget_is_kept_over_all_rounds_beside_the_one_of_training(tmp_path):
    config = {
        **CONFIG,
        "client": {"name": "dp_sgd", "learning_rate": 0.1},
        "privacy": {"epsilon": 3.0, "delta": 1e-3, "accountant": "rdp"},
        "evaluation": {"epsilon": 1.0},
    }
    stated = fedmodel.run(config, engine="inline", out=tmp_path / "run").manifest["privacy"]
    assert stated["evaluation"]["evaluations"] == 4
    assert 0.9 <= stated["evaluation"]["epsilon"] <= 1.0
    assert 2.0 <= stated["epsilon"]["max"] <= 3.0
    assert stated["evaluation"]["delta"] == 1e-5
    assert not any("evaluation counts" in text for text in stated["outside"])


def test_secure_noise_that_may_have_been_drawn_twice_is_charged_twice(tmp_path):
    config = {**CONFIG, "evaluation": {"noise_multiplier": 2.0, "noise": "secure"}}
    out = tmp_path / "run"
    for finished in Experiment.read(config).rounds(out):
        if finished.number == 1:
            break
    _, rounds = Experiment.resume(out)
    list(rounds)
    said = json.loads((out / "manifest.json").read_text())["privacy"]["evaluation"]
    assert said["evaluations"] == 5  # rounds 0 to 3, and the one that may have been cut off
    assert said["simulated"] is False


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"epsilon": 1.0, "noise_multiplier": 2.0}, "both epsilon and noise_multiplier"),
        ({"delta": 1e-5}, "`delta` has no effect"),
        ({"noise": "secure"}, "`noise` has no effect"),
        ({"epsilon": 1.0, "references": ["pooled"]}, "exact counts"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.0, "delta": 1.0}, "delta"),
    ],
)
def test_what_makes_no_sense_is_refused(evaluation, words):
    with pytest.raises(FedmodelError, match=words) as refused:
        Experiment.read({**CONFIG, "evaluation": evaluation})
    assert refused.value.fix
