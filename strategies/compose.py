"""What the server does with a round's updates: sample, transform, weigh, combine, step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Annotated, Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from fedmodel._flower import arrays_of, vector_of
from fedmodel.catalogue import Component, Nested
from fedmodel.errors import FedmodelError
from fedmodel.messages import Instructions, Replies
from fedmodel.randomness import SERVER, stream
from fedmodel.strategies.averaging import mean
from fedmodel.strategies.weighting import by_records, equal

__all__ = ["compose"]

Transform = Annotated[Callable[..., Tensor], Nested("transform")]
Aggregator = Annotated[Callable[..., Tensor], Nested("aggregator")]
Weighting = Annotated[Callable[..., Tensor], Nested("weighting")]


class compose(Strategy):  # noqa: N801 - the name in an experiment
    """A strategy made of functions.

    1. Sample a share of the clients, without replacement, from the experiment's seed.
    2. Take each reply's difference to the global model, `[K, d]`, through the transforms `before`.
    3. Weigh the clients' reports and combine the differences to one, `[d]`.
    4. Move the global model by `learning_rate` times that.

    With ``sample = 1``, ``combine = "mean"`` and ``weigh = "by_records"`` this is FedAvg
    (McMahan et al., AISTATS 2017).

    Raises:
        FedmodelError: a share outside (0, 1], or weights for an aggregator that ignores them.
    """

    def __init__(
        self,
        *,
        sample: Annotated[float, Field(gt=0, le=1)] = 1.0,
        before: Sequence[Transform] = (),
        weigh: Weighting | None = None,
        combine: Aggregator = mean,
        learning_rate: PositiveFloat = 1.0,
        seed: int = 0,
    ) -> None:
        if not 0 < sample <= 1:
            raise FedmodelError(
                f"compose cannot sample a share of {sample} of the clients",
                where="[strategy] sample",
                fix="Choose 0 < sample <= 1.",
            )
        takes_weights = _asks_for(combine, "weights")
        if weigh is not None and not takes_weights and _function(weigh) is not equal:
            raise FedmodelError(
                f"{_name(combine)} ignores weights, so weigh = {_name(weigh)!r} has no effect",
                where="[strategy] weigh",
                fix="Drop `weigh`, or combine with `mean`.",
            )
        self.sample, self.before, self.combine = sample, tuple(before), combine
        self.weigh = weigh or (by_records if takes_weights else equal)
        self.takes_weights = takes_weights
        self.learning_rate, self.seed = learning_rate, seed
        self.global_model: Tensor | None = None

    def sampled(self, server_round: int, nodes: Sequence[int]) -> list[int]:
        """The nodes that train in a round, in order; at least one."""
        number = max(1, round(self.sample * len(nodes)))
        if number >= len(nodes):
            return list(nodes)
        draw = stream(self.seed, SERVER, server_round, "sample")
        return [nodes[i] for i in sorted(draw.choice(len(nodes), number, replace=False).tolist())]

    def aggregate(
        self, delta: Float[Tensor, "K d"], reports: Mapping[str, Tensor]
    ) -> Float[Tensor, " d"]:
        """Transform, weigh, combine: the step of the global model before the learning rate."""
        for transform in self.before:
            delta = transform(delta)
        if self.takes_weights:
            return self.combine(delta, weights=self.weigh(reports).to(delta))
        return self.combine(delta)

    def aggregate_kept(
        self, delta: Float[Tensor, "K d"], reports: Mapping[str, Tensor], keep: Bool[Tensor, " K"]
    ) -> Float[Tensor, " d"]:
        """The aggregate of some of the clients: what it would be without the others."""
        return self.aggregate(delta[keep], {name: value[keep] for name, value in reports.items()})

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.global_model = vector_of(arrays)
        nodes = self.sampled(server_round, list(grid.get_node_ids()))
        return Instructions(nodes, "train", arrays, {**config, "server-round": server_round})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        gathered = Replies.read(replies).successes()
        if not gathered.nodes or self.global_model is None:
            return None, None
        delta = gathered.block() - self.global_model
        combined = self.aggregate(delta, reports_of(gathered))
        arrays = arrays_of(self.global_model + self.learning_rate * combined, gathered.layout)
        return arrays, _averages(gathered)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        nodes = list(grid.get_node_ids())
        return Instructions(nodes, "evaluate", arrays, {**config, "server-round": server_round})

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        gathered = Replies.read(replies).successes()
        return _averages(gathered) if gathered.nodes else None

    def summary(self) -> None:
        """Flower's `start` wants this; `fedmodel validate` tells more."""

    def state(self) -> dict[str, Any]:
        """Nothing is remembered from round to round."""
        return {}


def reports_of(replies: Replies) -> dict[str, Tensor]:
    """What clients report beside their model, one number a client: what weights may depend on."""
    renamed = {"num-examples": "num_records", "train_loss": "loss"}
    return {
        renamed.get(name, name): torch.tensor(values) for name, values in replies.metrics.items()
    }


def _averages(replies: Replies) -> MetricRecord:
    weights = replies.metrics["num-examples"].astype(float)
    return MetricRecord(
        {
            name: float((values * weights).sum() / weights.sum())
            for name, values in replies.metrics.items()
            if name != "num-examples"
        }
    )


def _function(part: Callable[..., Any]) -> Callable[..., Any]:
    return part.function if isinstance(part, Component) else part


def _asks_for(part: Callable[..., Any], keyword: str) -> bool:
    return keyword in signature(_function(part)).parameters


def _name(part: Callable[..., Any]) -> str:
    return part.name if isinstance(part, Component) else getattr(part, "__name__", repr(part))
