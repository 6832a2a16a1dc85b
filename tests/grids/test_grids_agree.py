"""Same seed, same result: whatever the engine, the number of workers, or a kill in between."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import fedmodel
from fedmodel.experiment import Experiment

# One Ray and one set of inline runs serve all tests of this file, so they share a worker.

STRATEGIES = {
    "fedavg": {"name": "flwr.serverapp.strategy:FedAvg", "fraction_train": 0.6},
    "fedadam": {"name": "flwr.serverapp.strategy:FedAdam", "fraction_train": 0.6, "eta": 0.05},
    "trimmed_mean": {
        "name": "compose",
        "sample": 0.6,
        "schedule": {"name": "linear", "final": 0.5},
        "combine": {"name": "trimmed_mean", "fraction": 0.3},
    },
}


def tiny(strategy="trimmed_mean", **changes):
    """Eight clients, partial sampling, DP, client dropout, a model with keyed dropout, an attacker."""
    return {
        "seed": 3,
        "rounds": 4,
        "data": {"name": "heart_disease", "encode": "public", "validation": 0.1},
        "partition": {"name": "dirichlet", "clients": 8, "alpha": 1.0},
        "model": {"name": "mlp", "hidden": [8], "dropout": 0.2},
        "client": {"name": "dp_sgd", "learning_rate": 0.3, "batch_size": 16, "dropout": 0.2}
        | {"schedule": {"name": "cosine", "warm_up": 1}},
        "privacy": {"epsilon": 5.0, "delta": 1e-3, "participations": 3, "accountant": "rdp"},
        "attack": {"name": "sign_flip", "clients": 0.2},
        "strategy": STRATEGIES[strategy],
        **changes,
    }


def assert_same(run, other):
    first, second = run.metrics, other.metrics
    keys = ["round", "split", "model", "scope", "key", "metric"]
    pd.testing.assert_frame_equal(first[keys], second[keys])
    np.testing.assert_allclose(first.value, second.value, atol=2e-5, equal_nan=True)
    pd.testing.assert_frame_equal(run.epsilon, other.epsilon)
    columns = ["client", "rounds", "declined", "dropped", "epsilon"]
    pd.testing.assert_frame_equal(run.clients[columns], other.clients[columns])
    ours, theirs = run.model.state_dict(), other.model.state_dict()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5)


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inline")
    return {name: fedmodel.run(tiny(name), out=folder / name) for name in STRATEGIES}


@pytest.fixture(scope="module")
def ray():
    """One Ray for all tests of this file; a grid uses what is running and leaves it running."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("name", STRATEGIES)
def test_something_is_learned_and_clients_really_differ(name, inline):
    run = inline[name]
    assert run.clients.dropped.sum() > 0
    assert run.clients.rounds.nunique() > 1
    assert len(run.epsilon) == 4 * 8
    losses = run.metrics.query("metric == 'loss' and scope == 'global' and split == 'test'").value
    assert losses.is_unique


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("trimmed_mean", 2),
        pytest.param("trimmed_mean", 1, marks=pytest.mark.slow),
        pytest.param("fedadam", 2, marks=pytest.mark.slow),
        pytest.param("fedavg", 2, marks=pytest.mark.slow),
    ],
)
def test_ray_equals_inline(name, workers, inline, ray, tmp_path):
    changes = {"engine.workers": workers}
    run = fedmodel.run(tiny(name), changes, engine="ray", out=tmp_path / "run")
    assert_same(run, inline[name])


@pytest.mark.parametrize(
    "name",
    ["trimmed_mean", *(pytest.param(n, marks=pytest.mark.slow) for n in ("fedavg", "fedadam"))],
)
def test_flower_equals_inline(name, inline, tmp_path):
    run = fedmodel.run(tiny(name), {"engine.workers": 2}, engine="flower", out=tmp_path / "run")
    assert_same(run, inline[name])


KILLED = """
import json, os, signal, sys
from fedmodel.experiment import Experiment
experiment = Experiment.read(json.loads(sys.argv[1]))
for round in experiment.rounds(sys.argv[2]):
    if round.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("trimmed_mean", "inline"),
        ("fedadam", "inline"),
        pytest.param("fedavg", "inline", marks=pytest.mark.slow),
        pytest.param("fedadam", "ray", marks=pytest.mark.slow),
        pytest.param("trimmed_mean", "flower", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(name, engine, inline, tmp_path):
    import json

    config = tiny(name, engine={"name": engine})
    folder = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(config), str(folder)],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (folder / "report.html").exists()
    experiment, left = Experiment.resume(folder)
    assert [round.number for round in left] == [3, 4]
    assert_same(experiment.run, inline[name])


def test_a_run_left_in_the_middle_has_its_tables_and_goes_on(inline, tmp_path):
    experiment = Experiment.read(tiny())
    for round in experiment.rounds(tmp_path / "run"):
        if round.number == 2:
            break
    run = experiment.run
    assert run.metrics["round"].max() == 2
    assert not run.manifest["finished"]
    assert run.report.is_file()
    experiment, left = Experiment.resume(tmp_path / "run")
    assert [round.number for round in left] == [3, 4]
    assert experiment.run.manifest["finished"]
    assert_same(experiment.run, inline["trimmed_mean"])


def test_a_crash_while_saving_repeats_the_round(inline, tmp_path):
    """Files of a round beyond the saved state, and a line cut short, are forgotten."""
    experiment = Experiment.read(tiny())
    for round in experiment.rounds(tmp_path / "run"):
        if round.number == 2:
            break
    folder = tmp_path / "run"
    (folder / "state" / "metrics-00003.parquet").write_bytes(
        (folder / "state" / "metrics-00002.parquet").read_bytes()
    )
    (folder / "state" / "clients-00003.pkl").write_bytes(
        (folder / "state" / "clients-00001.pkl").read_bytes()  # ledgers that are not to be believed
    )
    with (folder / "rounds.jsonl").open("a") as file:
        file.write('{"round": 3, "tra')
    experiment, left = Experiment.resume(folder)
    list(left)
    assert_same(experiment.run, inline["trimmed_mean"])


def test_a_run_goes_on_from_states_that_were_gathered(inline, tmp_path, monkeypatch):
    monkeypatch.setattr("fedmodel.runs.states.EVERY", 2)
    experiment = Experiment.read(tiny())
    for round in experiment.rounds(tmp_path / "run"):
        if round.number == 3:
            break
    files = sorted(file.name for file in (tmp_path / "run" / "state").glob("clients-*"))
    assert files == ["clients-00002.pkl", "clients-00003.pkl"]
    experiment, left = Experiment.resume(tmp_path / "run")
    assert [round.number for round in left] == [4]
    assert_same(experiment.run, inline["trimmed_mean"])


def test_a_worker_that_dies_changes_nothing(inline, ray, tmp_path):
    experiment = Experiment.read(tiny(engine={"name": "ray", "workers": 2}))
    for round in experiment.rounds(tmp_path / "run"):
        if round.number == 1:
            victim = max(_workers(), key=lambda process: process.info["pid"])
            os.kill(victim.info["pid"], signal.SIGKILL)
    assert_same(experiment.run, inline["trimmed_mean"])


def _workers():
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if line.startswith("ray::Worker"):
            found.append(process)
    assert found
    return found
