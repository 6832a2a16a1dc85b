"""The tour: what its table says is what runs and scikit-learn found."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

import fedmodel
from experiments import tour as module
from experiments.tour import comparable, main, scikit_learn, tour, worst_group
from experiments.tour_results import checked, save, shown
from experiments.tour_settings import (
    NEEDS_A_FILE,
    SETTINGS,
    experiment_of,
    suitable_delta,
)
from fedmodel.catalogue import KINDS
from fedmodel.experiment import Experiment

LINEAR = [name for name, setting in SETTINGS.items() if setting.same_family]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tour")
    return folder, tour(["heart_disease", "indo_rct"], folder, seeds=(1, 2), rounds=2)


def test_every_data_set_is_toured_or_left_out_with_a_reason():
    toured = {setting.data.get("name", name) for name, setting in SETTINGS.items()}
    assert toured.isdisjoint(NEEDS_A_FILE)
    assert toured | set(NEEDS_A_FILE) == set(KINDS["dataset"].names())


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_valid_experiment_with_and_without_privacy(name):
    plain = Experiment.read(experiment_of(name)).config
    private = Experiment.read(experiment_of(name, private=True, delta=1e-4)).config
    assert plain.privacy is None and private.privacy.epsilon == 3.0
    assert (plain.data, plain.partition, plain.model) == (
        private.data,
        private.partition,
        private.model,
    )


def test_the_table_is_what_the_runs_found(told):
    folder, found = told
    assert len(found.table) == 8
    row = found.table[(found.table.data == "heart_disease") & (found.table.model == "local")]
    runs = fedmodel.load(folder / "heart_disease")
    each = [run.last("accuracy", model="local") for run in runs.runs.values()]
    assert row.value.item() == pytest.approx(np.mean(each))
    # Two values: Student's quantile of one degree of freedom is 12.706.
    assert row.half.item() == pytest.approx(12.7062 * abs(each[0] - each[1]) / 2, rel=1e-4)
    private = found.table[found.table.model == "federated, epsilon 3"]
    assert (private.epsilon <= 3.0 + 1e-9).all() and (private.epsilon > 1.0).all()
    sizes = fedmodel.load(folder / "heart_disease-private").clients.num_train
    assert (sizes * private.delta.iloc[0] <= 0.1).all()
    assert (found.table.seconds > 0).all()


def test_the_worst_group_is_the_worst_of_those_with_enough_records():
    values = pd.DataFrame(
        [
            (seed, key, metric, value)
            for seed, key, number, accuracy in [
                (1, "a", 10, 0.5),
                (1, "b", 9, 0.1),
                (1, "c", 40, 0.7),
                (2, "a", 10, 0.9),
                (2, "c", 40, 0.6),
            ]
            for metric, value in (("num_records", number), ("accuracy", accuracy))
        ],
        columns=["seed", "key", "metric", "value"],
    )
    assert worst_group(values) == pytest.approx((0.5 + 0.6) / 2)


def test_the_worst_client_is_the_worst_of_those_with_enough_records(told):
    folder, found = told
    row = found.table[(found.table.data == "heart_disease") & (found.table.model == "federated")]
    runs = fedmodel.load(folder / "heart_disease")
    assert row.worst_client.item() == pytest.approx(
        runs.clients.groupby("seed").accuracy.min().mean()
    )


def test_clients_are_compared_by_auc_where_each_class_has_enough_records():
    experiment = Experiment.read({**experiment_of("lending_club", rounds=1), "seeds": [1, 2]})
    data = experiment.changed({"seeds": None, "seed": 1}).built.data
    positive = {
        name: int(data.y[data.rows(k, "test")].sum()) for k, name in enumerate(data.clients)
    }
    expected = [name for name in data.clients if positive[name] >= 10]  # good loans abound
    assert comparable(data, metric="roc_auc") == expected and 0 < len(expected) < 20
    number = dict(zip(data.clients, data.sizes("test").tolist()))
    assert set(comparable(data, metric="accuracy")) == {
        n for n, size in number.items() if size >= 10
    }


def test_scikit_learn_sees_the_same_words():
    """A hashed word is a word: without collisions, counts are those of CountVectorizer."""
    experiment = Experiment.read(
        {
            **experiment_of("vader_tweets", rounds=1),
            "seeds": [1, 2],
            "data": {"name": "vader_tweets", "buckets": 2**14},
        }
    ).changed({"seeds": None, "seed": 1})
    data = experiment.built.data.pooled()
    words = [" ".join(f"w{t}" for t in row if t) for row in data.x.tolist()]
    train, test = data.rows(0, "train"), data.rows(0, "test")
    counts = CountVectorizer().fit(words).transform(words)
    model = LogisticRegression(max_iter=5000).fit(counts[train], data.y[train])
    expected = accuracy_score(data.y[test], model.predict(counts[test]))
    found = scikit_learn(experiment.built.data, metric="accuracy")
    assert found == pytest.approx(expected, abs=0.002)


def test_the_files_say_the_same(told, tmp_path):
    _, found = told
    page, table, _ = save(found, tmp_path, command="experiments.tour")
    text = page.read_text()
    first = shown(found.table).iloc[0]
    assert f"| {' | '.join(first)} |" in text
    assert all(name in text for name in NEEDS_A_FILE)
    assert "drowns" not in text
    tiny = found.checks.assign(median=[300.0, 12.0])
    pages = save(replace(found, checks=tiny), tmp_path, command="t")
    line = next(x for x in pages[0].read_text().splitlines() if "drowns" in x)
    assert "indo_rct" in line and "heart_disease" not in line
    again = pd.read_csv(table)
    np.testing.assert_allclose(again.value, found.table.value, rtol=1e-5)


def test_within_one_point_is_told_from_the_figures(told):
    checks = told[1].checks.head(1)
    cell = "within one"
    assert checked(checks.assign(points=-0.9))[cell].item() == "yes"
    assert checked(checks.assign(points=1.1))[cell].item() == "no"
    assert "another" in checked(checks.assign(points=1.1, same_family=False))[cell].item()


def test_delta_leaves_a_tenth_of_a_record():
    for number in (3, 100, 101, 5550, 10**6):
        delta = suitable_delta(number)
        assert 0.01 <= round(number * delta, 9) <= 0.1


def test_the_command_prints_both_tables(told, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "tour", lambda names, folder, keep, **options: keep(told[1]))
    main(["--only", "heart_disease", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "federated, epsilon 3" in printed and "scikit-learn" in printed
    assert re.search(r"left out: reuters_r8", printed)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_stopping_it_shows_what_was_finished(told, capsys, monkeypatch):
    def stopped(names, folder, keep, **options):
        keep(told[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "tour", stopped)
    with pytest.raises(SystemExit) as ended:
        main([])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "heart_disease" in said.out and "stopped" in said.err


def test_an_unknown_set_is_a_mistake_of_the_command_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "hearts"])
    assert stopped.value.code == 2
    assert "heart_disease" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_pooled_is_within_one_point_of_scikit_learn(name, tmp_path):
    checks = tour([name], tmp_path).checks
    assert abs(checks.points.item()) <= 1.0
