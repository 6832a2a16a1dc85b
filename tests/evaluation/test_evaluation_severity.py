"""Worse records: as the encoder itself would encode them, from the seed and the record alone."""

import numpy as np
import pandas as pd
import pytest
import torch

import fedmodel
from fedmodel import Experiment
from fedmodel._flower import arrays_of
from fedmodel.apps import CohortApp
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.severity import Severity, severity_counts
from fedmodel.messages import Instructions, Replies, requests

LEVELS = {"feature_noise": [0.5, 2.0], "missing_features": [0.3, 1.0]}
CONFIG = {
    "seed": 5,
    "rounds": 4,
    "data": {"name": "heart_disease", "sensitive": ["sex"]},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.5},
    "evaluation": {"severity": {**LEVELS, "every": 2}},
}
TEXTS = {
    **CONFIG,
    "rounds": 1,
    "data": {"name": "vader_amazon"},
    "model": {"name": "text_bag"},
    "partition": {"name": "iid", "clients": 3},
    "evaluation": {"severity": {"typos": [0.2, 1.0]}},
}


@pytest.fixture(scope="module")
def table():
    return Experiment.read(CONFIG).built


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fedmodel.run(CONFIG, out=tmp_path_factory.mktemp("severity") / "run")


def worse(built, records, kind, level):
    return built.workload.severity.worsened(built.data, records, kind=kind, level=level)


def test_noise_has_the_level_and_falls_on_numbers_only(table):
    data, everything = table.data, torch.arange(len(table.data.y))
    added = worse(table, everything, "feature_noise", 2.0) - data.x
    numeric = torch.tensor([" = " not in name and "missing" not in name for name in data.features])
    assert (added[:, ~numeric] == 0).all()
    noise = added[:, numeric]
    assert noise.mean().item() == pytest.approx(0, abs=4 * 2 / noise.numel() ** 0.5)
    assert noise.std().item() == pytest.approx(2, rel=4 / (2 * noise.numel()) ** 0.5)
    half = worse(table, everything, "feature_noise", 1.0) - data.x
    torch.testing.assert_close(2 * half, added, rtol=1e-4, atol=1e-4)


def test_missing_features_are_what_the_encoder_makes_of_empty_cells(table):
    data, everything = table.data, torch.arange(len(table.data.y))
    empty = pd.DataFrame({c.name: [np.nan] for c in data.encoder.columns})
    blank = torch.from_numpy(data.encoder.transform(empty))
    assert (blank == 1).any()  # some columns have an indicator
    gone = worse(table, everything, "missing_features", 1.0)
    assert torch.equal(gone, blank.expand_as(gone))
    some = worse(table, everything, "missing_features", 0.3)
    start, shares = 0, []
    for column in data.encoder.columns:  # a feature is there as a whole or not at all
        own = slice(start, start + len(column.names))
        start = own.stop
        there, empty = (
            (some[:, own] == data.x[:, own]).all(1),
            (some[:, own] == blank[:, own]).all(1),
        )
        assert (there | empty).all()
        shares.append((~there).float().mean().item())
    assert 0.1 < np.mean(shares) < 0.3  # what was missing before cannot be seen to go


def test_what_happens_to_a_record_does_not_depend_on_the_others(table):
    few = torch.tensor([17, 3, 200])
    for kind in LEVELS:
        everything = worse(table, torch.arange(300), kind, 0.5)
        assert torch.equal(worse(table, few, kind, 0.5), everything[few])
    other = Severity(levels={"feature_noise": (0.5,)}, last=1, seed=6)
    noise = other.worsened(table.data, few, kind="feature_noise", level=0.5)
    assert not torch.equal(noise, worse(table, few, "feature_noise", 0.5))


def test_a_misspelt_word_is_any_bucket_and_padding_stays():
    built = Experiment.read(TEXTS).built
    data, everything = built.data, torch.arange(len(built.data.y))
    there = data.x > 0
    all_gone = worse(built, everything, "typos", 1.0)
    assert torch.equal(all_gone > 0, there)
    tokens = all_gone[there].double()
    assert tokens.max() < data.vocabulary
    sigma = data.vocabulary / 12**0.5 / len(tokens) ** 0.5
    assert tokens.mean().item() == pytest.approx(data.vocabulary / 2, abs=4 * sigma)
    some = worse(built, everything, "typos", 0.2)
    changed = (some != data.x)[there].double().mean().item()
    assert changed == pytest.approx(0.2, abs=4 * (0.16 / len(tokens)) ** 0.5 + 1e-3)
    assert torch.equal(some[some != data.x], all_gone[some != data.x])  # more of the same


def test_rows_equal_the_model_called_on_the_worsened_records(run, table):
    rows = run.metrics[run.metrics.metric.str.contains("[", regex=False)]
    assert sorted(set(rows["round"])) == [2, 4]
    assert set(rows.key) == {"", "sex=Female", "sex=Male"}
    assert len(rows) == 2 * 4 * 3
    data, module = table.data, run.model
    parts = [data.rows(client, "test") for client in range(data.num_clients)]
    test = torch.cat([torch.arange(rows.start, rows.stop) for rows in parts])
    for kind, levels in LEVELS.items():
        for level in levels:
            answer = module(worse(table, test, kind, level)).argmax(1)
            right = (answer == data.y[test]).double()
            found = rows[(rows.metric == f"accuracy[{kind}={level:g}]") & (rows["round"] == 4)]
            found = found.set_index("key").value
            assert found[""] == pytest.approx(right.mean().item())
            for number, sex in enumerate(data.attributes["sex"]):
                own = right[data.group[test, 0] == number].mean().item()
                assert found[f"sex={sex}"] == pytest.approx(own)


def test_the_report_shows_a_curve_for_each_kind(run):
    page = run.report.read_text(encoding="utf-8")
    assert "Accuracy with noise on the features" in page
    assert "At share of features that are missing 1: all records" in page
    assert "accuracy[feature_noise=2]" not in page  # has no row among the metrics


def test_counts_of_worse_records_travel_as_messages_do(table):
    app, nodes = CohortApp(table.workload), [2, 3, 4, 5]
    arrays = arrays_of(table.model.initial, table.layout)
    names = {}
    for number in (1, 2):
        asked = Instructions(nodes, "evaluate", arrays, {"server-round": number})
        answer = app.answer(requests(asked)[0], range(4), {})
        names[number] = set(severity_counts(answer.records))
        travelled = severity_counts(Replies.read(list(answer)).records)
        for name, counts in severity_counts(answer.records).items():
            assert torch.equal(counts.confusion, travelled[name].confusion)
    assert (len(names[1]), len(names[2])) == (0, 4)


@pytest.mark.parametrize(
    ("base", "evaluation", "said"),
    [
        (CONFIG, {"severity": {}}, "names no levels"),
        (CONFIG, {"severity": {"typos": [0.1]}}, "has no texts, so `typos`"),
        (TEXTS, {"severity": {"feature_noise": [1.0]}}, "nothing but texts"),
        (CONFIG, {"severity": {"missing_features": [1.5]}}, "severity.missing_features` cannot"),
        (CONFIG, {"severity": {"feature_noise": []}}, "severity.feature_noise` cannot"),
        (CONFIG, {"every": 2, "severity": {**LEVELS, "every": 3}}, "every 3 rounds"),
        (CONFIG, {"epsilon": 1.0, "severity": LEVELS}, "beyond those"),
    ],
)
def test_what_has_no_effect_or_is_not_counted_is_refused(base, evaluation, said):
    with pytest.raises(FedmodelError, match=said):
        Experiment.read({**base, "evaluation": evaluation}).built  # noqa: B018


def test_a_private_run_says_that_these_counts_are_exact(tmp_path):
    private = {
        **CONFIG,
        "rounds": 1,
        "client": {"name": "dp_sgd", "learning_rate": 0.5},
        "privacy": {"epsilon": 3.0, "delta": 1e-3},
        "evaluation": {"references": ["non_private"], "severity": {"missing_features": [0.5]}},
    }
    run = fedmodel.run(private, out=tmp_path / "run")
    assert any("made worse: exact" in line for line in run.manifest["privacy"]["outside"])
    rows = run.metrics[run.metrics.metric == "accuracy[missing_features=0.5]"]
    assert set(rows.model) == {"global"}
