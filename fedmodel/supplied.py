"""What components make, checked: a user's function may raise or return anything."""

from __future__ import annotations

from typing import Any

import torch
from flwr.serverapp.strategy import Strategy

from fedmodel.catalogue import Component
from fedmodel.data.records import Records
from fedmodel.errors import FedmodelError, user_place, what_failed

__all__ = ["supplied"]

# What a component has to return, as its author knows it.
PUBLIC_NAMES: dict[type, str] = {
    Records: "fedmodel.data.records.Records",
    Strategy: "flwr.serverapp.strategy.Strategy",
    torch.nn.Module: "torch.nn.Module",
    torch.Tensor: "torch.Tensor",
}


def supplied(
    component: Component,
    section: str,
    *data: Any,
    returns: type = object,
    **options: Any,
) -> Any:
    """Call a component; what a user's own function raises is told with its file and line."""
    try:
        made = component(*data, **options)
    except FedmodelError:
        raise
    except Exception as error:
        place = user_place(error)
        raise FedmodelError(
            f"the {component.kind} {component.name} failed: {what_failed(error)}",
            where=place or f"[{section}]",
            fix="Mend it; `fedmodel check FILE.py:NAME` tries it alone."
            if place
            else "Check its options.",
        ) from error
    if not isinstance(made, returns):
        raise FedmodelError(
            f"{component.name} returned {type(made).__name__}, not {PUBLIC_NAMES[returns]}",
            where=f"[{section}] name",
            fix="Mend it; `fedmodel check FILE.py:NAME` tries it alone.",
        )
    return made
