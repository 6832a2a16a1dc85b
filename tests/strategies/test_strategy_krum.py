"""Krum and Multi-Krum against a loop over the definition, Flower's own, and what the paper says."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Krum, MultiKrum
from hypothesis import given
from hypothesis import strategies as st

import fedmodel
from fedmodel._flower import Layout, arrays_of, identify, vector_of
from fedmodel.errors import FedmodelError
from fedmodel.grids.local import LocalGrid
from fedmodel.messages import Replies
from fedmodel.strategies.robust import krum, multi_krum

LAYOUT = Layout(("w", "b"), ((2, 2), (1,)))


def deltas(number, size=5, seed=0):
    return torch.randn(number, size, generator=torch.Generator().manual_seed(seed))


def by_the_definition(delta, dishonest):
    """The order of the clients by their scores, distance by distance."""
    scores = []
    for i, own in enumerate(delta.double().numpy()):
        others = [x for j, x in enumerate(delta.double().numpy()) if j != i]
        distances = sorted(float(((own - x) ** 2).sum()) for x in others)
        scores.append(sum(distances[: len(delta) - dishonest - 2]))
    return np.argsort(scores, kind="stable")


@given(st.integers(3, 12), st.integers(0, 4), st.integers(0, 99))
def test_equal_to_a_loop_over_the_definition(number, dishonest, seed):
    if number < 2 * dishonest + 3:
        return
    delta = deltas(number, seed=seed)
    order = by_the_definition(delta, dishonest)
    if number > 3:  # of three, the two nearest always have the same score
        torch.testing.assert_close(krum(delta, dishonest=dishonest), delta[order[0]])
    kept = delta[order[: number - dishonest]].mean(0)
    torch.testing.assert_close(multi_krum(delta, dishonest=dishonest), kept)


class Nodes(LocalGrid):
    def send_and_receive(self, messages, *, timeout=None):
        return []


def flowers(strategy, models):
    identify()
    nodes = Nodes(len(models))
    strategy.configure_train(1, arrays_of(torch.zeros(5), LAYOUT), ConfigRecord(), nodes)
    sizes = {"num-examples": np.ones(len(models), dtype=int)}
    arrays, _ = strategy.aggregate_train(1, Replies(nodes.nodes, "train", LAYOUT, models, sizes))
    return vector_of(arrays)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_flowers_own(seed):
    delta = deltas(9, seed=seed)
    found = krum(delta, dishonest=2)
    torch.testing.assert_close(flowers(Krum(num_malicious_nodes=2), delta.clone()), found)
    theirs = MultiKrum(num_malicious_nodes=2, num_nodes_to_select=5)
    torch.testing.assert_close(
        flowers(theirs, delta.clone()), multi_krum(delta, dishonest=2, keep=5)
    )


@given(liars=st.integers(1, 4), size=st.floats(50, 1e18), seed=st.integers(0, 99))
def test_far_off_liars_are_never_taken(liars, size, seed):
    honest = deltas(11, seed=seed)
    delta = torch.cat([torch.full((liars, 5), size), honest])
    taken = krum(delta, dishonest=liars)
    assert (honest == taken).all(1).any()
    mean = multi_krum(delta, dishonest=liars)
    torch.testing.assert_close(mean, honest.mean(0))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_what_is_not_finite_is_never_taken(value):
    delta = torch.cat([torch.full((1, 5), value), deltas(6)])
    torch.testing.assert_close(multi_krum(delta, dishonest=1), delta[1:].mean(0))


def test_close_updates_far_from_zero_are_told_apart():
    """The norms cancel to a hundred-thousandth of themselves: float32 would see nothing but noise."""
    delta = 1e3 + 1e-2 * deltas(8, size=300, seed=4)
    expected = delta[by_the_definition(delta, 2)[0]]
    torch.testing.assert_close(krum(delta, dishonest=2), expected, rtol=0, atol=0)


def test_keeping_one_is_krum_and_a_share_is_rounded_down():
    delta = deltas(10)
    torch.testing.assert_close(multi_krum(delta, dishonest=3, keep=1), krum(delta, dishonest=0.3))
    torch.testing.assert_close(krum(delta, dishonest=0.39), krum(delta, dishonest=3))
    torch.testing.assert_close(krum(delta[:1]), delta[0])


@pytest.mark.parametrize(
    ("number", "dishonest", "fix"),
    [(6, 2, "dishonest = 1"), (2, 0, "three clients"), (1, 1, "three clients")],
)
def test_too_few_clients_are_refused_with_a_number_that_works(number, dishonest, fix):
    with pytest.raises(FedmodelError, match=f"{2 * dishonest + 3} in a round") as error:
        krum(deltas(number), dishonest=dishonest)
    assert fix in (error.value.fix or "")
    with pytest.raises(FedmodelError, match="cannot keep 6 of 7"):
        multi_krum(deltas(7), dishonest=2, keep=6)


def test_an_experiment_is_refused_before_it_runs_and_runs_with_the_smallest_number(tmp_path):
    experiment = {
        "rounds": 1,
        "data": {"name": "heart_disease"},
        "partition": {"name": "iid", "clients": 5},
        "model": {"name": "logistic"},
        "client": {"name": "sgd", "learning_rate": 0.5},
        "attack": {"name": "sign_flip", "clients": 0.2, "scale": 20.0},
        "strategy": {"combine": {"name": "krum", "dishonest": 2}, "name": "compose"},
    }
    with pytest.raises(FedmodelError, match="needs 7 in a round, and there are 5"):
        fedmodel.run(experiment, out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    experiment["strategy"]["combine"]["dishonest"] = 1
    run = fedmodel.run(experiment, out=tmp_path / "run")  # without the attacker there are too few
    shares = run.metrics[run.metrics.metric == "aggregate_share"]
    assert len(shares) == 1
    assert shares.value.isna().all()
