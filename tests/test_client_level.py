"""Whole runs that protect clients: epsilon, who is charged, resume, engines, refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.app import ArrayRecord
from opacus.accountants import PRVAccountant

import fedmodel
from fedmodel._flower import Layout
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.grids.local import LocalGrid
from fedmodel.messages import Instructions
from fedmodel.rounds import Federation, _drop_out
from fedmodel.strategies.compose import compose

# All runs are made once, by one worker.

CENTRAL = {
    "seed": 4,
    "rounds": 6,
    "data": {"name": "heart_disease", "encode": "public", "sensitive": ["sex"]},
    "partition": {"name": "iid", "clients": 12},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.1, "dropout": 0.2},
    "privacy": {
        "unit": "client",
        "mode": "central",
        "epsilon": 4.0,
        "delta": 1e-2,
        "clip": {"initial": 0.3},
    },
    "strategy": {"name": "compose", "sample": 0.2},
    "evaluation": {"every": 3},
}
LOCAL = {
    **CENTRAL,
    "rounds": 4,
    "privacy": {
        "unit": "client",
        "mode": "local",
        "epsilon": 8.0,
        "delta": 1e-2,
        "clip": 0.3,
        "participations": 2,
    },
    "strategy": {"name": "compose", "sample": 0.6, "combine": "coordinate_median"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client-level")
    return {
        name: fedmodel.run(config, out=folder / name)
        for name, config in (("central", CENTRAL), ("local", LOCAL))
    }


def assert_same(run, other):
    for table in ("metrics", "epsilon"):
        first, second = getattr(run, table), getattr(other, table)
        pd.testing.assert_frame_equal(first, second, atol=2e-5)
    ours, theirs = run.model.state_dict(), other.model.state_dict()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-5)
    for entry, again in zip(run.folder.entries(), other.folder.entries(), strict=True):
        assert entry["train_metrics"] == pytest.approx(again["train_metrics"], rel=1e-4)


def test_every_round_costs_every_client_the_same_asked_or_not(runs):
    run = runs["central"]
    assert (run.rounds.trained.str.len()[1:] == 0).any()  # a round without clients counts, too
    noise = float(run.clients.noise_multiplier.iloc[0])
    for number in range(1, 7):
        accountant = PRVAccountant()
        accountant.history = [(noise, 0.2, number)]
        rows = run.epsilon[run.epsilon["round"] == number]
        assert len(rows) == 12
        assert rows.epsilon.nunique() == 1
        assert rows.epsilon.iloc[0] == pytest.approx(accountant.get_epsilon(1e-2), rel=5e-3)
    assert 3.98 < run.clients.epsilon.max() <= 4.0
    assert run.clients.rounds.nunique() > 1


def test_nothing_is_told_of_training_but_the_noised_count(runs):
    for entry in runs["central"].folder.entries()[1:]:
        assert set(entry["train_metrics"]) == {"clip_bound", "clipped_share"}
    assert all(entry["train_metrics"] == {} for entry in runs["local"].folder.entries())


def test_a_round_without_clients_still_moves_the_model(tmp_path):
    changes = {"client.dropout": 0.0, "strategy.sample": 1e-6, "rounds": 1, "privacy.clip": 0.3}
    run = fedmodel.run(CENTRAL, changes, out=tmp_path / "run")
    assert run.rounds.trained.str.len().sum() == 0
    start = Experiment.read(CENTRAL).built.model.initial
    end = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    noise = float(run.clients.noise_multiplier.iloc[0]) * 0.3 / (1e-6 * 12)
    assert (end - start).std().item() == pytest.approx(noise, rel=0.4)


def test_after_poisson_sampling_clients_are_lost_independently_of_each_other():
    class Nodes(LocalGrid):
        def send_and_receive(self, messages, *, timeout=None):
            return []

    grid, lost = Nodes(40), []
    federation = Federation(
        strategy=compose(sampling="poisson"),
        grid=grid,
        layout=Layout((), ()),
        seed=1,
        num_rounds=1,
        dropout=0.3,
    )
    for number in range(60):
        whole = Instructions(grid.nodes, "train", ArrayRecord(), {})
        _, dropped = _drop_out(federation, number, whole)
        _, of_few = _drop_out(federation, number, whole.only(grid.nodes[:7]))
        assert of_few == [client for client in dropped if client < 7]
        lost.append(len(dropped))
    assert np.mean(lost) == pytest.approx(12, abs=4 * np.sqrt(40 * 0.3 * 0.7 / 60))
    assert np.var(lost) > 3  # a fixed number would not vary


def test_a_local_client_is_charged_for_each_round_it_takes_part_in_and_declines_when_spent(runs):
    run = runs["local"]
    assert run.clients.declined.sum() > 0
    assert run.clients.rounds.max() == 2
    noise = float(run.clients.noise_multiplier.iloc[0]) / 2  # over the sensitivity, twice the clip
    for row in run.clients.itertuples():
        accountant = PRVAccountant()
        accountant.history = [(noise, 1.0, row.rounds)] if row.rounds else []
        expected = accountant.get_epsilon(1e-2) if row.rounds else 0.0
        assert row.epsilon == pytest.approx(expected, rel=5e-3)
        assert row.epsilon <= 8.0


@pytest.mark.parametrize("name", ["central", "local"])
def test_the_run_states_what_it_protects(name, runs):
    run = runs[name]
    stated = json.loads((run.path / "manifest.json").read_text())["privacy"]
    assert (stated["mode"], stated["unit"]) == (name, "one client with all its records")
    assert stated["epsilon"]["max"] == pytest.approx(run.clients.epsilon.max())
    assert "one client with all its records" in run.report.read_text(encoding="utf-8")
    assert not any("belong to other people" in item for item in stated["outside"])


@pytest.mark.parametrize("name", ["central", "local"])
def test_a_run_left_in_the_middle_goes_on_as_if_nothing_had_happened(name, runs, tmp_path):
    experiment = Experiment.read({"central": CENTRAL, "local": LOCAL}[name])
    for round in experiment.rounds(tmp_path / "run"):
        if round.number == 2:
            break
    experiment, left = Experiment.resume(tmp_path / "run")
    assert [round.number for round in left] == list(range(3, experiment.config.rounds + 1))
    assert_same(experiment.run, runs[name])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "flower"])
@pytest.mark.parametrize("name", ["central", "local"])
def test_engines_agree(name, engine, runs, tmp_path):
    config = {"central": CENTRAL, "local": LOCAL}[name]
    run = fedmodel.run(config, {"engine.workers": 2}, engine=engine, out=tmp_path / "run")
    assert_same(run, runs[name])


@pytest.mark.parametrize("mode", ["central", "local"])
def test_the_non_private_reference_is_the_run_without_noise(mode, tmp_path):
    privacy = {"unit": "client", "mode": mode, "noise_multiplier": 1e-9, "clip": 1e3}
    run = fedmodel.run(
        {**CENTRAL, "privacy": privacy, "evaluation": {"references": ["non_private"]}},
        {"strategy.sample": 0.5},
        out=tmp_path / "run",
    )
    losses = run.metrics.query("metric == 'loss' and scope == 'global' and split == 'test'")
    table = losses.pivot(index="round", columns="model", values="value").loc[1:]
    np.testing.assert_allclose(table["global"], table["non_private"], atol=1e-4)
    assert table["global"].iloc[-1] < table["global"].iloc[0]


REFUSED = {
    "a mode of records": (
        {"privacy": {"mode": "local", "epsilon": 1.0}},
        "has no effect on records",
        "mode",
    ),
    "a bound of records that adapts": (
        {"privacy": {"epsilon": 1.0, "clip": {"initial": 1.0}}},
        "does not adapt",
        "clip",
    ),
    "a client without a mode": (
        {"privacy": {"unit": "client", "epsilon": 1.0}},
        "who adds the noise",
        "unit",
    ),
    "noise in two places": ({"client.name": "dp_sgd"}, "noises gradients of records", "name"),
    "a cap where everybody pays": (
        {"privacy.participations": 3},
        "every round counts for every client",
        "participations",
    ),
    "a local bound that adapts": ({"privacy.mode": "local"}, "bound does not adapt", "clip"),
    "an unknown key of the bound": ({"privacy.clip": {"quantil": 0.5}}, "no key `quantil`", ""),
    "a bound below zero": ({"privacy.clip": -1.0}, "`privacy.clip` cannot be -1.0", "clip"),
    "a bound that is no number": (
        {"privacy.clip": "tight"},
        "It should be a number or a table.",
        "clip",
    ),
    "a quantile above one": (
        {"privacy.clip": {"quantile": 2.0}},
        "`privacy.clip.quantile` cannot be 2.0",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_effect_or_no_meaning_is_refused_before_data_is_read(case):
    changes, problem, place = REFUSED[case]
    with pytest.raises(FedmodelError) as error:
        Experiment.read(CENTRAL, changes)
    assert problem in str(error.value)
    assert place in str(error.value.where)
    assert error.value.fix


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"strategy": {"name": "flwr.serverapp.strategy:FedAdam"}}, "aggregates single updates"),
        ({"strategy.combine": "trimmed_mean"}, "needs single updates"),
        ({"strategy.weigh": "by_records"}, "different weights"),
        ({"privacy.clip": {"count_noise": 0.01}}, "leaves no privacy"),
        ({"privacy.epsilon": 1e-9, "privacy.delta": 1e-9}, "no noise keeps"),
    ],
)
def test_a_strategy_or_a_budget_that_cannot_be_is_refused(changes, problem):
    with pytest.raises(FedmodelError, match=problem) as error:
        Experiment.read(CENTRAL, changes).built  # noqa: B018
    assert error.value.where
    assert error.value.fix


def test_a_foreign_strategy_works_on_updates_that_clients_have_noised(tmp_path):
    strategy = {"name": "flwr.serverapp.strategy:FedAvg", "fraction_train": 0.6}
    run = fedmodel.run({**LOCAL, "strategy": strategy, "rounds": 2}, out=tmp_path / "run")
    assert (run.clients.epsilon > 0).sum() > 3
