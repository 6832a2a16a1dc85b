"""Who does the work. Each module stands alone as an example of how its framework is used well.

A peer is a module with two functions: `settings` lists what is worth trying beside thread counts;
`run` trains, calling `lap` before the first round and after each one, until `lap` answers False.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

from torch import Tensor

from experiments.benchmarks.works import Work

__all__ = ["PEERS", "Lap", "Module", "Peer", "Unable"]

Lap = Callable[[Callable[[], Mapping[str, Tensor]]], bool]
"""Called with a function that gives the model's state dict; whether to go on."""


class Unable(Exception):  # noqa: N818 - no error: a peer need not do every work
    """Why a peer does not do a work."""


class Module(Protocol):
    """What the module of a peer offers."""

    def settings(self, work: Work) -> list[dict[str, Any]]: ...
    def run(self, work: Work, lap: Lap, **setting: Any) -> None: ...


@dataclass(frozen=True)
class Peer:
    """One row of the table: a module of this package, and what is fixed about its setting."""

    title: str
    module: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1  # started by torch's launcher where there are several
    tuned: bool = False  # there are settings to choose from
    on_demand: bool = False  # it can read records that are in no memory

    def load(self) -> Module:
        """The module, imported only in the process that needs it."""
        return cast(Module, import_module(f"{__name__}.{self.module}"))


PEERS = {
    "flower": Peer("Flower + Ray", "flower_ray"),
    "pfl-1": Peer("pfl-research, 1 process", "pfl_research"),
    "pfl-2": Peer("pfl-research, 2 processes", "pfl_research", processes=2),
    "sequential": Peer("sequential PyTorch", "sequential", tuned=True),
    "inline": Peer(
        "fedmodel, inline", "fedmodel_engines", {"grid": "inline"}, tuned=True, on_demand=True
    ),
    "ray": Peer("fedmodel, Ray, 2 workers", "fedmodel_engines", {"grid": "ray"}, on_demand=True),
    "central": Peer("one central model, no clients", "floor", {"what": "central"}, tuned=True),
    "floor": Peer("floor: its arithmetic alone", "floor", {"what": "arithmetic"}, tuned=True),
}
