"""Every private Flower import, and array records that fill themselves when they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Layout",
    "Run",
    "arrays_of",
    "config_of",
    "identify",
    "layout_of",
    "quiet_flower",
    "run_simulation",
    "teller_of",
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


class _Lazy(dict[str, Any]):
    """A record's contents, made when somebody looks: `made` gives them once."""

    __slots__ = ("pending",)  # a state of each of many clients holds one

    def __init__(self) -> None:
        super().__init__()
        self.pending = True

    def made(self) -> Mapping[str, Any]:
        """The contents."""
        raise NotImplementedError

    def fill(self) -> dict[str, Any]:
        if self.pending:
            self.pending = False
            super().update(self.made())
        return self

    def __getitem__(self, key: str) -> Any:
        self.fill()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
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

    def __repr__(self) -> str:
        self.fill()
        return super().__repr__()

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
        return dict(self.fill())

    def __reduce__(self) -> Any:
        return dict, (dict(self.made() if self.pending else self),)


class _Rows(_Lazy):
    """The named arrays of one vector."""

    __slots__ = ("layout", "vector")

    def __init__(self, vector: Tensor, layout: Layout) -> None:
        super().__init__()
        self.vector, self.layout = vector, layout

    def made(self) -> Mapping[str, Array]:
        flat, begin, arrays = self.vector.detach().cpu().numpy(), 0, {}
        for name, shape in zip(self.layout.names, self.layout.shapes):
            count = prod(shape)
            arrays[name] = Array(flat[begin : begin + count].reshape(shape))
            begin += count
        return arrays

    def copy(self) -> Any:
        return _Rows(self.vector, self.layout) if self.pending else super().copy()


class _Told(_Lazy):
    """What an object says of itself, and the object as long as nobody looked."""

    __slots__ = ("say", "teller")

    def __init__(self, teller: Any, say: Callable[[Any], Mapping[str, Any]]) -> None:
        super().__init__()
        self.teller, self.say = teller, say

    def made(self) -> Mapping[str, Any]:
        return self.say(self.teller)


def config_of(teller: Any, say: Callable[[Any], Mapping[str, Any]]) -> ConfigRecord:
    """An ordinary configuration record of what `say` tells of an object, made only if somebody reads it."""
    record = ConfigRecord()
    record.__dict__["_data"] = _Told(teller, say)
    return record


def teller_of(record: ConfigRecord) -> Any:
    """The object that a record is still to be made of; None once it was made."""
    data = record.__dict__["_data"]
    return data.teller if isinstance(data, _Told) and data.pending else None


def arrays_of(vector: Float[Tensor, " d"], layout: Layout) -> ArrayRecord:
    """An ordinary array record of a parameter vector; serialised only if somebody reads it."""
    record = ArrayRecord()
    record.__dict__["_data"] = _Rows(vector, layout)
    return record


def vector_of(record: ArrayRecord) -> Float[Tensor, " d"]:
    """The parameter vector of an array record, in the record's order, as float32."""
    data = record.__dict__["_data"]
    if isinstance(data, _Rows) and data.pending:
        return data.vector
    parts = [array.numpy().reshape(-1).astype(np.float32, copy=False) for array in record.values()]
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0)


def layout_of(record: ArrayRecord) -> Layout:
    """Names and shapes of the arrays of a record."""
    data = record.__dict__["_data"]
    if isinstance(data, _Rows) and data.pending:
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
