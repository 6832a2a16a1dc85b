"""What the components of each kind must keep to, tried on small data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedmodel.catalogue import Component
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.data.records import Assignment, Records
from fedmodel.messages import Instructions, Replies
from fedmodel.types import Card, FederatedData

__all__ = ["RULES", "Broken", "sample_data", "sample_updates"]

K, D = 7, 5


class Broken(Exception):  # noqa: N818 - a verdict, not an error
    """A rule is not kept."""


def _require(kept: bool, detail: str) -> None:
    if not kept:
        raise Broken(detail)


def _close(found: Tensor, expected: Tensor, detail: str) -> None:
    _require(
        found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5),
        f"{detail}: got {found.flatten()[:4].tolist()}, expected {expected.flatten()[:4].tolist()}",
    )


def sample_updates(seed: int = 0) -> Tensor:
    """Updates `[K, d]` of seven clients, normal numbers."""
    return torch.randn(K, D, generator=torch.Generator().manual_seed(seed))


def _combine(component: Component, delta: Tensor, weights: Tensor | None = None) -> Tensor:
    return component(delta, weights=torch.ones(len(delta)) if weights is None else weights)


# Aggregators


def _aggregator_shape(component: Component) -> None:
    """it makes one update [d] of many [K, d], finite, and of their dtype"""
    result = _combine(component, sample_updates())
    _require(isinstance(result, Tensor), f"it returned {type(result).__name__}")
    _require(tuple(result.shape) == (D,), f"it returned shape {tuple(result.shape)}, not ({D},)")
    _require(result.dtype == torch.float32, f"it turned float32 into {result.dtype}")
    _require(bool(torch.isfinite(result).all()), "it returned NaN or infinity")
    double = _combine(component, sample_updates().double(), torch.ones(K, dtype=torch.float64))
    _require(double.dtype == torch.float64, f"it turned float64 into {double.dtype}")


def _aggregator_agrees(component: Component) -> None:
    """it returns what all clients agree on"""
    same = torch.linspace(-1, 2, D).repeat(K, 1)
    _close(_combine(component, same), same[0], "with equal updates")


def _aggregator_order(component: Component) -> None:
    """the order of the clients makes no difference"""
    delta, order = sample_updates(), torch.arange(K).flip(0)
    weights = torch.arange(1.0, K + 1)
    _close(
        _combine(component, delta[order], weights[order]),
        _combine(component, delta, weights),
        "with the clients in another order",
    )


def _aggregator_one(component: Component) -> None:
    """one client alone gets its own update"""
    _close(_combine(component, sample_updates()[:1]), sample_updates()[0], "with one client")


def _aggregator_scale(component: Component) -> None:
    """updates twice as long give an aggregate twice as long"""
    _close(
        _combine(component, 2 * sample_updates()),
        2 * _combine(component, sample_updates()),
        "doubled",
    )


def _repeats(component: Component) -> None:
    """the same input gives the same output, and the input stays as it was"""
    delta = sample_updates()
    first = _combine(component, delta)
    _require(torch.equal(delta, sample_updates()), "it changed the updates in place")
    _require(torch.equal(first, _combine(component, sample_updates())), "two calls differ")


# Transforms


def _transform_shape(component: Component) -> None:
    """it makes updates [K, d] of updates [K, d], finite, also of zeros"""
    for delta in (sample_updates(), torch.zeros(K, D)):
        result = component(delta)
        _require(tuple(result.shape) == (K, D), f"it returned shape {tuple(result.shape)}")
        _require(bool(torch.isfinite(result).all()), "it returned NaN or infinity")


# Weightings


def _weighting_shape(component: Component) -> None:
    """it gives each client one weight, none negative, not all zero"""
    reports = {"num_records": torch.arange(1, K + 1), "loss": torch.rand(K)}
    weights = component(reports)
    _require(tuple(weights.shape) == (K,), f"it returned shape {tuple(weights.shape)}, not ({K},)")
    _require(bool((weights >= 0).all() and weights.sum() > 0), f"weights {weights.tolist()}")


# Server optimisers


def _optimiser_moves(component: Component) -> None:
    """it moves [d] by [d], finite, and leaves what it is given as it was"""
    memory: dict[str, Tensor] = {}
    for number, step in enumerate(sample_updates(), 1):
        given, kept = step.clone(), {name: value.clone() for name, value in memory.items()}
        move, after = component(given, memory=memory, round=number)
        _require(tuple(move.shape) == (D,), f"it returned shape {tuple(move.shape)}, not ({D},)")
        _require(bool(torch.isfinite(move).all()), "it returned NaN or infinity")
        unchanged = all(torch.equal(memory[name], value) for name, value in kept.items())
        _require(torch.equal(given, step) and unchanged, "it changed what it was given in place")
        memory = after
    still, _ = component(torch.zeros(D), memory={}, round=1)
    _close(still, torch.zeros(D), "after a first step of zero")


# Schedules


def _schedule_factors(component: Component) -> None:
    """it gives every round a factor above 0, and the same one when it is asked again"""
    factors = [float(component(number, rounds=20)) for number in range(1, 21)]
    _require(all(0 < factor < math.inf for factor in factors), f"its factors are {factors}")
    again = [float(component(number, rounds=20)) for number in range(1, 21)]
    _require(factors == again, "two calls with one round differ")


# Attacks


def _attack_shape(component: Component) -> None:
    """it returns as much as it was given, finite, and leaves the input as it was"""
    if component.asks_for("labels"):
        labels = torch.arange(12) % 3
        changed = component(labels, num_classes=3, generator=np.random.default_rng(0))
        _require(changed.shape == labels.shape, f"it returned shape {tuple(changed.shape)}")
        _require(bool(((changed >= 0) & (changed < 3)).all()), "it made labels that do not exist")
        _require(torch.equal(labels, torch.arange(12) % 3), "it changed the labels in place")
        return
    own = sample_updates()[:2]
    sent = component(own, honest=sample_updates(1), generator=np.random.default_rng(0))
    _require(sent.shape == own.shape, f"it returned shape {tuple(sent.shape)}")
    _require(bool(torch.isfinite(sent).all()), "it returned NaN or infinity")
    _require(torch.equal(own, sample_updates()[:2]), "it changed the updates in place")


# Metrics


def _metric_number(component: Component) -> None:
    """it makes one number of counts [G, true, predicted], also where groups are empty"""
    counts = torch.tensor([[[8, 2], [3, 7]], [[5, 5], [1, 9]]])
    value = float(component(counts))
    _require(math.isfinite(value), f"it returned {value}")
    float(component(torch.stack([counts[0], torch.zeros(2, 2, dtype=torch.int64)])))


# Models


def sample_data(*, tokens: bool = False) -> FederatedData:
    """A small federation of four clients of different size, tables or token ids."""
    draw = torch.Generator().manual_seed(3)
    sizes = [6, 11, 3, 8]
    number = sum(sizes)
    ends = np.cumsum(sizes)
    bounds = [[end - size, end - 1, end - 1, end] for end, size in zip(ends, sizes)]
    x = (
        torch.randint(0, 50, (number, 6), generator=draw)
        if tokens
        else torch.randn(number, 4, generator=draw)
    )
    return FederatedData(
        x=x,
        y=torch.randint(0, 2, (number,), generator=draw),
        group=torch.randint(0, 2, (number, 1), generator=draw),
        bounds=torch.tensor(bounds),
        clients=("a", "b", "c", "d"),
        classes=("no", "yes"),
        attributes={"sex": ("f", "m")},
        features=() if tokens else tuple("wxyz"),
        card=Card(name="sample", title="Random numbers", source="drawn", licence="none"),
        vocabulary=50 if tokens else 0,
    )


def _flat(component: Component) -> tuple[FlatModel, FederatedData]:
    tokens = component.asks_for("vocabulary")
    data = sample_data(tokens=tokens)
    torch.manual_seed(0)
    module = component(num_features=4, num_classes=2, vocabulary=50)
    return FlatModel(module), data


def _model_answers(component: Component) -> None:
    """it answers each record with one logit a class, whatever the other records are"""
    model, data = _flat(component)
    answer = model.predict(model.initial, data.x)
    _require(tuple(answer.shape) == (len(data.y), 2), f"it answered shape {tuple(answer.shape)}")
    alone = torch.cat([model.predict(model.initial, data.x[i : i + 1]) for i in range(5)])
    _close(alone, answer[:5], "record by record")


def _model_trains(component: Component) -> None:
    """it trains in a cohort, privately, and as each client alone would"""
    from fedmodel.clients.dp_sgd import dp_sgd

    model, data = _flat(component)
    _alone_equals_together(dp_sgd(learning_rate=0.1, batch_size=4), model, data)


# Clients


def _client_alone(component: Component) -> None:
    """one client alone trains as the same client in a cohort"""
    torch.manual_seed(0)
    _alone_equals_together(component(), FlatModel(nn.Linear(4, 2)), sample_data())


def _alone_equals_together(behaviour: Any, model: FlatModel, data: FederatedData) -> None:
    size = int(getattr(behaviour, "batch_size", 4))
    sizes = data.sizes("train").numpy()
    private = bool(getattr(behaviour, "private", False))
    training = LocalTraining(
        batch_size=size,
        num_steps=2 * -(-sizes // size),
        private=private,
        clip=1.0 if private else math.inf,
        noise_multiplier=np.full(len(sizes), 0.8) if private else None,
    )

    def train(clients: list[int]) -> Tensor:
        cohort = Cohort(np.array(clients), data, model, training, seed=5, round=2)
        delta = behaviour.train(cohort, model.initial)
        _require(
            tuple(delta.shape) == (len(clients), model.size),
            f"train returned {tuple(delta.shape)}, not {(len(clients), model.size)}",
        )
        if private:
            taken, noised = cohort.poisson_steps, cohort.noise_steps
            _require(
                bool((taken == noised).all() and noised.all()),
                f"it drew {taken.tolist()} Poisson batches and {noised.tolist()} times noise",
            )
        return delta

    together = train([0, 1, 2, 3])
    for client in range(4):
        _close(train([client])[0], together[client], f"client {client} alone")
    _require(bool((together != 0).any()), "nothing was trained")


# Data sets and partitioners


def _dataset_records(component: Component) -> None:
    """it returns records with labels of two classes or more, and says where they come from"""
    records = component()
    _require(isinstance(records, Records), f"it returned {type(records).__name__}, not Records")
    _require(len(records.classes) >= 2, "there are fewer than two classes")
    for name in ("title", "source", "licence"):
        _require(bool(getattr(records.card, name)), f"its card has no {name}")


def _partitioner_covers(component: Component) -> None:
    """it gives every record to one client, and the same with the same seed"""
    from fedmodel.data.medical import heart_disease

    records = heart_disease()
    first, again = component(records, seed=1), component(records, seed=1)
    _require(isinstance(first, Assignment), f"it returned {type(first).__name__}")
    _require(len(first.client) == len(records), "it does not cover all records")
    held = set(np.unique(first.client).tolist())
    _require(held == set(range(len(first.names))), "a client has no record, or no name")
    _require(bool((first.client == again.client).all()), "two calls with one seed differ")


# Strategies


def _strategy_round(component: Component) -> None:
    """it takes a round through Flower's interface and returns a model of the same shape"""
    from flwr.app import ConfigRecord

    from fedmodel._flower import Layout, arrays_of, identify, vector_of
    from fedmodel.grids.local import FIRST_NODE, LocalGrid

    class Quiet(LocalGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Any]:
            return []

    identify()
    strategy, layout = component(seed=0), Layout(("w",), ((D,),))
    start = torch.zeros(D)
    grid = Quiet(K)
    asked = strategy.configure_train(1, arrays_of(start, layout), ConfigRecord(), grid)
    nodes = (
        asked.nodes if isinstance(asked, Instructions) else [m.metadata.dst_node_id for m in asked]
    )
    _require(len(nodes) > 0, "it asks nobody to train")
    rows = [node - FIRST_NODE for node in nodes]
    replies = Replies(
        list(nodes),
        "train",
        layout,
        sample_updates()[rows],
        {"num-examples": np.arange(1, len(rows) + 1)},
    )
    arrays, _ = strategy.aggregate_train(1, replies)
    _require(arrays is not None, "it returned no model")
    _require(vector_of(arrays).shape == (D,), "it returned a model of another shape")


# Audits


def _audit_signature(component: Component) -> None:
    """it takes an experiment, and runs without options"""
    parameters = list(inspect.signature(component.function).parameters.values())
    _require(
        bool(parameters) and parameters[0].name == "experiment",
        "its first parameter is not `experiment`",
    )
    needed = [p.name for p in parameters[1:] if p.default is p.empty]
    _require(not needed, f"no default for {', '.join(needed)}")


RULES: dict[str, tuple[Callable[[Component], None], ...]] = {
    "aggregator": (
        _aggregator_shape,
        _aggregator_agrees,
        _aggregator_order,
        _aggregator_one,
        _aggregator_scale,
        _repeats,
    ),
    "transform": (_transform_shape, _repeats),
    "weighting": (_weighting_shape,),
    "optimiser": (_optimiser_moves,),
    "schedule": (_schedule_factors,),
    "attack": (_attack_shape,),
    "metric": (_metric_number,),
    "model": (_model_answers, _model_trains),
    "client": (_client_alone,),
    "dataset": (_dataset_records,),
    "partitioner": (_partitioner_covers,),
    "strategy": (_strategy_round,),
    "audit": (_audit_signature,),
}
