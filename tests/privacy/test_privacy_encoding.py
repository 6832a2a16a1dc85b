"""Noised scales are charged to the budget of training: calibration, composition, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fedmodel
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy import epsilon_of, epsilon_of_history, noise_for, noise_for_clients
from fedmodel.privacy.encoding import EncodingNoise, encoding_noise
from fedmodel.privacy.gdp import gaussian_epsilon

CONFIG = {
    "seed": 4,
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "private"},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.1},
    "privacy": {"epsilon": 3.0, "delta": 1e-3, "encoding_epsilon": 0.5},
}


def changed(**sections):
    return {**CONFIG, **{name: {**CONFIG[name], **keys} for name, keys in sections.items()}}


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
@pytest.mark.parametrize("before", [((3.0, 1.0, 1),), ((10.0, 1.0, 1), (8.0, 0.3, 5))])
def test_noise_beside_other_releases_keeps_to_the_budget(accountant, before):
    setting = {"sample_rate": 0.1, "steps": 200, "delta": 1e-5, "accountant": accountant}
    alone = noise_for(epsilon=4.0, **setting)
    noise = noise_for(epsilon=4.0, released=before, **setting)
    history = [*before, (noise, 0.1, 200)]
    spent = epsilon_of_history(history, delta=1e-5, accountant=accountant).epsilon
    assert alone < noise
    assert 3.98 < spent <= 4.0


def test_many_clients_beside_other_releases_keep_to_the_budget():
    rng = np.random.default_rng(0)
    rates, before = rng.uniform(0.02, 0.5, 400).tolist(), ((6.0, 1.0, 1),)
    noise = noise_for_clients(epsilon=3.0, sample_rates=rates, steps=[90] * 400, delta=1e-5, released=before)  # fmt: skip
    for k in (0, 17, 399):
        spent = epsilon_of_history([*before, (noise[k], rates[k], 90)], delta=1e-5).epsilon
        assert 2.6 < spent <= 3.0


def test_full_batches_beside_other_releases_are_gaussians_whose_squares_add_up():
    """Closed form: mu^2 = sum of 1 / z^2 (Dong, Roth and Su 2022, Corollary 3.3)."""
    noise = noise_for(epsilon=2.0, sample_rate=1.0, steps=7, delta=1e-6, released=[(5.0, 1.0, 1)])
    mu = math.sqrt(7 / noise**2 + 1 / 25)
    assert gaussian_epsilon(mu, delta=1e-6) == pytest.approx(2.0, abs=0.021)


def test_noise_has_the_size_that_is_charged_and_is_each_clients_own():
    noise = EncodingNoise(noise_multiplier=3.0, seed=1)
    sums = np.zeros((40, 500))
    told, deviation = noise(sums, sensitivity=2.0)
    assert deviation == 6.0
    assert told.std() == pytest.approx(6.0, rel=0.03)
    assert np.abs(np.corrcoef(told) - np.eye(40)).max() < 0.25
    np.testing.assert_array_equal(told, noise(sums, sensitivity=2.0)[0])
    assert not np.array_equal(told, EncodingNoise(noise_multiplier=3.0, seed=2)(sums, sensitivity=2.0)[0])  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fedmodel.run(CONFIG, engine="inline", out=tmp_path_factory.mktemp("encoding") / "run")


def test_a_run_spends_its_budget_on_scales_and_training_together(run):
    plans = Experiment.read(CONFIG).built.plans
    assert len(plans.released) == 1
    noise, rate, steps = plans.released[0]
    assert (rate, steps) == (1.0, 1)
    alone = epsilon_of(sample_rate=1.0, noise_multiplier=noise, steps=1, delta=1e-3)
    assert 0.45 < alone <= 0.5
    for k, client in enumerate(run.clients.itertuples()):
        training = (float(plans.noise_multiplier[k]), float(plans.sample_rate[k]), 2 * int(plans.steps[k]))  # fmt: skip
        both = epsilon_of_history([*plans.released, training], delta=1e-3).epsilon
        assert client.epsilon == pytest.approx(both, abs=1e-6)
        assert epsilon_of_history([training], delta=1e-3).epsilon < both - 0.02
        assert 2.97 < both <= 3.0


def test_a_resumed_run_reads_the_same_scales(tmp_path):
    whole = fedmodel.run(CONFIG, engine="inline", out=tmp_path / "whole")
    for round in Experiment.read(CONFIG).rounds(tmp_path / "cut"):
        if round.number == 1:
            break
    experiment, left = Experiment.resume(tmp_path / "cut")
    list(left)
    for name, tensor in whole.model.state_dict().items():
        assert tensor.equal(experiment.run.model.state_dict()[name])


def test_scales_that_noise_drowned_are_noted():
    experiment = Experiment.read(changed(privacy={"encoding_epsilon": 0.02}))
    assert any("keep their public limits" in note for note in experiment.built.notes)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed(privacy={"encoding_epsilon": None}), "does not say what it may cost"),
        (changed(data={"encode": "public"}), "`encoding_epsilon` has no effect"),
        (changed(privacy={"noise": "secure"}), "secure noise would not repeat"),
        ({**CONFIG, "privacy": None, "client": {"name": "sgd", "learning_rate": 0.1}}, "no budget"),
        (
            {
                **CONFIG,
                "privacy": {"unit": "client", "mode": "local", "epsilon": 3.0},
                "client": {"name": "sgd", "learning_rate": 0.1},
            },
            "protects all records of a client",
        ),
        (changed(privacy={"encoding_epsilon": -1.0}), "encoding_epsilon"),
    ],
)
def test_what_makes_no_sense_is_refused_before_data_is_loaded(config, words):
    with pytest.raises(FedmodelError, match=words) as refused:
        Experiment.read(config)
    assert refused.value.fix


@pytest.mark.parametrize("epsilon", [3.0, {"values": [0.4, 9.0]}])
def test_scales_that_cost_all_there_is_are_refused(epsilon):
    config = changed(privacy={"epsilon": epsilon, "encoding_epsilon": 3.1})
    with pytest.raises(FedmodelError, match="leaves nothing of epsilon") as refused:
        Experiment.read(config).built  # noqa: B018
    assert "encoding_epsilon" in str(refused.value.where)


def test_noise_that_no_multiplier_reaches_is_told_with_its_key():
    with pytest.raises(FedmodelError) as refused:
        encoding_noise(epsilon=1e-4, limit=1.0, delta=1e-5, accountant="prv", seed=0)
    assert refused.value.where == "[privacy] encoding_epsilon"
