"""Apple's pfl-research in its simulated backend, one process or several, with its PyTorch adapter.

It wants versions of its own: `python -m venv V; V/bin/pip install "pfl[pytorch]==0.6.0"`, then
`--pfl-python V/bin/python`. Its privacy is for whole clients; it has no DP-SGD on records.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.peers import Lap, Unable
from experiments.benchmarks.works import Work

__all__ = ["run", "settings"]


def settings(work: Work) -> list[dict[str, Any]]:
    return [{}]


def run(work: Work, lap: Lap) -> None:
    if find_spec("pfl") is None:
        raise Unable('not installed: pip install "pfl[pytorch]==0.6.0" elsewhere, --pfl-python')
    if work.private:
        raise Unable("it has no DP-SGD on records")
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(1)
    x, y = work.records()

    def dataset_of(client: int) -> PyTorchTensorDataset:
        order = torch.randperm(work.num_records)  # it takes batches in the order of the records
        return PyTorchTensorDataset((x[client][order], y[client][order]), user_id=str(client))

    data = FederatedDataset(
        dataset_of, get_user_sampler("minimize_reuse", list(range(work.population)))
    )
    network = with_loss(work.initial_model())
    model = PyTorchModel(
        network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
    )

    class Laps(TrainingProcessCallback):
        def on_train_begin(self, *, model: Any) -> Metrics:
            lap(network.state_dict)
            return Metrics()

        def after_central_iteration(
            self, aggregate_metrics: Any, model: Any, *, central_iteration: int
        ) -> tuple[bool, Metrics]:
            return agreed(not lap(network.state_dict)), Metrics()

    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=10**9,
            evaluation_frequency=10**9,  # only before the first round
            train_cohort_size=work.cohort,
            val_cohort_size=None,
        ),
        SimulatedBackend(training_data=data, val_data=data),
        model,
        NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=work.learning_rate,
            local_batch_size=work.batch_size,
        ),
        NNEvalHyperParams(local_batch_size=None),
        [Laps()],
        send_metrics_to_platform=False,
    )


def agreed(stop: bool) -> bool:
    """The first process' decision: if one stopped alone, the others would wait for it."""
    if not torch.distributed.is_initialized():
        return stop
    decision = torch.tensor(int(stop))
    torch.distributed.broadcast(decision, src=0)
    return bool(decision)


def with_loss(network: nn.Module) -> nn.Module:
    """The module with the two methods that pfl asks for, which are no part of its state."""
    from pfl.metrics import Weighted

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network.train()(x), y)

    def metrics(x: Tensor, y: Tensor) -> dict[str, Any]:
        with torch.no_grad():
            return {"loss": Weighted(loss(x, y).item() * len(y), len(y))}

    object.__setattr__(network, "loss", loss)
    object.__setattr__(network, "metrics", metrics)
    return network
