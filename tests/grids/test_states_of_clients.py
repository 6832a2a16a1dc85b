"""A grid's memory is that of the clients that have a state; what the loop saves, of the round's own."""

import random
import tracemalloc

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmodel.apps import CohortApp
from fedmodel.experiment import Experiment
from fedmodel.grids.inline import InlineGrid
from fedmodel.grids.local import FIRST_NODE
from fedmodel.grids.ray import Worker
from fedmodel.messages import Instructions
from fedmodel.rounds import State, _seeded, rounds

PRIVATE = {
    "seed": 3,
    "rounds": 4,
    "data": {"name": "heart_disease", "encode": "public"},
    "partition": {"name": "iid", "clients": 8},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.2, "batch_size": 16},
    "privacy": {"noise_multiplier": 1.0, "delta": 1e-3, "accountant": "rdp"},
    "strategy": {"name": "compose", "sample": 0.25},
}


def remembering():
    """An app that keeps, or empties, its state as it is told."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        wanted = message.content["config"]["keep"]
        context.state.clear()
        if wanted == "yes" and context.node_config["partition-id"] % 2:
            context.state["kept"] = ConfigRecord({"round": 1})
        return Message(RecordDict(), reply_to=message)

    return app


def asked(nodes, keep):
    return Instructions(nodes, "train", ArrayRecord(), {"keep": keep})


def test_a_million_clients_without_states_cost_nothing():
    app = ClientApp()
    tracemalloc.start()
    grid = InlineGrid(app, num_clients=10**6)
    nodes = grid.get_node_ids()
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 100_000
    assert len(nodes) == 10**6 and (nodes[0], nodes[-1]) == (FIRST_NODE, FIRST_NODE + 10**6 - 1)
    sample = random.sample(list(grid.get_node_ids()), 100)  # what Flower's strategies do
    assert all(node in nodes for node in sample)


def test_only_clients_that_keep_something_have_a_state():
    grid = InlineGrid(remembering(), num_clients=6)
    list(grid.send_and_receive(asked(grid.nodes, "yes")))
    assert sorted(grid.save_states()) == [3, 5, 7]
    assert sorted(grid.save_states([2, 3])) == [3]
    list(grid.send_and_receive(asked([2, 3], "no")))
    assert {n: len(s) for n, s in grid.save_states([2, 3]).items()} == {3: 0}  # it had one
    other = InlineGrid(remembering(), num_clients=6)
    other.restore_states(grid.save_states())
    assert other.save_states() == grid.save_states()


def test_a_ray_worker_sends_back_states_that_hold_something():
    threads = torch.get_num_threads()
    try:
        worker = Worker(remembering(), 6)
        _, states = worker.answer_each(list(asked([2, 3], "yes")), {})
        assert list(states) == [3] and dict(states[3]["kept"]) == {"round": 1}
        _, states = worker.answer_each(list(asked([2, 3], "no")), states)
        assert {node: len(state) for node, state in states.items()} == {3: 0}
    finally:
        torch.set_num_threads(threads)


def test_the_loop_hands_out_the_states_of_a_round_and_together_they_are_all():
    experiment = Experiment.read(PRIVATE)
    built, saved = experiment.built, []
    grid = InlineGrid(CohortApp(built.workload), num_clients=8)
    begin = State(0, built.model.initial)
    for finished in rounds(
        experiment.federation(grid), begin, save=lambda state, _: saved.append(dict(state.clients))
    ):
        assert sorted(saved[-1]) == [client + FIRST_NODE for client in sorted(finished.trained)]
    assert [len(states) for states in saved] == [0, 2, 2, 2, 2]
    together = {node: state for states in saved for node, state in states.items()}
    assert together == grid.save_states()
    assert len(together) < 8  # some were never asked


def test_the_global_streams_are_a_rounds_own_and_go_on_afterwards_as_if_there_had_been_none():
    def drawn():
        return random.random(), np.random.random(), float(np.random.normal())

    seen = []
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        before = drawn()
        with _seeded(3, 4):
            inside = drawn()
        seen.append((before, inside, random.random(), np.random.random()))
    random.seed(1)
    np.random.seed(1)
    assert seen[0] == seen[1]
    assert (drawn(), random.random(), np.random.random()) == (seen[0][0], *seen[0][2:])
    with _seeded(3, 5):
        assert drawn() != seen[0][1]
