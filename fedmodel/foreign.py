"""Anybody's Flower ServerApp and ClientApp on our grids, unmodified."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result, Strategy

from fedmodel.grids import grid_named

__all__ = ["run_app"]


def run_app(
    server_app: ServerApp,
    client_app: ClientApp,
    *,
    partitions: int,
    engine: str = "inline",
    run_config: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> Result | None:
    """Run a Flower app with so many clients and return what its strategy's `start` returned.

    The ClientApp finds ``partition-id`` and ``num-partitions`` in its context's node_config. None
    where the ServerApp starts no strategy. The order of nodes and replies is that of the
    partitions, so a seeded app gives the same result every time.
    """
    grid = grid_named(engine, client_app, num_clients=partitions, workers=workers)
    try:
        context = Context(
            run_id=1,
            node_id=0,
            node_config={},
            state=RecordDict(),
            run_config=dict(run_config or {}),
        )
        with _results() as results:
            server_app(grid, context)
        return results[-1] if results else None
    finally:
        grid.close()


@contextmanager
def _results():
    """Collect what every strategy's `start` returns meanwhile: a ServerApp itself returns nothing."""
    original, results = Strategy.start, []

    def start(self: Strategy, *arguments: Any, **keywords: Any) -> Result:
        result = original(self, *arguments, **keywords)
        results.append(result)
        return result

    Strategy.start = start  # type: ignore[method-assign]
    try:
        yield results
    finally:
        Strategy.start = original  # type: ignore[method-assign]
