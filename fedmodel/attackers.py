"""Which clients attack, what they do to their records, and what an attack on updates gets to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fedmodel.catalogue import Component
from fedmodel.config import Config
from fedmodel.errors import FedmodelError, nearest, shown
from fedmodel.randomness import SERVER, stream
from fedmodel.supplied import supplied
from fedmodel.types import FederatedData

__all__ = ["dishonest_clients", "poisoned", "views"]


def dishonest_clients(config: Config, data: FederatedData) -> np.ndarray | None:
    """The mask of attackers: the listed clients, or a share of all drawn from the seed."""
    if config.attack is None:
        return None
    chosen = config.attack.clients
    mask = np.zeros(data.num_clients, dtype=bool)
    if isinstance(chosen, list):
        known = list(data.clients)
        for name in chosen:
            if str(name) not in known:
                raise FedmodelError(
                    f"there is no client {shown(name)} to be an attacker",
                    where="[attack] clients",
                    fix=nearest(str(name), known, what="the clients are"),
                )
            mask[known.index(str(name))] = True
    else:
        number = max(1, round(chosen * data.num_clients))
        draw = stream(config.seed, SERVER, 0, "attackers")
        mask[draw.choice(data.num_clients, number, replace=False)] = True
    if mask.all():
        raise FedmodelError(
            "all clients are attackers",
            where="[attack] clients",
            fix="Leave at least one honest client.",
        )
    return mask


def poisoned(
    attack: Component | None, data: FederatedData, dishonest: np.ndarray | None, seed: int
) -> FederatedData:
    """The data after an attack on records: the training labels of the dishonest clients changed."""
    if attack is None or dishonest is None or not attack.asks_for("labels"):
        return data
    y = data.y.clone()
    for client in np.flatnonzero(dishonest):
        rows = data.rows(int(client), "train")
        changed = supplied(
            attack,
            "attack",
            data.y[rows],
            num_classes=len(data.classes),
            generator=stream(seed, int(client), 0, "poison"),
            returns=torch.Tensor,
        )
        if changed.shape != data.y[rows].shape:
            raise FedmodelError(
                f"{attack.name} returned {len(changed)} labels for {len(data.y[rows])} records",
                where="[attack] name",
                fix="Return as many labels as were given.",
            )
        y[rows] = changed
    return replace(data, y=y)


def views(attack: Component | None) -> tuple[Component | None, Component | None]:
    """The attack twice: as one that sees the honest updates, and as one that sees its own alone."""
    if attack is None or not (attack.asks_for("honest") or attack.asks_for("own")):
        return None, None
    return (attack, None) if attack.asks_for("honest") else (None, attack)
