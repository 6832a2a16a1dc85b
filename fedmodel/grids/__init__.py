"""Where clients execute: in this process, on Ray workers, or in Flower's Simulation Engine."""

from __future__ import annotations

from pathlib import Path
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
    scratch: Path | None = None,
) -> LocalGrid:
    """The grid of that name: "inline", "ray" or "flower". `scratch` is a folder for large messages."""
    quiet_flower()
    arguments: dict[str, Any] = {"num_clients": num_clients}
    if name == "inline":
        from fedmodel.grids.inline import InlineGrid

        return InlineGrid(app, **arguments)
    if name == "ray":
        from fedmodel.grids.ray import RayGrid

        return RayGrid(app, workers=workers, address=address, device=device, **arguments)
    from fedmodel.grids.flower import FlowerGrid

    if scratch is not None and hasattr(app, "save"):
        app = app.save(scratch / "workload.pkl")
    return FlowerGrid(app, workers=workers, **arguments)
