"""Secure aggregation changes who sees what, and results by less than it promises to round off."""

import json

import numpy as np
import pytest
import torch
from flwr.clientapp import ClientApp

import fedmodel
from fedmodel._flower import arrays_of
from fedmodel.apps import CohortApp
from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.experiment import Experiment
from fedmodel.grids.inline import InlineGrid
from fedmodel.grids.secure import SUM, SecureGrid
from fedmodel.messages import Instructions, Replies
from fedmodel.rounds import State, rounds

BASE = {
    "seed": 3,
    "rounds": 1,
    "data": {"name": "heart_disease", "encode": "public"},
    "partition": {"name": "iid", "clients": 6},
    "model": {"name": "mlp", "hidden": [4]},
    "client": {"name": "sgd", "learning_rate": 0.2, "batch_size": 16},
}
SECURE = {"secure_aggregation": {"bits": 16}}
PRIVATE = {
    "client": {"name": "dp_sgd", "learning_rate": 0.2},
    "privacy": {"epsilon": 5.0, "delta": 1e-3, "accountant": "rdp"},
}
DROPOUT = {"client": {**BASE["client"], "dropout": 0.34}}
FEDAVG = {"name": "flwr.serverapp.strategy:FedAvg", "fraction_train": 0.7}
FEDADAM = {"name": "flwr.serverapp.strategy:FedAdam", "eta": 0.05, "tau": 0.1}


def go(config):
    """The rounds alone, without a run folder: the last vector, and what happened in each round."""
    experiment = Experiment.read(config)
    built, states = experiment.built, []
    grid = InlineGrid(CohortApp(built.workload), num_clients=built.data.num_clients)
    if built.workload.secure is not None:
        grid = SecureGrid(grid, built.workload.secure, seed=config["seed"])
    begin = State(0, built.model.initial)
    federation = experiment.federation(grid)
    happened = list(rounds(federation, begin, save=lambda state, _: states.append(state)))
    return states[-1], happened, built


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({}, "records"),
        ({"strategy": {"name": "compose", "sample": 0.7}}, "records"),
        ({"strategy": {"name": "compose", "weigh": "equal"}}, "one"),
        ({"strategy": FEDAVG}, "records"),
        (DROPOUT, "records"),
        (PRIVATE, "records"),
        ({"attack": {"name": "sign_flip", "clients": 0.3}}, "records"),
    ],
)
def test_one_round_differs_by_less_than_a_step_for_each_client(changes, weights):
    plain, (_, expected), _ = go({**BASE, **changes})
    secure, (_, round), built = go({**BASE, **changes, **SECURE})
    assert sorted(round.trained) == sorted(expected.trained)
    assert round.dropped == expected.dropped
    assert len(round.trained) + len(round.dropped) >= 4
    assert round.train_metrics["clipped_share"] == 0
    assert not round.shares
    sizes = built.data.sizes("train")[list(round.trained)]
    total = sizes.sum().item() if weights == "records" else len(sizes)
    difference = (plain.vector - secure.vector).abs().max().item()
    assert 0 < difference < 2.0**-15 * len(sizes) / total + 1e-6
    kept = {n: dict(s) for n, s in secure.clients.items() if len(s)}  # no keys, no seeds
    assert kept == {n: dict(s) for n, s in plain.clients.items()}


def test_rounds_of_a_stateful_strategy_of_flowers():
    changes = {"rounds": 3, "strategy": FEDADAM}
    plain, _, _ = go({**BASE, **changes})
    secure, _, _ = go({**BASE, **changes, "secure_aggregation": {"bits": 24, "neighbours": 4}})
    torch.testing.assert_close(plain.vector, secure.vector, atol=1e-5, rtol=0)


def test_values_beyond_the_bound_are_cut_and_told():
    state, (_, round), built = go({**BASE, "secure_aggregation": {"bound": 0.001}})
    assert 0 < round.train_metrics["clipped_share"] <= 1
    assert (state.vector - built.model.initial).abs().max() <= 0.001 + 1e-6


def test_a_whole_run_says_what_is_seen_and_what_is_not(tmp_path):
    changes = {**PRIVATE, "evaluation": {"references": ["non_private"]}}
    changes["attack"] = {"name": "sign_flip", "clients": 0.3}
    run = fedmodel.run({**BASE, **changes, **SECURE}, out=tmp_path / "run")
    notes = " ".join(run.manifest["notes"])
    assert "the server learns their mean" in notes
    assert "Evaluation counts are not masked" in notes
    assert "Attackers' shares of the aggregate are not known" in notes
    shares = run.metrics.query("metric == 'aggregate_share'")
    assert set(shares.model) <= {"non_private"}  # the reference trains in the open
    assert (run.epsilon.epsilon > 0).all()


# Who sees what


class Watched(InlineGrid):
    """A grid that keeps all that leaves the clients."""

    def __init__(self, app, **arguments):
        super().__init__(app, **arguments)
        self.seen = []

    def send_and_receive(self, messages, *, timeout=None):
        replies = Replies.read(super().send_and_receive(messages, timeout=timeout))
        self.seen.append(replies)
        return replies


def training(grid, built, **config):
    arrays = arrays_of(built.model.initial, built.layout)
    return Instructions(grid.nodes, "train", arrays, {"server-round": 1, **config})


@pytest.fixture(scope="module")
def built():
    return Experiment.read({**BASE, **SECURE}).built


def secured(built, kind=Watched, app=CohortApp):
    inner = kind(app(built.workload), num_clients=6)
    return SecureGrid(inner, built.workload.secure, seed=3)


def test_nothing_but_keys_boxes_masked_words_and_shares_leaves_a_client(built):
    grid = secured(built)
    (reply,) = grid.send_and_receive(training(grid, built))
    seen = grid.inner.seen
    assert [replies.message_type for replies in seen] == [
        "train.secure_keys",
        "train.secure_shares",
        "train.secure_masked",
        "train.secure_unmask",
    ]
    fields = []
    for replies in seen:
        assert replies.models is None and not replies.metrics and not replies.failures
        assert set(replies.records) == {"secure"}
        fields.append({name for record in replies.records["secure"] for name in record})
    words = {"survivors", "seeds", "left", "keys"}
    assert fields == [{"mask", "box"}, {"clients", "boxes"}, {"words"}, words]
    assert reply.metadata.src_node_id == SUM
    sizes = built.data.sizes("train").sum().item()
    assert dict(reply.content["metrics"]) == {"num-examples": sizes, "clipped_share": 0.0}


def test_the_same_updates_leave_as_other_words_each_time(built):
    sent = []
    for _ in range(2):
        grid = secured(built)
        grid.send_and_receive(training(grid, built))
        sent.append([record["words"] for record in grid.inner.seen[2].records["secure"]])
    for one, other in zip(*sent):
        same = np.frombuffer(one, np.uint8) == np.frombuffer(other, np.uint8)
        assert same.mean() < 0.05


def test_no_secret_is_left_in_the_states_of_clients(built):
    grid = secured(built)
    grid.send_and_receive(training(grid, built))
    assert all(not state for state in grid.save_states().values())


def test_a_client_answers_no_plain_request_to_train(built):
    grid = secured(built)
    replies = Replies.read(grid.inner.send_and_receive(training(grid, built)))
    assert not replies.nodes and replies.models is None
    assert set(replies.failures.values()) == {
        "it refused: its update leaves it under secure aggregation only"
    }


@pytest.mark.parametrize("kind", ["secure_shares", "secure_masked", "secure_unmask"])
def test_an_exchange_without_the_ones_before_is_refused(built, kind):
    grid = secured(built)
    asked = training(grid, built)
    asked.message_type = f"train.{kind}"
    replies = Replies.read(grid.inner.send_and_receive(asked))
    assert not replies.nodes
    assert all("takes part in no round" in why for why in replies.failures.values())


class OneByOne(ClientApp):
    """The same app without cohorts: every message goes through Flower's dispatch."""

    def __init__(self, workload):
        super().__init__()
        self.app = CohortApp(workload)

    def __call__(self, message, context):
        return self.app(message, context)


def test_single_messages_give_the_same_as_a_cohort(built):
    vectors = []
    for kind in (CohortApp, OneByOne):
        grid = secured(built, kind=InlineGrid, app=kind)
        replies = Replies.read(grid.send_and_receive(training(grid, built)))
        assert replies.metrics["num-examples"].item() == built.data.sizes("train").sum()
        vectors.append(replies.block()[0].numpy())
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_a_strategy_that_asks_different_things_is_told(built):
    grid = secured(built)
    one, other = training(grid, built), training(grid, built, rate=2)
    with pytest.raises(RunFailed, match="2 different trainings"):
        grid.send_and_receive([*one[:3], *other[3:]])


def test_evaluation_is_passed_on(built):
    grid = secured(built)
    asked = training(grid, built)
    asked.message_type = "evaluate"
    replies = Replies.read(grid.send_and_receive(asked))
    assert len(replies.nodes) == 6 and "counts.test" in replies.records


# Failures

FAILING = """
class client:
    def __init__(self, *, failing: int = 1):
        self.failing = failing

    def train(self, cohort, start):
        if min(cohort.clients.tolist()) < self.failing:
            raise RuntimeError("disk on fire")
        return start.repeat(cohort.size, 1) * 0 + 0.25
"""


@pytest.fixture
def failing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text(FAILING)

    def with_failures(number, **changes):
        client = {"name": "p.py:client", "failing": number}
        return {**BASE, **SECURE, "client": client, **changes}

    return with_failures


def test_a_client_that_fails_is_taken_out_of_the_masks(failing):
    state, (_, round), built = go(failing(2))
    assert round.trained == [2, 3, 4, 5]
    assert list(round.failed) == [0, 1]
    assert all("disk on fire" in why for why in round.failed.values())
    moved = state.vector - built.model.initial
    torch.testing.assert_close(moved, torch.full_like(moved, 0.25), atol=2.0**-15, rtol=0)


def test_too_few_left_end_the_run_with_round_and_numbers(failing):
    with pytest.raises(RunFailed, match="3 clients have sent their vectors in round 1") as failed:
        go(failing(3))
    assert "needs 4" in failed.value.problem
    assert failed.value.exit_code == 1


def test_abort_still_ends_the_run(failing):
    with pytest.raises(RunFailed, match="1 client failed in round 1"):
        go(failing(1, engine={"on_failure": "abort"}))


# Refused before anything runs

NEEDS_SINGLE = {
    "an order statistic": ({"strategy": {"name": "compose", "combine": "trimmed_mean"}}, "trimmed_mean needs"),
    "a transform": ({"strategy": {"name": "compose", "before": [{"name": "clip_norm", "bound": 1.0}]}}, "clip_norm acts"),
    "a robust strategy of Flower's": ({"strategy": {"name": "flwr.serverapp.strategy:FedMedian"}}, "FedMedian is not known"),
    "weights by loss": ({"strategy": {"name": "flwr.serverapp.strategy:QFedAvg", "client_learning_rate": 0.1}}, "QFedAvg is not known"),
    "weights by another number": ({"strategy": {**FEDAVG, "weighted_by_key": "train_loss"}}, "`weighted_by_key` has no effect"),
    "an omniscient attack": ({"attack": {"name": "a_little_is_enough", "clients": 0.3}}, "after it has seen the honest"),
    "a second question": ({"engine": {"on_failure": "retry"}}, "no client is asked twice"),
    "more bits than a sum holds": ({"secure_aggregation": {"bits": 33}}, "secure_aggregation.bits"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), NEEDS_SINGLE.values(), ids=[*NEEDS_SINGLE])
def test_what_needs_single_updates_is_refused(changes, why):
    with pytest.raises(FedmodelError, match=why) as refused:
        Experiment.read({**BASE, **SECURE, **changes})
    assert refused.value.exit_code == 2 and refused.value.fix


def test_two_clients_are_refused_when_the_data_is_known():
    experiment = Experiment.read({**BASE, **SECURE, "partition": {"name": "iid", "clients": 2}})
    with pytest.raises(FedmodelError, match="needs 3 clients, and there are 2"):
        experiment.built  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_other_engines_give_the_same(engine, tmp_path):
    config = {**BASE, **SECURE, **DROPOUT, "rounds": 2}
    state, happened, built = go(config)
    run = fedmodel.run(config, {"engine.workers": 2}, engine=engine, out=tmp_path / "run")
    lines = (run.path / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["trained"] for line in lines] == [list(r.trained) for r in happened]
    for name, value in built.model.state_dict(state.vector).items():
        torch.testing.assert_close(run.model.state_dict()[name], value, atol=2.0**-14, rtol=0)
