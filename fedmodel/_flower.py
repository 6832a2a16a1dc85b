"""Every private Flower import, and array records that fill themselves when they are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Layout",
    "Run",
    "arrays_of",
    "identify",
    "layout_of",
    "quiet_flower",
    "run_simulation",
    "vector_of",
]


def identify(*, run_id: int = 1, node_id: int = 1, task_id: int = 1) -> None:
    """Say who we are: Flower stamps every message with process-wide numbers."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, task_id


def quiet_flower() -> None:
    """Only warnings from Flower's logger: our own progress display tells the rest."""
    logging.getLogger("flwr").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the parameters, in the order in which they make up the vector ``[d]``."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return sum(prod(shape) for shape in self.shapes)


class _Rows(dict[str, Array]):
    """The named arrays of one vector, made when somebody looks."""

    def __init__(self, vector: Tensor, layout: Layout) -> None:
        super().__init__()
        self.vector: Tensor | None = vector
        self.layout = layout

    def fill(self) -> dict[str, Array]:
        if self.vector is not None:
            flat, self.vector, begin = self.vector.detach().cpu().numpy(), None, 0
            for name, shape in zip(self.layout.names, self.layout.shapes):
                count = prod(shape)
                super().__setitem__(name, Array(flat[begin : begin + count].reshape(shape)))
                begin += count
        return self

    def __getitem__(self, key: str) -> Array:
        self.fill()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Array) -> None:
        self.fill()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.fill()
        super().__delitem__(key)

    def __iter__(self) -> Iterator[str]:
        self.fill()
        return super().__iter__()

    def __len__(self) -> int:
        self.fill()
        return super().__len__()

    def __contains__(self, key: object) -> bool:
        self.fill()
        return super().__contains__(key)

    def __eq__(self, other: object) -> bool:
        self.fill()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> Any:
        self.fill()
        return super().keys()

    def values(self) -> Any:
        self.fill()
        return super().values()

    def items(self) -> Any:
        self.fill()
        return super().items()

    def copy(self) -> Any:
        return _Rows(self.vector, self.layout) if self.vector is not None else dict(self)

    def __reduce__(self) -> Any:
        return dict, (dict(self.fill()),)


def arrays_of(vector: Float[Tensor, " d"], layout: Layout) -> ArrayRecord:
    """An ordinary array record of a parameter vector; serialised only if somebody reads it."""
    record = ArrayRecord()
    record.__dict__["_data"] = _Rows(vector, layout)
    return record


def vector_of(record: ArrayRecord) -> Float[Tensor, " d"]:
    """The parameter vector of an array record, in the record's order, as float32."""
    data = record.__dict__["_data"]
    if isinstance(data, _Rows) and data.vector is not None:
        return data.vector
    parts = [array.numpy().reshape(-1).astype(np.float32, copy=False) for array in record.values()]
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0)


def layout_of(record: ArrayRecord) -> Layout:
    """Names and shapes of the arrays of a record."""
    data = record.__dict__["_data"]
    if isinstance(data, _Rows) and data.vector is not None:
        return data.layout
    return Layout(tuple(record), tuple(tuple(array.shape) for array in record.values()))


def run_simulation(
    server: Any, client: Any, num_clients: int, *, cores: int, gpus: float = 0.0
) -> None:
    """Flower's Simulation Engine, one core and a share of a GPU a client, quietly. Returns when the ServerApp does."""
    from flwr.simulation import run_simulation as run

    # It calls itself deprecated in favour of `flwr run`, which returns nothing to its caller.
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    run(
        server,
        client,
        num_clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": gpus},
            "init_args": {"num_cpus": cores, "log_to_driver": False, "include_dashboard": False},
        },
    )
