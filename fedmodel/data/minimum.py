"""A smallest number of records that every client must get, and a setting under which it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from fedmodel.data.records import Assignment
from fedmodel.errors import FedmodelError

__all__ = ["assigned", "check_clients"]

Parts = Sequence[Int[np.ndarray, " _"]]  # the record numbers of each client


def check_clients(number: int, clients: int, name: str) -> None:
    """Raise FedmodelError unless so many records can be dealt out to so many clients."""
    if not 1 <= clients <= number:
        raise FedmodelError(
            f"{clients} clients for the {number} records of {name}",
            where="[partition] clients",
            fix=f"Choose 1 <= clients <= {number}.",
        )


def assigned(draw: Callable[[int], Parts], *, clients: int, min_size: int) -> Assignment:
    """What `draw` deals out to so many clients, if each of them gets `min_size` records or more.

    `draw` raises ValueError where somebody would get nothing.

    Raises:
        FedmodelError: somebody gets fewer. The settings it names have been tried: they work.
    """
    if min_size < 1:
        raise FedmodelError(
            f"min_size is {min_size}, and a client without records is none",
            where="[partition] min_size",
            fix="Choose min_size = 1 or more.",
        )
    parts = _drawn(draw, clients)
    smallest = min(map(len, parts), default=0)
    if smallest >= min_size:
        return Assignment.of(parts)
    ways = [f"min_size = {smallest}"] if smallest else []
    if most := _most_clients(draw, clients, min_size):
        ways.append(f"clients = {most}")
    raise FedmodelError(
        f"the smallest of {clients} clients would get {smallest}, and min_size is {min_size}"
        if smallest
        else f"{clients} clients are too many: the smallest would get no records",
        where=f"[partition] {'min_size' if smallest else 'clients'}",
        fix=f"Choose {' or '.join(ways)}." if ways else "Choose another partitioner.",
    )


def _most_clients(draw: Callable[[int], Parts], clients: int, min_size: int) -> int:
    """A number of clients, two or more, that all get enough, close to the largest; 0 if none is found.

    By bisection, as more clients get less each; whatever is returned has been drawn. Of thousands it
    stops within two in a hundred.
    """
    enough, too_many = 0, clients
    trial = clients // 2
    while trial > max(enough, 1) and too_many - enough > enough // 50:
        if min(map(len, _drawn(draw, trial)), default=0) >= min_size:
            enough = trial
        else:
            too_many = trial
        trial = (enough + too_many) // 2
    return enough


def _drawn(draw: Callable[[int], Parts], clients: int) -> Parts:
    try:
        return draw(clients)
    except ValueError:
        return ()
