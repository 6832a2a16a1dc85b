"""Inference audits: what is there is found, what is not there is not."""

import numpy as np
import pytest
import torch

from fedmodel.audits import inference
from fedmodel.audits.audit import audit, chosen
from fedmodel.audits.inference import attribute_inference, property_inference
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.runs.page import Page

HOSPITALS = {
    "rounds": 3,
    "seed": 3,
    "data": {"name": "heart_disease", "sensitive": ["sex"], "test": 0.4},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.5, "batch_size": 16},
}
SHADOWS = {"shadows": 120, "records": 24}


@pytest.fixture(scope="module")
def experiment():
    return Experiment.read(HOSPITALS)


def test_a_property_that_the_model_reads_is_found():
    found = property_inference(Experiment.read(HOSPITALS, {"model.name": "mlp"}), **SHADOWS)
    assert found.figures["property_auc"] > 0.9


def test_a_property_that_is_not_there_is_not_found(experiment, monkeypatch):
    """Levels drawn by lot: nothing in a record tells them."""
    data = Experiment.read(HOSPITALS).built
    lot = torch.randint(0, 2, data.data.group.shape)
    object.__setattr__(data.data, "group", lot)
    other = Experiment.read(HOSPITALS)
    other.__dict__["built"] = data
    # Many targets: the standard error of the area is about 0.03.
    auc = property_inference(other, shadows=400, records=24).figures["property_auc"]
    assert 0.38 < auc < 0.62


def test_made_up_clients_have_exactly_the_shares():
    has = np.arange(100) < 30
    drawn = inference._drawn(
        np.random.default_rng(0), np.arange(100), has, np.array([0, 1, 1]),
        low=0.2, high=0.8, records=20,
    )  # fmt: skip
    assert [int(has[rows].sum()) for rows in drawn] == [4, 16, 16]
    assert all(len(rows.unique()) == 20 for rows in drawn)


def test_a_constant_model_adds_nothing(experiment, monkeypatch):
    monkeypatch.setattr(inference, "final_model", lambda e: torch.zeros(e.built.model.size))
    found = attribute_inference(experiment)
    assert found.figures == {"attribute_advantage": 0.0, "attribute_leak": 0.0}
    assert found.tables["guesses"].imputation.between(0.5, 1).all()


def test_a_model_that_knows_its_records_by_heart_leaks(experiment, monkeypatch):
    """As if the model gave the true label only to the true level of its training records."""
    data = experiment.built.clean
    train = torch.cat(
        [torch.arange(data.rows(k, "train").start, data.rows(k, "train").stop) for k in range(4)]
    )
    place = dict(inference.columns_of(data, 0).categories)["sex"]

    def chances(experiment, data, vector, place, levels):
        known = torch.zeros(len(data.y), len(levels))
        known[train] = 20.0 * data.x[train][:, place][:, levels]
        return known.double().numpy()

    assert place.stop - place.start >= 2
    monkeypatch.setattr(inference, "_label_chances", chances)
    found = attribute_inference(experiment)
    rows = found.tables["guesses"].set_index("records")
    assert rows.with_model["training records"] > 0.99
    assert rows.advantage["other records"] == 0
    assert found.figures["attribute_leak"] > 0.2


def test_the_model_that_is_attacked_is_the_trained_one(experiment):
    by_hand = experiment.built.model.initial
    vector = inference.final_model(experiment)
    again = inference.final_model(Experiment.read(HOSPITALS))
    torch.testing.assert_close(vector, again)
    assert not torch.allclose(vector, by_hand)


def test_a_finished_run_gives_its_model(tmp_path):
    ran = Experiment.read(HOSPITALS, {"engine.name": "inline"})
    for _ in ran.rounds(tmp_path / "run"):
        pass
    expected = ran.built.model.predict(inference.final_model(ran), ran.built.data.x[:5])
    torch.testing.assert_close(ran.run.model(ran.built.data.x[:5]), expected)
    torch.testing.assert_close(
        inference.final_model(Experiment.read(HOSPITALS)), inference.final_model(ran)
    )


def test_sections_can_be_shown(experiment):
    sections = [
        property_inference(experiment, **SHADOWS).section,
        attribute_inference(experiment).section,
    ]
    page = Page(title="t", about=[], headline="h", sections=sections).render()
    assert "sex = Male" in page and "imputation" in page


@pytest.mark.parametrize(
    ("call", "options", "problem"),
    [
        (property_inference, {"attribute": "agee"}, "no sensitive attribute 'agee'"),
        (property_inference, {"level": "male"}, "no level 'male'"),
        (property_inference, {"low": 0.8, "high": 0.2}, "is not below"),
        (property_inference, {"records": 400}, "do not make a client of 400"),
        (attribute_inference, {"attribute": "agee"}, "no sensitive attribute"),
    ],
)
def test_what_cannot_be_inferred_is_refused(experiment, call, options, problem):
    with pytest.raises(FedmodelError, match=problem) as error:
        call(experiment, **options)
    assert error.value.fix


def test_an_attribute_that_the_model_does_not_read_is_refused():
    experiment = Experiment.read(
        {**HOSPITALS, "data": {"name": "heart_disease", "sensitive": ["age"]}}
    )
    with pytest.raises(FedmodelError, match="does not read 'age'"):
        attribute_inference(experiment)


def test_what_does_not_fit_is_noted_beside_what_does(tmp_path):
    nobody = Experiment.read({**HOSPITALS, "data": {"name": "heart_disease", "sensitive": []}})
    options = {"gradient_inversion": {"attack": "closed_form", "batch_sizes": [1]}}
    both = chosen(["property_inference", "gradient_inversion"], options)
    findings = audit(nobody, both, out=tmp_path / "both")
    assert [finding.name for finding in findings] == ["gradient_inversion"]
    assert "property_inference does not fit" in (tmp_path / "both" / "audit.html").read_text()
    with pytest.raises(FedmodelError, match="no sensitive attribute"):
        audit(nobody, both[:1], out=tmp_path / "one")
