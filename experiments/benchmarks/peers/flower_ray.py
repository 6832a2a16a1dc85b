"""Flower with its Simulation Engine on Ray, and with Opacus in each client, as their documents show it.

A client app that trains on one partition, FedAvg in the server app, one core a client. Records are
made once in each Ray actor, not for each message. Opacus' accounting is left out of the time.
"""

from __future__ import annotations

import logging
import os
import time
from functools import cache
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.benchmarks.peers import Lap
from experiments.benchmarks.works import Work, work_from_json

__all__ = ["client", "run", "settings", "train"]

client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """One epoch on the records of this node's partition."""
    config: Any = message.content.config_records["config"]
    work, partitions = partitions_of(config["work"])
    dataset = partitions[int(context.node_config["partition-id"])]
    loader = DataLoader(dataset, batch_size=work.batch_size, shuffle=True)
    model = work.model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    trained: Any = model
    optimiser: Any = torch.optim.SGD(model.parameters(), lr=work.learning_rate)
    if work.private:
        trained, optimiser, loader = PrivacyEngine().make_private(
            module=model,
            optimizer=optimiser,
            data_loader=loader,
            noise_multiplier=work.noise_multiplier,
            max_grad_norm=work.clip,
            poisson_sampling=True,
        )
    criterion = nn.CrossEntropyLoss()
    trained.train()
    for x, y in loader:
        optimiser.zero_grad()
        criterion(trained(x), y).backward()
        optimiser.step()
    answer: dict[str, Any] = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(dataset)}),
    }
    return Message(RecordDict(answer), reply_to=message)


@cache
def partitions_of(work_json: str) -> tuple[Work, list[TensorDataset]]:
    """The work and everybody's records, made once in each process."""
    work = work_from_json(work_json)
    return work, [TensorDataset(x, y) for x, y in zip(*work.records())]


def settings(work: Work) -> list[dict[str, Any]]:
    return [{}]


def run(work: Work, lap: Lap) -> None:
    os.environ.update(
        FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", RAY_USAGE_STATS_ENABLED="0"
    )
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server = ServerApp()

    def after_round(number: int, arrays: ArrayRecord) -> MetricRecord:
        lap(arrays.to_torch_state_dict)
        return MetricRecord()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < work.population:
            time.sleep(0.05)  # FedAvg would begin with the clients that are there
        strategy = FedAvg(
            fraction_train=work.cohort / work.population,
            fraction_evaluate=0.0,
            min_train_nodes=work.cohort,
            min_available_nodes=work.population,
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(work.initial_model().state_dict()),
            num_rounds=work.rounds,
            train_config=ConfigRecord({"work": work.to_json()}),
            evaluate_fn=after_round,
        )

    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=work.population,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"include_dashboard": False, "log_to_driver": False},
        },
    )
