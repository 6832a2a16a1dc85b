"""Which kernel trains a model is known, and told once, before anything runs."""

import re
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import fedmodel
from fedmodel.cli import main
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.cohort.trial import tried
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.rules import sample_data

NETWORKS = """
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.inner = nn.Linear(width, classes)
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x):
        return self.inner(x) * self.scale


class Deciding(Scaled):
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y


def scaled(*, num_features: int, num_classes: int):
    return Scaled(num_features, num_classes)


def deciding(*, num_features: int, num_classes: int):
    return Deciding(num_features, num_classes)
"""

CONFIG = """
rounds = 1
[data]
name = "heart_disease"
encode = "public"
[model]
name = "networks.py:{model}"
[client]
name = "{client}"
learning_rate = 0.3
"""
PRIVACY = """
[privacy]
noise_multiplier = 1.0
delta = 1e-3
accountant = "rdp"
"""
REASON = (
    "Scaled trains by torch.func, correct but slower: Scaled at 'the top' computes with a parameter"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks.py").write_text(NETWORKS)

    def write(model, client="sgd"):
        text = CONFIG.format(model=model, client=client) + (PRIVACY if client != "sgd" else "")
        (tmp_path / "e.toml").write_text(text)
        return tmp_path / "e.toml"

    return write


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["fedmodel", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    said = capsys.readouterr()
    return done.value.code, re.sub(r"\s+", " ", said.out + said.err)


def cohort_of(module, *, private=False):
    training = LocalTraining(
        batch_size=4,
        num_steps=np.ones(4, dtype=np.int64),
        private=private,
        clip=1.0 if private else float("inf"),
    )
    return Cohort(np.array([0, 1]), sample_data(), FlatModel(module), training, seed=1, round=0)


@pytest.mark.parametrize("private", [False, True])
def test_a_trial_trains_nothing_and_warns_of_nothing(private):
    cohort = cohort_of(nn.Linear(4, 2), private=private)
    before = cohort.model.initial.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tried(cohort) == ""
    assert torch.equal(cohort.model.initial, before)
    assert torch.equal(cohort.model.module.weight.flatten(), before[:8])
    assert not cohort.noise_steps.any()
    assert not cohort.poisson_steps.any()


def test_the_note_of_a_run_is_told_once_everywhere(folder, monkeypatch, capsys):
    folder("scaled")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        code, said = call(monkeypatch, capsys, "run", "e.toml", "--out", "here")
    assert code == 0
    assert said.count("torch.func") == 1
    assert REASON in said
    assert not [w for w in told if "torch.func" in str(w.message)]
    run = fedmodel.load("here")
    assert [note for note in run.manifest["notes"] if REASON in note]
    assert (run.path / "log.txt").read_text().count(f"note: {REASON}") == 1
    page = (run.path / "report.html").read_text()
    assert page.count("trains by torch.func, correct but slower") == 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_it_does_not_depend_on_the_engine(engine, folder, tmp_path):
    run = fedmodel.run(folder("scaled"), {"engine.workers": 2}, engine=engine, out=tmp_path / "run")
    assert (run.path / "log.txt").read_text().count(REASON) == 1
    assert sum(REASON in note for note in run.manifest["notes"]) == 1


def test_a_model_on_stacked_layers_is_not_noted():
    experiment = Experiment.read(
        {
            "rounds": 1,
            "data": {"name": "heart_disease", "encode": "public"},
            "model": {"name": "mlp", "hidden": [4]},
            "client": {"name": "sgd", "learning_rate": 0.1},
        }
    )
    assert not [note for note in experiment.built.notes if "torch.func" in note]


@pytest.mark.parametrize("client", ["sgd", "dp_sgd"])
def test_a_model_that_neither_kernel_can_train_is_refused_by_validate(
    client, folder, monkeypatch, capsys
):
    folder("deciding", client)
    code, said = call(monkeypatch, capsys, "validate", "e.toml")
    assert code == 2
    assert "Deciding cannot be trained by torch.func" in said
    assert "data-dependent control flow" in said
    assert "nor by stacked layers: Deciding at 'the top'" in said
    assert re.search(r"networks\.py:\d+ in forward", said)
    assert "own_gradients" in said


def test_who_takes_gradients_alone_needs_no_kernel(folder):
    notes = Experiment.read(folder("deciding", "opacus_dp_sgd")).built.notes
    assert not [note for note in notes if "torch.func" in note]


def test_a_mistake_inside_a_model_has_its_place():
    class Fails(nn.Linear):
        def forward(self, x):
            if self.training:
                raise ValueError("no training today")
            return super().forward(x)

    with pytest.raises(FedmodelError, match="ValueError: no training today") as raised:
        tried(cohort_of(Fails(4, 2)))
    assert "test_cohort_trial.py" in raised.value.where
