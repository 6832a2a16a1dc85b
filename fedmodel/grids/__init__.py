"""Where clients execute: in this process, on Ray workers, or in Flower's Simulation Engine."""

from __future__ import annotations

from typing import Any

from flwr.clientapp import ClientApp

from fedmodel._flower import quiet_flower
from fedmodel.grids.local import LocalGrid

__all__ = ["LocalGrid", "grid_named"]


def grid_named(
    name: str,
    app: ClientApp,
    *,
    num_clients: int,
    workers: int | None = None,
    address: str | None = None,
    device: str = "cpu",
) -> LocalGrid:
    """The grid of that name: "inline", "ray" or "flower"."""
    quiet_flower()
    arguments: dict[str, Any] = {"num_clients": num_clients}
    if name == "inline":
        from fedmodel.grids.inline import InlineGrid

        return InlineGrid(app, threads=workers, **arguments)
    if name == "ray":
        from fedmodel.grids.ray import RayGrid

        return RayGrid(app, workers=workers, address=address, device=device, **arguments)
    from fedmodel.grids.flower import FlowerGrid

    return FlowerGrid(app, workers=workers, device=device, **arguments)
