"""Whole runs, held against what others compute from the same model and the same steps."""

import json
from pathlib import Path

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from opacus.accountants import PRVAccountant

import fedmodel
from fedmodel.experiment import Experiment

PRIVATE = {
    "seed": 5,
    "rounds": 5,
    "data": {"name": "heart_disease", "encode": "public", "sensitive": ["sex", "age"], "test": 0.3},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.3, "batch_size": 32},
    "privacy": {"epsilon": 2.0, "delta": 1e-3, "participations": 3},
    "strategy": {"name": "compose", "sample": 0.75},
    "evaluation": {"references": ["pooled", "local", "non_private"]},
}
PLAIN = {
    "rounds": 3,
    "data": {"name": "heart_disease", "encode": "public"},
    "partition": {"name": "dirichlet", "clients": 6, "alpha": 2.0},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.2},
}


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    return fedmodel.run(PRIVATE, out=tmp_path_factory.mktemp("runs") / "private")


def last(run, metric, *, scope="global", key="", model="global"):
    rows = run.metrics.query(
        "metric == @metric and scope == @scope and key == @key and model == @model and split == 'test'"
    )
    return rows.sort_values("round").value.iloc[-1]


def test_every_file_of_the_contract_is_there(private):
    names = {path.name for path in private.path.iterdir()}
    assert names >= {
        "config.toml",
        "manifest.json",
        "metrics.parquet",
        "clients.parquet",
        "epsilon.parquet",
        "model.safetensors",
        "report.html",
        "log.txt",
    }
    assert list(private.metrics) == ["round", "split", "model", "scope", "key", "metric", "value"]
    assert list(private.epsilon) == ["round", "client", "epsilon", "delta", "accountant"]
    assert set(private.metrics.model) == {"global", "pooled", "local", "non_private"}
    assert set(private.metrics["round"]) == {0, 1, 2, 3, 4, 5}
    assert len(private.clients) == 4
    assert private.report.stat().st_size < 2_000_000
    manifest = json.loads((private.path / "manifest.json").read_text())
    assert manifest["seed"] == 5
    assert manifest["versions"]["torch"] == torch.__version__


def test_metrics_equal_fairlearn_and_scikit_learn_on_pooled_predictions(private):
    data = Experiment.read(PRIVATE).built.data
    rows = torch.cat([torch.arange(*data.bounds[k, 2:].tolist()) for k in range(4)])
    with torch.no_grad():
        logits = private.model(data.x[rows])
    truth, predicted = data.y[rows].numpy(), logits.argmax(1).numpy()
    scores = logits.softmax(1)[:, 1].numpy()
    groups = pd.DataFrame(data.group[rows].numpy(), columns=list(data.attributes))
    for name, expected in {
        "accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(truth, predicted),
        "demographic_parity_difference": fairlearn.metrics.demographic_parity_difference(
            truth, predicted, sensitive_features=groups
        ),
        "demographic_parity_ratio": fairlearn.metrics.demographic_parity_ratio(
            truth, predicted, sensitive_features=groups
        ),
    }.items():
        assert last(private, name) == pytest.approx(expected, abs=1e-9), name
    by_sex = fairlearn.metrics.equalized_odds_difference(
        truth, predicted, sensitive_features=groups[["sex"]]
    )
    assert last(private, "equalized_odds_difference", scope="group", key="sex") == pytest.approx(
        by_sex, abs=1e-9
    )
    log_loss = sklearn.metrics.log_loss(truth, scores.astype(float))
    assert last(private, "loss") == pytest.approx(log_loss, abs=1e-6)
    auc, bound = sklearn.metrics.roc_auc_score(truth, scores), last(private, "roc_auc_bound")
    assert abs(last(private, "roc_auc") - auc) <= bound + 1e-9


def test_epsilon_equals_opacus_from_the_steps_really_taken(private):
    """The rounds that each client trained in, its own size, and nothing of our bookkeeping."""
    data = Experiment.read(PRIVATE).built.data
    taken = dict.fromkeys(range(4), 0)
    for entry in private.rounds.to_dict("records"):
        for k in entry["trained"]:
            taken[k] += int(np.ceil(int(data.sizes("train")[k]) / 32))
    assert max(private.clients.rounds) == 3
    for k, row in private.clients.iterrows():
        n = int(data.sizes("train")[k])
        accountant = PRVAccountant()
        accountant.history = [(row.noise_multiplier, min(1, 32 / n), taken[k])]
        assert row.epsilon == pytest.approx(accountant.get_epsilon(1e-3), rel=2e-3)
        assert row.epsilon <= 2.0
        final = private.epsilon[private.epsilon.client == row.client].sort_values("round")
        assert final.epsilon.iloc[-1] == row.epsilon
        assert final.epsilon.is_monotonic_increasing
        assert len(final) == 5


def test_a_client_whose_budget_is_spent_declines_and_says_so(tmp_path):
    run = fedmodel.run(
        PRIVATE, {"strategy.sample": 1.0, "evaluation.references": []}, out=tmp_path / "r"
    )
    assert (run.clients.rounds == 3).all()
    assert (run.clients.declined == 2).all()
    assert (run.clients.epsilon <= 2.0).all()
    assert "its budget is spent" in (run.path / "log.txt").read_text()
    losses = run.metrics.query("metric == 'loss' and scope == 'global' and split == 'test'").value
    assert losses.nunique() == 4  # rounds 4 and 5 change nothing


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(tmp_path):
    changes = {"evaluation.references": []}
    runs = [
        fedmodel.run(PRIVATE, changes, seed=s, out=tmp_path / str(i))
        for i, s in enumerate((5, 5, 6))
    ]
    pd.testing.assert_frame_equal(runs[0].metrics, runs[1].metrics)
    assert last(runs[0], "loss") != last(runs[2], "loss")


def test_without_privacy_no_private_data_is_claimed(tmp_path):
    run = fedmodel.run(PLAIN, out=tmp_path / "r")
    assert len(run.epsilon) == 0
    assert "privacy" not in run.manifest


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FedAdam", {"eta": 0.1}),
        ("FedAdagrad", {"eta": 0.1}),
        ("FedProx", {"proximal_mu": 0.5}),
        ("QFedAvg", {"client_learning_rate": 0.2, "q": 0.5}),
        ("FedMedian", {}),
    ],
)
def test_flowers_strategies_run_unchanged(name, options, tmp_path):
    strategy = {"name": f"flwr.serverapp.strategy:{name}", "fraction_train": 0.5, **options}
    run = fedmodel.run({**PLAIN, "strategy": strategy}, out=tmp_path / "r")
    losses = run.metrics.query("metric == 'loss' and scope == 'global'").sort_values("round").value
    assert losses.iloc[-1] < losses.iloc[0]
    assert (run.rounds.trained.str.len()[1:] == 3).all()


def test_fedprox_stays_nearer_to_the_global_model(tmp_path):
    def moved(mu):
        strategy = {"name": "flwr.serverapp.strategy:FedProx", "proximal_mu": mu}
        changes = {"rounds": 1, "client.steps": 20}
        run = fedmodel.run({**PLAIN, "strategy": strategy}, changes, out=tmp_path / str(mu))
        initial = Experiment.read(PLAIN).built.model.initial
        return float(
            (torch.cat([p.detach().flatten() for p in run.model.parameters()]) - initial).norm()
        )

    assert moved(5.0) < 0.5 * moved(0.0)


ATTACKS = {
    "sign_flip": {"name": "sign_flip", "scale": 5.0},
    "label_flip": {"name": "label_flip"},
    "a_little_is_enough": {"name": "a_little_is_enough", "deviations": 10.0},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_hurts_the_mean_and_is_measured(attack, tmp_path):
    many = {**PLAIN, "rounds": 4, "partition": {"name": "iid", "clients": 10}}
    # Not a softmax regression: a shift common to both classes would change nothing in it.
    many["model"] = {"name": "mlp", "hidden": [8]}
    clean = fedmodel.run(many, out=tmp_path / "clean")
    run = fedmodel.run(
        {**many, "attack": {**ATTACKS[attack], "clients": 0.3}}, out=tmp_path / "bad"
    )
    assert run.clients.dishonest.sum() == 3
    assert last(run, "loss") > last(clean, "loss")
    shares = run.metrics.query("metric == 'aggregate_share'")
    assert set(shares.key) == set(run.clients[run.clients.dishonest].client)
    honest = run.metrics.query("metric == 'honest_accuracy'")
    assert len(honest) == 5
    assert set(run.metrics.metric) - set(clean.metrics.metric) == {
        "aggregate_share",
        "honest_accuracy",
        "honest_accuracy_worst_decile",
    }


def test_a_robust_aggregator_withstands_what_breaks_the_mean(tmp_path):
    base = {
        **PLAIN,
        "rounds": 6,
        "partition": {"name": "iid", "clients": 10},
        "attack": {"name": "sign_flip", "scale": 10.0, "clients": ["0", "7"]},
    }
    broken = fedmodel.run(base, out=tmp_path / "mean")
    robust = {"strategy": {"name": "compose", "combine": {"name": "trimmed_mean", "fraction": 0.2}}}
    held = fedmodel.run({**base, **robust}, out=tmp_path / "trimmed")
    assert last(held, "honest_accuracy") > last(broken, "honest_accuracy") + 0.1
    assert broken.clients.query("dishonest").client.tolist() == ["0", "7"]


def test_pooled_and_local_references_are_plain_training(tmp_path):
    """One client that holds everything is its own pooled and its own local reference."""
    alone = {
        **PLAIN,
        "rounds": 4,
        "partition": {"name": "iid", "clients": 1},
        "client": {"name": "sgd", "learning_rate": 0.1, "batch_size": 1000},
        "evaluation": {"references": ["pooled", "local"]},
    }
    run = fedmodel.run(alone, out=tmp_path / "r")
    for model in ("pooled", "local"):
        assert last(run, "loss", model=model) == pytest.approx(last(run, "loss"), abs=1e-5)


def test_the_non_private_reference_is_the_run_without_noise(tmp_path):
    changes = {"privacy.noise_multiplier": 1e-9, "privacy.epsilon": None, "privacy.clip": 1e6}
    run = fedmodel.run(PRIVATE, {**changes, "privacy.participations": 5}, out=tmp_path / "r")
    losses = run.metrics.query("metric == 'loss' and scope == 'global' and split == 'test'")
    table = losses.pivot(index="round", columns="model", values="value").loc[1:]
    np.testing.assert_allclose(table["global"], table["non_private"], atol=1e-5)


def test_the_best_round_by_validation_records_is_kept(tmp_path):
    run = fedmodel.run(PLAIN, {"data.validation": 0.2, "rounds": 4}, out=tmp_path / "r")
    rows = run.metrics.query("split == 'validation' and scope == 'global' and metric == 'accuracy'")
    rows = rows[rows["round"] > 0].sort_values("round")
    assert run.manifest["best"]["round"] == rows.loc[rows.value.idxmax(), "round"]
    assert (run.path / "best.safetensors").is_file()


def test_rounds_of_a_notebook(tmp_path):
    experiment = Experiment.read(PLAIN, rounds=10)
    for round in experiment.rounds(tmp_path / "r"):
        assert 0 <= round["accuracy"] <= 1
        with pytest.raises(KeyError, match="accuracy"):
            round["acuracy"]
        if round.number == 2:
            break
    assert experiment.run.metrics["round"].max() == 2
    again = fedmodel.load(tmp_path / "r")
    assert len(again.clients.sort_values("accuracy").head()) == 5


def test_evaluation_every_few_rounds_and_after_the_last(tmp_path):
    run = fedmodel.run(PLAIN, {"rounds": 5, "evaluation.every": 2}, out=tmp_path / "r")
    assert sorted(set(run.metrics["round"])) == [0, 2, 4, 5]


def test_a_metric_and_an_aggregator_of_the_users_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def errors(confusion):\n"
        "    '''Wrong predictions.'''\n"
        "    return float(confusion.sum() - confusion.sum(0).diagonal().sum())\n"
        "def half_mean(delta, *, factor: float = 0.5):\n"
        "    '''Half of the mean.'''\n"
        "    return factor * delta.mean(0)\n"
    )
    toml = tmp_path / "mine.toml"
    toml.write_text(
        'rounds = 2\n[data]\nname = "heart_disease"\nencode = "public"\n[model]\nname = "logistic"\n'
        '[client]\nname = "sgd"\nlearning_rate = 0.1\n'
        '[strategy]\nname = "compose"\ncombine = { name = "mine.py:half_mean", factor = 0.25 }\n'
        '[evaluation]\nmetrics = ["mine.py:errors"]\n'
    )
    run = fedmodel.run(toml, out=tmp_path / "r")
    errors, accuracy = last(run, "errors"), last(run, "accuracy")
    assert errors == pytest.approx((1 - accuracy) * last(run, "num_records"))
    # The plug-in went along, so the run is whole without the user's folder.
    (tmp_path / "mine.py").unlink()
    assert Experiment.read(run.path / "config.toml").components.metrics


def test_the_users_own_file_of_records(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": draw.normal(size=300),
            "b": draw.choice(["x", "y"], 300),
            "sex": draw.choice(["f", "m"], 300),
            "site": draw.choice(["north", "south", "west"], 300),
        }
    )
    frame["sick"] = np.where(frame.a + (frame.b == "x") + draw.normal(size=300) > 0.5, "yes", "no")
    frame.to_csv(tmp_path / "records.csv", index=False)
    toml = tmp_path / "mine.toml"
    toml.write_text(
        'rounds = 5\n[data]\nname = "csv"\npath = "records.csv"\nlabel = "sick"\nsensitive = ["sex"]\n'
        'client = "site"\n[model]\nname = "logistic"\n[client]\nname = "sgd"\nlearning_rate = 0.5\n'
    )
    run = fedmodel.run(toml, out=tmp_path / "r")
    assert set(run.clients.client) == {"north", "south", "west"}
    assert last(run, "roc_auc") > 0.75
    assert any("=" in key for key in run.metrics.query("scope == 'group'").key)


def test_a_name_leads_to_no_other_folder():
    experiment = Experiment.read(PLAIN, name="../else/where\n" + "x" * 300)
    folder = experiment.default_folder()
    assert folder.parent == Path("runs")
    assert folder.name.startswith("..-else-where-x")
    assert len(folder.name) < 150
