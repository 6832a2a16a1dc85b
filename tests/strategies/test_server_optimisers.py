"""Server optimisers against Flower's own on the same updates, by hand, and over a resume."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvgM, FedYogi

import fedmodel
from fedmodel import Experiment
from fedmodel._flower import Layout, arrays_of, identify, vector_of
from fedmodel.catalogue import Component
from fedmodel.errors import FedmodelError
from fedmodel.grids.local import LocalGrid
from fedmodel.messages import Replies
from fedmodel.strategies.compose import compose
from fedmodel.strategies.server_optimisers import adagrad, adam, momentum, yogi

LAYOUT = Layout(("w", "b"), ((2, 2), (1,)))
PAIRS = {
    "momentum": (
        Component("optimiser", "momentum", momentum, {"decay": 0.7, "learning_rate": 0.5}),
        lambda: FedAvgM(server_momentum=0.7, server_learning_rate=0.5),
    ),
    "adam": (adam, FedAdam),
    "adam, other numbers": (
        Component("optimiser", "adam", adam, {"beta_1": 0.5, "beta_2": 0.8, "tau": 0.1}),
        lambda: FedAdam(beta_1=0.5, beta_2=0.8, tau=0.1),
    ),
    "yogi": (yogi, FedYogi),
    "adagrad": (adagrad, FedAdagrad),
}
TINY = {
    "data": {"name": "heart_disease"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.5},
}


class Nodes(LocalGrid):
    def send_and_receive(self, messages, *, timeout=None):
        return []


def course(strategy, *, rounds=6):
    """The global models of some rounds in which clients send the same updates to any strategy."""
    identify()
    nodes, model, models = Nodes(4), torch.linspace(-1, 1, 5), []
    for number in range(1, rounds + 1):
        strategy.configure_train(number, arrays_of(model, LAYOUT), ConfigRecord(), nodes)
        draw = torch.Generator().manual_seed(number)
        delta = torch.randn(4, 5, generator=draw) * torch.tensor([0.0, 1e-3, 0.1, 1.0, 10.0])
        sizes = {"num-examples": np.array([1, 2, 3, 4])}
        replies = Replies(nodes.nodes, "train", LAYOUT, model + delta, sizes)
        arrays, _ = strategy.aggregate_train(number, replies)
        model = vector_of(arrays)
        models.append(model)
    return torch.stack(models)


@pytest.mark.parametrize("name", PAIRS)
def test_six_rounds_equal_flowers_own(name):
    ours, theirs = PAIRS[name]
    torch.testing.assert_close(course(compose(optimiser=ours)), course(theirs()))


def test_a_steady_aggregate_is_moved_as_the_formulas_say():
    step = torch.tensor([0.5, -2.0])
    memory, moved = {}, None
    for _ in range(200):
        moved, memory = momentum(step, memory=memory, learning_rate=0.3, decay=0.9)
    torch.testing.assert_close(moved, 0.3 * step / (1 - 0.9))
    memory = {}
    for number in range(1, 401):
        moved, memory = adam(step, memory=memory, round=number, tau=1e-9)
    torch.testing.assert_close(moved, 0.1 * step.sign(), rtol=1e-2, atol=0)
    memory = {}
    for _ in range(9):
        moved, memory = adagrad(step, memory=memory, tau=1e-9)
    torch.testing.assert_close(moved, 0.1 * step.sign() / 3)


def test_a_learning_rate_beside_an_optimiser_is_refused():
    with pytest.raises(FedmodelError, match="no effect") as error:
        compose(optimiser=adam, learning_rate=0.5)
    assert 'name = "adam", learning_rate = 0.5' in (error.value.fix or "")


PRIVATE = {
    "clip": 1.0,
    "unit": "client",
    "mode": "central",
    "noise_multiplier": 1.0,
    "delta": 1e-3,
}
GATHERED = {
    "in the open": {},
    "secure": {"secure_aggregation": {"bound": 4.0, "bits": 24}},
    "private": {"privacy": PRIVATE},
}


@pytest.mark.parametrize("how", GATHERED)
def test_a_resumed_run_remembers_however_updates_are_gathered(how, tmp_path):
    raw = {
        **TINY,
        **GATHERED[how],
        "rounds": 5,
        "strategy": {"name": "compose", "optimiser": {"name": "yogi", "learning_rate": 0.05}},
    }
    whole = fedmodel.run(raw, out=tmp_path / "whole")
    experiment = Experiment.read(raw)
    for finished in experiment.rounds(tmp_path / "cut"):
        if finished.number == 3:
            break
    _, rest = Experiment.resume(tmp_path / "cut")
    assert [finished.number for finished in rest] == [4, 5]
    for name in ("loss", "accuracy"):
        assert experiment.run.last(name) == pytest.approx(whole.last(name), rel=1e-6)
    plain = fedmodel.run({**raw, "strategy": {"name": "compose"}}, out=tmp_path / "plain")
    assert plain.last("loss") != pytest.approx(whole.last("loss"), rel=1e-3)


def test_sums_that_are_masked_or_folded_move_the_model_as_single_updates_do(tmp_path, monkeypatch):
    raw = {**TINY, "rounds": 3, "strategy": {"name": "compose", "optimiser": "adam"}}
    open_ = fedmodel.run(raw, out=tmp_path / "open").last("loss")
    secure = {**raw, "secure_aggregation": {"bound": 4.0, "bits": 28}}
    assert fedmodel.run(secure, out=tmp_path / "secure").last("loss") == pytest.approx(open_, 1e-3)
    monkeypatch.setattr("fedmodel.folded.BLOCK_BYTES", 0)
    folded = fedmodel.run(raw, out=tmp_path / "folded")
    assert any("added up group by group" in note for note in folded.manifest["notes"])
    assert folded.last("loss") == pytest.approx(open_, rel=1e-5)
