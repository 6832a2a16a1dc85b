"""A Flower app that knows nothing of us runs on our grids as it is."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam, FedAvg

import fedmodel

client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Move halfway to a target that only this client knows; count the visits in the state."""
    visits = context.state.setdefault("visits", MetricRecord({"n": 0}))
    visits["n"] += 1
    number = context.node_config["partition-id"]
    weights = message.content["arrays"].to_numpy_ndarrays()[0]
    message.content["config"].pop("server-round")  # what a client does to its message is its own
    new = (weights + np.full(3, float(number))) / 2
    metrics = MetricRecord({"num-examples": number + 1, "visits": visits["n"]})
    return Message(RecordDict({"arrays": ArrayRecord([new]), "metrics": metrics}), reply_to=message)


@client_app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    weights = message.content["arrays"].to_numpy_ndarrays()[0]
    metrics = MetricRecord({"num-examples": 1, "mean": float(weights.mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def server_app(strategy, rounds=3):
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy.start(grid, ArrayRecord([np.zeros(3)]), num_rounds=rounds)

    return app


def by_hand(rounds, clients):
    weights, shares = np.zeros(3), np.arange(1, clients + 1) / np.arange(1, clients + 1).sum()
    for _ in range(rounds):
        weights = sum(share * (weights + k) / 2 for k, share in enumerate(shares))
    return weights


@pytest.mark.parametrize("engine", ["inline", "ray"])
def test_a_plain_app_gives_what_it_should(engine):
    result = fedmodel.run_app(server_app(FedAvg()), client_app, partitions=5, engine=engine)
    np.testing.assert_allclose(result.arrays.to_numpy_ndarrays()[0], by_hand(3, 5))
    assert result.train_metrics_clientapp[3]["visits"] == 3.0
    assert result.evaluate_metrics_clientapp[3]["mean"] == pytest.approx(by_hand(3, 5).mean())


def test_partial_sampling_is_the_same_every_time():
    import random

    def once():
        random.seed(5)
        strategy = FedAdam(fraction_train=0.4, eta=0.1)
        result = fedmodel.run_app(server_app(strategy), client_app, partitions=10)
        return result.arrays.to_numpy_ndarrays()[0]

    np.testing.assert_array_equal(once(), once())


def test_a_client_that_raises_is_an_error_reply_with_its_line():
    broken, seen = ClientApp(), []

    @broken.train()
    def fail(message: Message, context: Context) -> Message:
        context.state["spoiled"] = MetricRecord({"n": 1})
        raise ValueError("no records")

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        asked = [Message(RecordDict(), node, "train") for node in grid.get_node_ids()]
        seen.extend(grid.send_and_receive(asked))
        keys = grid.push_messages(asked)
        seen.extend(grid.pull_messages(keys))

    assert fedmodel.run_app(app, broken, partitions=2) is None
    assert len(seen) == 4
    for reply in seen:
        error: Error = reply.error
        assert "ValueError: no records" in error.reason
        assert "test_foreign_apps.py:" in error.reason
