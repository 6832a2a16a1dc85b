"""What the server does with a round's updates: sample, transform, weigh, combine, move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from inspect import signature
from typing import Annotated, Any, Literal

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from fedmodel._flower import Layout, arrays_of, layout_of, vector_of
from fedmodel.catalogue import Component, Nested
from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.messages import Instructions, Replies
from fedmodel.randomness import SERVER, stream, stream_keys, uniforms
from fedmodel.strategies.averaging import mean
from fedmodel.strategies.client_privacy import CentralPrivacy
from fedmodel.strategies.returned import returned, weights_returned
from fedmodel.strategies.schedules import constant
from fedmodel.strategies.weighting import by_records, equal

__all__ = ["compose"]

Transform = Annotated[Callable[..., Tensor], Nested("transform")]
Aggregator = Annotated[Callable[..., Tensor], Nested("aggregator")]
Weighting = Annotated[Callable[..., Tensor], Nested("weighting")]
Optimiser = Annotated[Callable[..., Any], Nested("optimiser")]
Schedule = Annotated[Callable[..., float], Nested("schedule")]


class compose(Strategy):  # noqa: N801 - the name in an experiment
    """A strategy made of functions.

    1. Sample a share of the clients from the experiment's seed: a fixed number without replacement,
       or with ``sampling = "poisson"`` each independently, so that a round may have no client.
    2. Take each reply's difference to the global model, `[K, d]`, through the transforms `before`.
    3. Weigh the clients' reports and combine the differences to one, `[d]`.
    4. Move the global model by `learning_rate` (1 unless said) times that, or as an `optimiser` says;
       times the factor that `schedule` gives the round.

    With ``sample = 1``, ``combine = "mean"`` and ``weigh = "by_records"`` this is FedAvg
    (McMahan et al., AISTATS 2017). Under central client-level privacy (`protect`) the mean is replaced
    by a noised sum over a Poisson sample.

    Raises:
        FedmodelError: a share outside (0, 1], weights for an aggregator that ignores them, or a
            learning rate beside an optimiser, which has its own.
    """

    def __init__(
        self,
        *,
        sample: Annotated[float, Field(gt=0, le=1)] = 1.0,
        sampling: Literal["fixed", "poisson"] | None = None,
        before: Sequence[Transform] = (),
        weigh: Weighting | None = None,
        combine: Aggregator = mean,
        learning_rate: PositiveFloat | None = None,
        optimiser: Optimiser | None = None,
        schedule: Schedule = constant,
        seed: int = 0,
        num_rounds: int = 1,
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
        if optimiser is not None and learning_rate is not None:
            raise FedmodelError(
                f"{_name(optimiser)} has a learning rate of its own, so `learning_rate` has no effect",
                where="[strategy] learning_rate",
                fix=f'Write optimiser = {{ name = "{_name(optimiser)}", '
                f"learning_rate = {learning_rate} }}, or drop one of them.",
            )
        self.sample, self.before, self.combine = sample, tuple(before), combine
        self.weigh = weigh or (by_records if takes_weights else equal)
        self.sampling, self._asked = sampling or "fixed", (sampling, weigh)
        self.takes_weights = takes_weights
        self.learning_rate, self.seed = learning_rate or 1.0, seed
        self.optimiser = optimiser
        if optimiser is not None and not isinstance(optimiser, Component):
            self.optimiser = Component("optimiser", _name(optimiser), optimiser)
        self.memory: Mapping[str, Tensor] = {}  # of the optimiser, from round to round
        self.schedule, self.num_rounds = schedule, num_rounds
        self.global_model: Tensor | None = None
        self.layout = Layout((), ())
        self.privacy: CentralPrivacy | None = None
        self.clip_bound, self.num_clients = math.inf, 0

    def protect(self, privacy: CentralPrivacy) -> None:
        """From now on release nothing but noised sums of clipped updates, of a Poisson sample.

        Raises:
            FedmodelError: a part of this strategy needs single updates or other weights.
        """
        sampling, weigh = self._asked
        if _function(self.combine) is not mean:
            key, problem = "combine", f"{_name(self.combine)} needs single updates"
        elif self.before:
            key, problem = "before", f"{_name(self.before[0])} would work on single updates"
        elif weigh is not None and _function(weigh) is not equal:
            key, problem = "weigh", f"{_name(weigh)} gives clients different weights"
        elif sampling == "fixed" and self.sample < 1:
            key, problem = "sampling", "a sample of fixed size is not what the accountant covers"
        else:
            self.privacy, self.clip_bound = privacy, privacy.clip
            self.weigh, self.sampling = equal, "poisson"
            return
        raise FedmodelError(
            f"{problem}: central client-level privacy adds up clipped updates of a Poisson sample, "
            "all of the same weight",
            where=f"[strategy] {key}",
            fix=f'Drop `{key}`, or noise the updates at the clients: [privacy] mode = "local".',
        )

    def without_privacy(self) -> compose:
        """The same strategy without clip and noise, to compare with."""
        plain = copy(self)
        if self.privacy is not None:
            plain.privacy, plain.clip_bound = self.privacy.without_noise(), math.inf
        return plain

    @property
    def noises_empty_rounds(self) -> bool:
        """Whether a round in which nobody answered is aggregated, too."""
        return self.privacy is not None

    def sampled(self, server_round: int, nodes: Sequence[int]) -> list[int]:
        """The nodes that train in a round, in order; at least one, unless by Poisson sampling."""
        if self.sampling == "poisson":
            keys = stream_keys(self.seed, nodes, server_round, "poisson sample")
            asked = uniforms(keys, 1)[:, 0] < self.sample
            return [nodes[i] for i in asked.nonzero()[0].tolist()]
        number = max(1, round(self.sample * len(nodes)))
        if number >= len(nodes):
            return list(nodes)
        draw = stream(self.seed, SERVER, server_round, "sample")
        return [nodes[i] for i in sorted(draw.choice(len(nodes), number, replace=False).tolist())]

    def aggregate(
        self, delta: Float[Tensor, "K d"], reports: Mapping[str, Tensor]
    ) -> Float[Tensor, " d"]:
        """Transform, weigh, combine: the step of the global model before the learning rate and noise."""
        if self.privacy is not None:
            return self.privacy.mean(delta, bound=self.clip_bound, num_clients=self.num_clients)
        for transform in self.before:
            part = f"the transform {_name(transform)}"
            delta = returned(transform(delta), delta, part=part, key="before", shape="[K, d]")
        weights = {}
        if self.takes_weights:
            part = f"the weighting {_name(self.weigh)}"
            weights["weights"] = weights_returned(self.weigh(reports), delta[:, 0], part=part)
        combined = self.combine(delta, **weights)
        part = f"the aggregator {_name(self.combine)}"
        return returned(combined, delta[0], part=part, key="combine", shape="[d]")

    def rate_in(self, server_round: int) -> float:
        """The server's learning rate in a round; with an optimiser, the factor of its step."""
        schedule = self.schedule
        rounds = {"rounds": self.num_rounds} if _asks_for(schedule, "rounds") else {}
        return self.learning_rate * schedule(server_round, **rounds)

    def aggregate_kept(
        self, delta: Float[Tensor, "K d"], reports: Mapping[str, Tensor], keep: Bool[Tensor, " K"]
    ) -> Float[Tensor, " d"]:
        """The aggregate of some of the clients: what it would be without the others."""
        return self.aggregate(delta[keep], {name: value[keep] for name, value in reports.items()})

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.global_model = vector_of(arrays)
        self.layout, everybody = layout_of(arrays), _in_order(grid)
        self.num_clients, nodes = len(everybody), self.sampled(server_round, everybody)
        return Instructions(nodes, "train", arrays, {**config, "server-round": server_round})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        gathered = Replies.read(replies).successes()
        if self.global_model is None:
            return None, None
        if self.privacy is not None:
            return self._released(server_round, gathered, self.privacy)
        if not gathered.nodes:
            return None, None
        delta = gathered.block() - self.global_model
        combined = self.aggregate(delta, reports_of(gathered))
        arrays = arrays_of(self._moved(server_round, combined), gathered.layout)
        return arrays, _averages(gathered)

    def _moved(self, server_round: int, step: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """The global model after a step, which may be noised already."""
        assert self.global_model is not None
        if self.optimiser is not None:
            made = self.optimiser(step, memory=self.memory, round=server_round)
            part = f"the optimiser {_name(self.optimiser)}"
            if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[1], Mapping):
                raise RunFailed(
                    f"{part} returned {type(made).__name__}",
                    where="[strategy] optimiser",
                    fix="It must return two: the move [d], and its memory for the next round.",
                )
            step = returned(made[0], step, part=part, key="optimiser", shape="[d]")
            self.memory = made[1]
        return self.global_model + self.rate_in(server_round) * step

    def _released(
        self, server_round: int, gathered: Replies, privacy: CentralPrivacy
    ) -> tuple[ArrayRecord, MetricRecord]:
        """The noised step of a round, also of one without clients; no other number leaves it."""
        start, bound = self.global_model, self.clip_bound
        assert start is not None
        delta = gathered.block() - start if gathered.nodes else start.new_zeros(0, len(start))
        step, self.clip_bound, clipped = privacy.release(
            delta, bound=bound, num_clients=self.num_clients, round=server_round
        )
        record = MetricRecord()
        if not math.isnan(clipped):
            record = MetricRecord({"clip_bound": bound, "clipped_share": clipped})
        return arrays_of(self._moved(server_round, step), self.layout), record

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        nodes = _in_order(grid)
        return Instructions(nodes, "evaluate", arrays, {**config, "server-round": server_round})

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        gathered = Replies.read(replies).successes()
        return _averages(gathered) if gathered.nodes else None

    def summary(self) -> None:
        """Flower's `start` wants this; `fedmodel validate` tells more."""

    def state(self) -> dict[str, Any]:
        """What is remembered from round to round: the clipping bound and the optimiser's memory."""
        bound = {} if self.privacy is None else {"clip_bound": self.clip_bound}
        return bound if self.optimiser is None else {**bound, "memory": dict(self.memory)}


def reports_of(replies: Replies) -> dict[str, Tensor]:
    """What clients report beside their model, one number a client: what weights may depend on."""
    renamed = {"num-examples": "num_records", "train_loss": "loss"}
    return {
        renamed.get(name, name): torch.tensor(values) for name, values in replies.metrics.items()
    }


def _in_order(grid: Grid) -> Sequence[int]:
    nodes = grid.get_node_ids()
    return nodes if isinstance(nodes, Sequence) else list(nodes)


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
