"""The decision threshold: every edge tried by hand, scikit-learn's scores, and whole runs."""

import json

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

import fedmodel
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.counts import count
from fedmodel.evaluation.threshold import best_threshold
from fedmodel.experiment import Experiment

SCORES = {
    "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
    "f1": lambda y, p: sklearn.metrics.f1_score(y, p, zero_division=0),
}
BASE = {
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "public", "validation": 0.2},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.2},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("by", SCORES)
@given(seed=st.integers(0, 10_000), number=st.integers(2, 40), bins=st.sampled_from([2, 8, 16]))
def test_no_other_edge_is_better(by, seed, number, bins):
    draw = np.random.default_rng(seed)
    y = np.r_[0, 1, draw.integers(0, 2, number)]
    p = np.clip(0.3 * y + draw.random(len(y)) * 0.7, 0, 0.999)
    histogram = np.stack([np.histogram(p[y == c], bins, (0, 1))[0] for c in (0, 1)])
    found, score = best_threshold(torch.from_numpy(histogram), by=by)
    tried = {b / bins: SCORES[by](y, (p >= b / bins).astype(int)) for b in range(1, bins)}
    assert score == pytest.approx(max(tried.values()), abs=1e-9)
    assert tried[found] == pytest.approx(score, abs=1e-9)
    best = [edge for edge, value in tried.items() if value >= score - 1e-12]
    assert abs(found - 0.5) == min(abs(edge - 0.5) for edge in best)


@given(seed=st.integers(0, 1000), threshold=st.floats(0.01, 0.99))
def test_a_count_decides_by_the_threshold(seed, threshold):
    draw = torch.Generator().manual_seed(seed)
    logits, y = torch.randn(30, 2, generator=draw), torch.arange(30) % 2
    zero = torch.zeros(30, dtype=torch.int64)
    form = {"num_clients": 1, "num_groups": 1}
    counts = count(logits, y, zero, zero, threshold=threshold, **form)
    decided = (logits.double().softmax(1)[:, 1] >= threshold).long()
    expected = sklearn.metrics.confusion_matrix(y, decided, labels=[0, 1])
    assert (counts.confusion[0, 0].numpy() == expected).all()
    assert torch.equal(counts.histogram, count(logits, y, zero, zero, **form).histogram)


def split_of(experiment, split):
    data = experiment.built.data
    rows = torch.cat([torch.arange(len(data.y))[data.rows(k, split)] for k in range(4)])
    return data.x[rows], data.y[rows].numpy()


def value_of(run, metric, model):
    rows = run.metrics.query("metric == @metric and scope == 'global' and split == 'test'")
    return rows[rows.model == model].sort_values("round").value.iloc[-1]


def test_a_run_counts_by_the_given_threshold_references_too(tmp_path):
    changes = {"evaluation": {"threshold": 0.3, "references": ["pooled"]}}
    run = fedmodel.run(BASE, changes, out=tmp_path / "run")
    x, y = split_of(Experiment.read(BASE), "test")
    with torch.no_grad():
        decided = (run.model(x).double().softmax(1)[:, 1] >= 0.3).numpy()
    expected = sklearn.metrics.balanced_accuracy_score(y, decided)
    assert value_of(run, "balanced_accuracy", "global") == pytest.approx(expected, abs=1e-9)
    plain = fedmodel.run(BASE, {"evaluation": {"references": ["pooled"]}}, out=tmp_path / "plain")
    for model in ("global", "pooled"):
        assert value_of(run, "roc_auc", model) == value_of(plain, "roc_auc", model)
        assert value_of(run, "accuracy", model) != value_of(plain, "accuracy", model)
    assert "from a probability of 0.3 on" in (run.path / "log.txt").read_text()


@pytest.mark.parametrize("by", SCORES)
def test_a_chosen_threshold_is_the_best_on_validation_records(by, tmp_path):
    changes = {"evaluation": {"threshold": "validation", "threshold_by": by}}
    run = fedmodel.run(BASE, changes, out=tmp_path / "run")
    chosen = json.loads((run.path / "manifest.json").read_text())["threshold"]
    experiment = Experiment.read(BASE)
    with torch.no_grad():
        x, y = split_of(experiment, "validation")
        p = run.model(x).double().softmax(1)[:, 1].numpy()
        best = max(SCORES[by](y, (p >= b / 1024).astype(int)) for b in range(1, 1024))
        assert SCORES[by](y, (p >= chosen["value"]).astype(int)) == pytest.approx(best)
        assert chosen["validation_score"] == pytest.approx(best)
        x, y = split_of(experiment, "test")
        decided = run.model(x).double().softmax(1)[:, 1].numpy() >= chosen["value"]
    expected = sklearn.metrics.balanced_accuracy_score(y, decided)
    assert value_of(run, "balanced_accuracy", "at_threshold") == pytest.approx(expected)
    assert "rows `at_threshold`" in run.report.read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"evaluation.threshold": 1.0}, "cannot be 1.0"),
        ({"evaluation.threshold": "test"}, "cannot be"),
        ({"evaluation.threshold_by": "f1"}, "has no effect"),
        ({"evaluation": {"threshold": 0.3, "threshold_by": "f1"}}, "has no effect"),
        ({"evaluation.threshold": "validation", "data.validation": 0.0}, "no validation records"),
        ({"evaluation": {"threshold": "validation", "epsilon": 1.0}}, "no histogram"),
        ({"evaluation.threshold": 0.3, "data": {"name": "digits"}}, "between two classes"),
    ],
)
def test_a_threshold_without_meaning_is_refused(changes, problem):
    with pytest.raises(FedmodelError, match=problem) as refused:
        changes = {"partition": {"name": "iid", "clients": 4}, **changes}
        Experiment.read(BASE, changes).built  # noqa: B018
    assert refused.value.fix
