"""Small federations to audit."""

from __future__ import annotations

import numpy as np
import torch

from fedmodel.apps import Workload
from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.cohort import FlatModel, LocalTraining
from fedmodel.types import Card, FederatedData


def federation(sizes=((6, 1, 4), (9, 0, 5)), features=3):
    """Clients with so many training, validation and test records of normal numbers."""
    number = sum(map(sum, sizes))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(number, features, generator=generator)
    ends = np.cumsum([[0, *own] for own in sizes], axis=1)
    starts = np.cumsum([0, *(sum(own) for own in sizes)])[:-1]
    return FederatedData(
        x=x,
        y=(x[:, 0] > 0).long(),
        group=(x[:, 1:2] > 0).long(),
        bounds=torch.from_numpy(ends + starts[:, None]),
        clients=tuple("abcdefgh"[: len(sizes)]),
        classes=("no", "yes"),
        attributes={"colour": ("red", "blue")},
        features=(),
        card=Card(name="small", title="Small", source="drawn", licence="none"),
    )


def workload(data, *, noise, steps=1, batch_size=4, seed=0, behaviour=None, clip=1.0, private=True):
    """The work of a linear model on these data, with the same noise and steps at each client."""
    clients = data.num_clients
    return Workload(
        data=data,
        model=FlatModel(torch.nn.Linear(data.x.shape[1], 2)),
        behaviour=behaviour or dp_sgd(learning_rate=0.5, batch_size=batch_size),
        training=LocalTraining(
            batch_size=batch_size,
            num_steps=np.full(clients, steps),
            private=private,
            clip=clip,
            noise_multiplier=np.full(clients, float(noise)),
        ),
        seed=seed,
    )
