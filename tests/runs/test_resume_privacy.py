"""What an interrupted private run has spent: known, charged again where noise is drawn anew, or refused."""

from __future__ import annotations

import pickle

import pandas as pd
import pytest

from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy import epsilon_of

CONFIG = {
    "seed": 2,
    "rounds": 4,
    "data": {"name": "heart_disease", "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.1},
    "privacy": {"epsilon": 2.0, "delta": 1e-3},
}


def stopped(folder, *, noise="seeded", after=2) -> Experiment:
    experiment = Experiment.read({**CONFIG, "privacy": {**CONFIG["privacy"], "noise": noise}})
    for round in experiment.rounds(folder):
        if round.number == after:
            break
    return experiment


def cut_in_training(folder, monkeypatch) -> None:
    """A secure run that dies in round 3 after the clients have drawn their noise."""
    experiment = Experiment.read({**CONFIG, "privacy": {**CONFIG["privacy"], "noise": "secure"}})
    aggregate = type(experiment.built.strategy).aggregate_train

    def dies(self, number, replies):
        if number == 3:
            raise KeyboardInterrupt
        return aggregate(self, number, replies)

    with monkeypatch.context() as patch:
        patch.setattr(type(experiment.built.strategy), "aggregate_train", dies)
        with pytest.raises(KeyboardInterrupt):
            list(experiment.rounds(folder))


def test_a_round_of_secure_noise_that_was_cut_off_is_charged_twice(tmp_path, monkeypatch):
    cut_in_training(tmp_path / "run", monkeypatch)
    experiment, left = Experiment.resume(tmp_path / "run")
    assert [round.number for round in left] == [3, 4]
    run, plans = experiment.run, experiment.built.plans
    assert "charged for both" in " ".join(run.manifest["notes"])
    # Rounds 1, 2, 3, 3 again: the budget of four rounds is spent, and all decline in round 4.
    assert run.clients["declined"].tolist() == [1, 1, 1, 1]
    for k, row in enumerate(run.clients.itertuples()):
        spent = epsilon_of(
            sample_rate=float(plans.sample_rate[k]),
            noise_multiplier=float(plans.noise_multiplier[k]),
            steps=4 * int(plans.steps[k]),
            delta=1e-3,
        )
        assert row.epsilon == pytest.approx(min(spent, 2.0), abs=1e-4)
        assert row.rounds == 3


def test_a_second_interruption_does_not_lose_the_first_charge(tmp_path, monkeypatch):
    cut_in_training(tmp_path / "run", monkeypatch)
    Experiment.resume(tmp_path / "run")  # charged, and stopped before it trained
    experiment, left = Experiment.resume(tmp_path / "run")
    list(left)
    assert experiment.run.clients["rounds"].tolist() == [3, 3, 3, 3]
    assert experiment.run.clients["declined"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("noise", ["seeded", "secure"])
def test_a_run_that_stopped_between_rounds_is_charged_once(tmp_path, noise):
    stopped(tmp_path / "run", noise=noise)
    experiment, left = Experiment.resume(tmp_path / "run")
    list(left)
    assert experiment.run.clients["rounds"].tolist() == [4, 4, 4, 4]
    assert experiment.run.clients["declined"].sum() == 0
    assert experiment.run.clients.epsilon.between(1.98, 2.0).all()


def lose_state(folder):
    (folder / "state" / "state.pkl").unlink()


def lose_rounds(folder):
    (folder / "rounds.jsonl").unlink()


def change_ledgers(change):
    def damage(folder):
        for file in (folder / "state").glob("clients-*.pkl"):
            states = pickle.loads(file.read_bytes())
            for record in states.values():
                change(record)
            file.write_bytes(pickle.dumps(states))

    return damage


def drop(record):
    record.pop("privacy", None)


def shorten(record):
    record["privacy"]["steps"] = [1]


def spoil(record):
    del record["privacy"]["sample_rate"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose_state, "history of this run is missing: 2 rounds were run"),
        (lose_rounds, "history of this run is missing for round 1"),
        (change_ledgers(drop), "its ledger holds 0"),
        (change_ledgers(shorten), "its ledger holds 1"),
        (change_ledgers(spoil), "ledger is damaged"),
    ],
)
def test_a_run_that_does_not_know_what_it_spent_is_not_resumed(tmp_path, damage, said):
    stopped(tmp_path / "run")
    damage(tmp_path / "run")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*") if f.is_file()}
    with pytest.raises(FedmodelError, match=said) as error:
        Experiment.resume(tmp_path / "run")
    assert error.value.fix
    after = {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*") if f.is_file()}
    assert after == before


CENTRAL = {
    **CONFIG,
    "client": {"name": "sgd", "learning_rate": 0.1},
    "strategy": {"name": "compose", "sample": 0.5},
    "privacy": {
        "unit": "client",
        "mode": "central",
        "epsilon": 3.0,
        "delta": 1e-2,
        "noise": "secure",
    },
}


def dies_in(round: int, config, folder, monkeypatch) -> None:
    """A run that dies after a round's sum was released, before the round is saved."""
    experiment = Experiment.read(config)
    aggregate = type(experiment.built.strategy).aggregate_train

    def dies(self, number, replies):
        released = aggregate(self, number, replies)
        if number == round:
            raise KeyboardInterrupt
        return released

    with monkeypatch.context() as patch:
        patch.setattr(type(experiment.built.strategy), "aggregate_train", dies)
        with pytest.raises(KeyboardInterrupt):
            list(experiment.rounds(folder))


@pytest.mark.parametrize(("cut", "left_over"), [(1, [0, 1, 2, 3]), (3, [3]), (4, [])])
def test_a_central_round_that_was_cut_off_is_charged_and_the_run_keeps_to_its_budget(
    tmp_path, monkeypatch, cut, left_over
):
    dies_in(cut, CENTRAL, tmp_path / "run", monkeypatch)
    Experiment.resume(tmp_path / "run")  # charged, and stopped before it went on
    experiment, left = Experiment.resume(tmp_path / "run")
    assert [round.number for round in left] == left_over
    run, plans = experiment.run, experiment.built.plans
    assert run.manifest["finished"] and run.manifest["repeated_rounds"] == [cut]
    assert "the run ends a round earlier" in " ".join(run.manifest["notes"])
    noise = float(plans.noise_multiplier[0])
    spent = epsilon_of(sample_rate=0.5, noise_multiplier=noise, steps=4, delta=1e-2)
    assert run.clients.epsilon.tolist() == pytest.approx([min(spent, 3.0)] * 4, abs=1e-6)


def test_a_central_round_of_seeded_noise_is_drawn_again_and_charged_once(tmp_path, monkeypatch):
    config = {**CENTRAL, "privacy": {**CENTRAL["privacy"], "noise": "seeded"}}
    dies_in(3, config, tmp_path / "run", monkeypatch)
    experiment, left = Experiment.resume(tmp_path / "run")
    assert [round.number for round in left] == [3, 4]
    assert "repeated_rounds" not in experiment.run.manifest


@pytest.mark.parametrize("noise", ["seeded", "secure"])
def test_a_client_that_failed_after_it_drew_secure_noise_pays_for_both_draws(
    tmp_path, monkeypatch, noise
):
    config = {**CONFIG, "rounds": 1}
    config["privacy"] = {
        "noise_multiplier": 2.0,
        "delta": 1e-3,
        "noise": noise,
        "participations": 3,
    }
    experiment = Experiment.read(config)
    behaviour = type(experiment.built.workload.behaviour)
    train, failed = behaviour.train, []

    def fails_once(self, cohort, start):
        sent = train(self, cohort, start)
        if 2 in cohort.clients and len(failed) < 2:  # in the cohort, then alone: one failure
            failed.append(list(cohort.clients))
            raise RuntimeError("lost")
        return sent

    with monkeypatch.context() as patch:
        patch.setattr(behaviour, "train", fails_once)
        list(experiment.rounds(tmp_path / "run"))
    assert failed[-1] == [2]
    steps = pd.read_parquet(tmp_path / "run" / "released.parquet").steps
    planned = experiment.built.plans.steps
    drawn = 2 if noise == "secure" else 1
    assert steps[2] == drawn * planned[2]
    assert experiment.run.clients["rounds"].tolist() == [1, 1, 1, 1]


def test_an_evaluation_that_may_have_been_drawn_twice_is_told_where_it_overspends(tmp_path):
    config = {**CONFIG, "evaluation": {"epsilon": 1.0, "noise": "secure"}}
    stopped_run = Experiment.read(config)
    for round in stopped_run.rounds(tmp_path / "run"):
        if round.number == 1:
            break
    experiment, left = Experiment.resume(tmp_path / "run")
    list(left)
    manifest = experiment.run.manifest
    said = manifest["privacy"]["evaluation"]
    assert said["epsilon"] > 1.0
    assert any("more than the epsilon = 1 that was planned" in line for line in said["sentences"])
    assert any("can spend more than the epsilon = 1" in note for note in manifest["notes"])
