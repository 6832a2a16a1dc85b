"""Every client's own model at every client, against each model called by hand."""

import pandas as pd
import pytest
import torch

import fedmodel
from fedmodel import Experiment, references
from fedmodel.errors import FedmodelError

CONFIG = {
    "rounds": 2,
    "data": {"name": "heart_disease", "sensitive": ["sex"]},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.5},
    "evaluation": {"references": ["local", "cross_site"]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fedmodel.run(CONFIG, out=tmp_path_factory.mktemp("cross-site") / "run")


def test_every_pair_equals_the_model_called_on_the_records(run):
    built = Experiment.read(CONFIG).built
    data, table = built.data, run.cross_site.set_index(["model", "client"])
    vectors = references.alone(built.workload, built.clean, passes=1.0, num_rounds=2)
    shared = built.model.join(dict(run.model.named_parameters()))
    models = dict(zip(data.clients, vectors)) | {"global": shared}
    assert len(table) == len(models) * data.num_clients
    for name, vector in models.items():
        for number, client in enumerate(data.clients):
            rows = data.rows(number, "test")
            right = built.model.predict(vector, data.x[rows]).argmax(1) == data.y[rows]
            found = table.loc[(name, client)]
            assert (found.correct, found.num_records) == (right.sum().item(), len(right))
            assert found.accuracy == pytest.approx(right.double().mean().item())


def test_the_diagonal_is_the_local_reference_and_the_last_row_the_shared_model(run):
    table, metrics = run.cross_site, run.metrics
    own = metrics[(metrics.scope == "client") & (metrics.metric == "accuracy")]
    own = own[(own["round"] == 2) & (own.split == "test")]
    home = table[table.model == table.client].set_index("client").accuracy
    shared = table[table.model == "global"].set_index("client").accuracy
    for model, found in (("local", home), ("global", shared)):
        expected = own[own.model == model].set_index("key").value
        pd.testing.assert_series_equal(
            found[list(expected.index)], expected, check_names=False, check_index_type=False
        )


def test_the_report_draws_it_and_another_run_has_none(run, tmp_path):
    page = run.report.read_text(encoding="utf-8")
    assert "Accuracy of every model at every client" in page
    plain = {**CONFIG, "rounds": 1, "evaluation": {}}
    other = fedmodel.run(plain, out=tmp_path / "plain")
    assert not len(other.cross_site)
    assert "Accuracy of every model at every client" not in other.report.read_text("utf-8")


def test_it_may_be_the_only_reference(tmp_path):
    only = {**CONFIG, "rounds": 1, "evaluation": {"references": ["cross_site"]}}
    run = fedmodel.run(only, out=tmp_path / "run")
    assert len(run.cross_site) == 20
    assert set(run.metrics.model) == {"global"}


def test_too_many_clients_and_noised_counts_are_refused(monkeypatch):
    monkeypatch.setattr("fedmodel.fitting.MOST_SITES", 3)
    with pytest.raises(FedmodelError, match="4 clients make 16 pairs"):
        Experiment.read(CONFIG).built  # noqa: B018
    with pytest.raises(FedmodelError, match="exact counts"):
        Experiment.read({**CONFIG, "evaluation": {**CONFIG["evaluation"], "epsilon": 1.0}})


def test_a_client_without_test_records_has_no_accuracy():
    built = Experiment.read(CONFIG).built
    data = built.clean
    bounds = data.bounds.clone()
    bounds[1, 2:] = bounds[1, 3]
    from dataclasses import replace

    vectors = torch.zeros(4, built.model.size)
    table = references.cross_site(
        built.workload, replace(data, bounds=bounds), vectors, shared=vectors[0]
    )
    empty = table[table.client == data.clients[1]]
    assert empty.accuracy.isna().all()
    assert (empty.num_records == 0).all()
