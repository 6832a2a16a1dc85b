"""A federation trained once more, and what somebody who watches it learns of every record."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import Message
from jaxtyping import Bool, Float
from torch import Tensor

from fedmodel.apps import CohortApp
from fedmodel.cohort import FlatModel
from fedmodel.experiment import Experiment
from fedmodel.grids.inline import InlineGrid
from fedmodel.grids.local import FIRST_NODE
from fedmodel.messages import Replies
from fedmodel.planning import plan_training
from fedmodel.randomness import SERVER, stream
from fedmodel.rounds import State, rounds
from fedmodel.types import FederatedData

__all__ = ["POSITIONS", "Signals", "halved", "halves", "log_odds", "shadow", "watch"]

POSITIONS = {
    "server": "it sees what each client sends: scores are from the record's own client's models",
    "peer client": "it sees the global model after each round, and nothing else",
}


@dataclass(frozen=True, kw_only=True)
class Signals:
    """How sure the watched models are of each record's label, by position: the mean log odds.

    N records, all splits of all clients in the data's order; NaN where nobody could look.
    """

    log_odds: dict[str, Float[np.ndarray, " N"]]
    vector: Float[Tensor, " d"]  # the last global model


def log_odds(logits: Float[Tensor, "N C"], y: Tensor) -> Float[Tensor, " N"]:
    """log(p / (1 - p)) for the probability p of the true class, stable at both ends.

    Carlini et al., S&P 2022, section VI-A: roughly normal over models, as p is not.

    >>> log_odds(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    tensor([2., 0.])
    """
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).logsumexp(1)


def watch(
    experiment: Experiment,
    *,
    data: FederatedData,
    seed: int,
    last: int,
) -> Signals:
    """Train the federation on `data` and watch its last rounds, in this process.

    The server's invitations, and who drops out, are those of the experiment: the server knows
    them. Batches and noise are drawn from `seed`. A record's signal is its mean over the `last`
    global models, or the last models that its own client sent.
    """
    built, config = experiment.built, experiment.config
    targets = built.plans.target if built.plans else np.array([np.inf])
    known = targets if np.isfinite(targets).all() else None
    training, plans = plan_training(config, built.workload.behaviour, data, targets=known)
    work = replace(
        built.workload,
        data=data,
        training=replace(training, noise="seeded"),
        max_steps=plans.max_steps if plans else None,
        seed=seed,
    )
    grid = _Watched(CohortApp(work), data=data, model=built.model, last=last)
    globals_: deque[Tensor] = deque(maxlen=last)
    federation = replace(experiment.federation(grid), every=config.rounds)
    for finished in rounds(
        federation,
        State(0, built.model.initial),
        save=lambda state, finished: globals_.append(state.vector),
    ):
        if finished.number == 0:
            globals_.clear()
    peer = torch.stack([_signal(built.model, v, data, slice(None)) for v in globals_]).mean(0)
    return Signals(
        log_odds={"server": grid.signal(), "peer client": peer.double().numpy()},
        vector=globals_[-1],
    )


class _Watched(InlineGrid):
    """A grid that looks at the models that clients send, as the server can."""

    def __init__(self, app: CohortApp, *, data: FederatedData, model: FlatModel, last: int):
        super().__init__(app, num_clients=data.num_clients)
        self.data, self.model = data, model
        self.sent: list[deque[Tensor]] = [deque(maxlen=last) for _ in range(data.num_clients)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        replies = super().send_and_receive(messages)
        if isinstance(replies, Replies) and replies.models is not None:
            for node, vector in zip(replies.nodes, replies.models):
                self.sent[node - FIRST_NODE].append(vector)
        return replies

    def signal(self) -> Float[np.ndarray, " N"]:
        """Mean log odds of each record under the last models that its client sent."""
        found = np.full(len(self.data.y), np.nan)
        for client, vectors in enumerate(self.sent):
            rows = slice(int(self.data.bounds[client, 0]), int(self.data.bounds[client, -1]))
            if vectors and rows.stop > rows.start:
                each = [_signal(self.model, vector, self.data, rows) for vector in vectors]
                found[rows] = torch.stack(each).mean(0).double().numpy()
        return found


def _signal(model: FlatModel, vector: Tensor, data: FederatedData, rows: slice) -> Tensor:
    return log_odds(model.predict(vector, data.x[rows]), data.y[rows])


def halves(data: FederatedData, *, number: int, seed: int) -> Bool[np.ndarray, "S N"]:
    """Random halves of every client's records; each record is in exactly half of an even `number`.

    Halves come in pairs: a random one and the rest.
    """
    member = np.zeros((number, len(data.y)), dtype=bool)
    for client in range(data.num_clients):
        begin, end = int(data.bounds[client, 0]), int(data.bounds[client, -1])
        for pair in range(number // 2):
            drawn = begin + stream(seed, client, pair, "audit halves").permutation(end - begin)
            middle = (end - begin + pair % 2) // 2
            member[2 * pair, drawn[:middle]] = True
            member[2 * pair + 1, drawn[middle:]] = True
    return member


def halved(data: FederatedData, member: Bool[np.ndarray, " N"]) -> tuple[FederatedData, np.ndarray]:
    """The federation with these records to train on and all others to test on; and their order."""
    bounds = torch.zeros_like(data.bounds)
    parts = []
    for client in range(data.num_clients):
        rows = np.arange(int(data.bounds[client, 0]), int(data.bounds[client, -1]))
        own = member[rows]
        parts += [rows[own], rows[~own]]
        first, middle = int(data.bounds[client, 0]), int(own.sum())
        bounds[client] = torch.tensor([first, first + middle, first + middle, first + len(rows)])
    order = np.concatenate(parts)
    index = torch.from_numpy(order)
    x, y, group = data.x[index], data.y[index], data.group[index]
    return replace(data, bounds=bounds, x=x, y=y, group=group), order


def shadow(
    experiment: Experiment, member: Bool[np.ndarray, " N"], *, number: int, last: int
) -> Signals:
    """Train on some of the records and watch; the signals are in the order of the experiment's data."""
    data, order = halved(experiment.built.data, member)
    seed = int(stream(experiment.config.seed, SERVER, number, "audit shadow").integers(2**63))
    seen = watch(experiment, data=data, seed=seed, last=last)
    back = np.argsort(order)
    return Signals(
        log_odds={position: values[back] for position, values in seen.log_odds.items()},
        vector=seen.vector,
    )
