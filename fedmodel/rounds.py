"""The round loop: the only `for` over rounds in the project."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import Strategy
from jaxtyping import Bool, Float
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch import Tensor

from fedmodel._flower import Layout, arrays_of, layout_of, vector_of
from fedmodel.catalogue import Component
from fedmodel.errors import FedmodelError, RunFailed, plugin_fault
from fedmodel.evaluation.robustness import aggregate_share
from fedmodel.evaluation.rows import stacked
from fedmodel.evaluation.severity import severity_counts
from fedmodel.grids.local import FIRST_NODE, LocalGrid
from fedmodel.messages import Instructions, Replies
from fedmodel.randomness import SERVER, stream, stream_keys, uniforms
from fedmodel.strategies.compose import reports_of
from fedmodel.training import falsified
from fedmodel.types import Counts

__all__ = ["Federation", "Finished", "State", "counted", "rounds"]

_OWN = np.random.MT19937()  # what NumPy's global functions draw from during a round


@dataclass(frozen=True)
class State:
    """All that the next round depends on."""

    number: int
    vector: Float[Tensor, " d"]
    strategy: dict[str, Any] = field(default_factory=dict)
    # By node. As saved after a round: those it may have changed. To go on from: all there are.
    clients: Mapping[int, RecordDict] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """What happened in a round. Clients are numbers in partition order."""

    number: int
    seconds: float
    trained: Sequence[int] = ()
    declined: Mapping[int, str] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    dropped: Sequence[int] = ()
    shares: Mapping[int, float] = field(default_factory=dict)  # attackers' shares of the aggregate
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by split; empty if not evaluated
    # Of worse records, where asked for.
    severity: Mapping[str, Counts] = field(default_factory=dict)
    train_metrics: Mapping[str, Any] = field(default_factory=dict)
    evaluate_metrics: Mapping[str, Any] = field(default_factory=dict)
    no_model: bool = False  # the strategy made none of what it got: the last one stays


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Who takes part, how, and what goes wrong on purpose. K clients."""

    strategy: Strategy
    grid: LocalGrid
    layout: Layout
    seed: int
    num_rounds: int
    every: int = 1
    dropout: float = 0.0
    omniscient: Component | None = None  # an attack that needs the honest updates
    dishonest: Bool[Tensor, " K"] | None = None
    on_failure: str = "retry"
    name_of: Callable[[int], str] = str
    splits: Sequence[str] = ("test",)
    begin: Callable[[int, Sequence[int]], None] | None = None  # told the round and who is asked

    @property
    def nodes(self) -> Sequence[int]:
        return self.grid.get_node_ids()


def rounds(
    federation: Federation,
    state: State,
    *,
    save: Callable[[State, Finished], None] = lambda state, finished: None,
) -> Iterator[Finished]:
    """Yield each finished round; stop by leaving the `for`; go on from any state.

    1. The strategy says who trains, with what (Flower messages).
    2. The grid carries the messages out; whoever dropped out, declined or failed is set aside.
    3. The dishonest replace their updates; the strategy aggregates.
    4. Every client counts how good the new model is; the counts are added up.

    Each round is saved before anybody sees it. Round 0 is the evaluation of the initial model.

    Raises:
        RunFailed: a client failed and the policy does not allow that, or the model is not finite.
    """
    federation.grid.restore_states(state.clients)
    restore_strategy(federation.strategy, state.strategy)
    if state.number == 0:
        begun = time.perf_counter()
        evaluated = _evaluate(federation, 0, state.vector)
        finished = Finished(0, time.perf_counter() - begun, **evaluated)
        save(state, finished)
        yield finished
    while state.number < federation.num_rounds:
        begun = time.perf_counter()
        number = state.number + 1
        with _seeded(federation.seed, number):
            vector, finished = _train(federation, number, state.vector)
            if number % federation.every == 0 or number == federation.num_rounds:
                finished = replace(finished, **_evaluate(federation, number, vector))
        touched = [client + FIRST_NODE for client in (*finished.trained, *finished.failed)]
        changed = federation.grid.save_states(touched)
        state = State(number, vector, strategy_state(federation.strategy), changed)
        finished = replace(finished, seconds=time.perf_counter() - begun)
        save(state, finished)
        yield finished


def _train(
    federation: Federation, number: int, vector: Tensor
) -> tuple[Float[Tensor, " d"], Finished]:
    strategy, grid = federation.strategy, federation.grid
    arrays = arrays_of(vector, federation.layout)
    with _plain_errors(strategy, number):
        asked: Any = strategy.configure_train(number, arrays, ConfigRecord(), grid)
    left, dropped = _drop_out(federation, number, asked)
    if not grid.leave(node + FIRST_NODE for node in dropped):
        asked = left
    if federation.begin is not None:
        federation.begin(number, [node - FIRST_NODE for node in _nodes(asked)])
    replies = Replies.read(grid.send_and_receive(asked)) if len(asked) else Replies([], "train")
    replies = _settle(federation, number, asked, replies)
    good = replies.successes()
    trained = [node - FIRST_NODE for node in good.summed or good.nodes]
    shares: Mapping[int, float] = {}
    metrics: Mapping[str, Any] = {}
    no_model = False
    if good.nodes or getattr(strategy, "noises_empty_rounds", False):
        good = _attacked(federation, number, good, vector)
        if (
            federation.dishonest is not None
            and good.summed is None
            and number % federation.every == 0
        ):
            shares = _shares(federation, good, vector)
        with _plain_errors(strategy, number):
            aggregated, record = strategy.aggregate_train(number, good)
        no_model = aggregated is None
        if aggregated is not None:
            vector = _ordered(aggregated, federation.layout)
        metrics = dict(record or {})
    if not torch.isfinite(vector).all():
        raise RunFailed(
            f"the global model is not finite after round {number}",
            where="[strategy]",
            fix="Choose a smaller learning rate (client's or server's), or a robust aggregator.",
        )
    finished = Finished(
        number,
        0.0,
        trained=trained,
        declined={node - FIRST_NODE: why for node, why in replies.declined.items()},
        failed={node - FIRST_NODE: why for node, why in replies.failures.items()},
        dropped=dropped,
        shares=shares,
        train_metrics=metrics,
        no_model=no_model,
    )
    return vector, finished


def _drop_out(
    federation: Federation, number: int, asked: Iterable[Message]
) -> tuple[Any, Sequence[int]]:
    """Lose a share of the sampled clients (rounded), chosen by each client's own stream.

    After Poisson sampling each is lost independently: who is there changes nothing for the others.
    """
    messages = asked if isinstance(asked, Instructions) else list(asked)
    if not federation.dropout or not len(messages):
        return messages, ()
    nodes = _nodes(messages)
    clients = np.array(nodes) - FIRST_NODE
    draw = uniforms(stream_keys(federation.seed, clients, number, "client dropout"), 1)[:, 0]
    if getattr(federation.strategy, "sampling", "fixed") == "poisson":
        lost = np.flatnonzero(draw < federation.dropout)
    else:
        number_lost = min(round(federation.dropout * len(nodes)), len(nodes) - 1)
        lost = np.argsort(draw, kind="stable")[:number_lost]
    gone = set(np.array(nodes)[lost].tolist())
    dropped = sorted(node - FIRST_NODE for node in gone)
    if isinstance(messages, Instructions):
        return messages.only(node for node in messages.nodes if node not in gone), dropped
    return [m for m in messages if m.metadata.dst_node_id not in gone], dropped


def _nodes(messages: Any) -> Sequence[int]:
    """Whom the messages go to."""
    if isinstance(messages, Instructions):
        return messages.nodes
    return [message.metadata.dst_node_id for message in messages]


def _settle(federation: Federation, number: int, asked: Any, replies: Replies) -> Replies:
    """The failure policy: retry once, drop and report, or abort."""
    if not replies.failures:
        return replies
    if federation.on_failure == "retry":
        failed = set(replies.failures)
        again = (
            asked.only(node for node in asked.nodes if node in failed)
            if isinstance(asked, Instructions)
            else [m for m in asked if m.metadata.dst_node_id in failed]
        )
        second = Replies.read(federation.grid.send_and_receive(again))
        first = replies.successes()
        first.declined = replies.declined
        replies = Replies.merge([first, second])
    if replies.failures and (federation.on_failure != "drop" or not replies.nodes):
        node, why = next(iter(replies.failures.items()))
        number_failed = len(replies.failures)
        tried = " twice" if federation.on_failure == "retry" else ""
        raise RunFailed(
            f"{number_failed} client{'s' * (number_failed > 1)} failed{tried} in round {number}",
            where=f"client {federation.name_of(node - FIRST_NODE)}: {why}",
            fix='Mend the cause and resume; engine.on_failure = "drop" goes on without them.',
        )
    return replies


def _attacked(federation: Federation, number: int, replies: Replies, start: Tensor) -> Replies:
    """An omniscient attack sees the honest updates of the round and replaces the liars' own."""
    if federation.omniscient is None or federation.dishonest is None:
        return replies
    liars = federation.dishonest[[node - FIRST_NODE for node in replies.nodes]]
    if not liars.any():
        return replies
    delta = replies.block() - start
    delta[liars] = falsified(
        federation.omniscient, delta[liars], round=number, honest=delta[~liars]
    )
    return replies.with_models(start + delta)


def _shares(federation: Federation, replies: Replies, vector: Tensor) -> Mapping[int, float]:
    """Each attacker's share of the aggregate, where the strategy can say what it is without one."""
    aggregate = getattr(federation.strategy, "aggregate_kept", None)
    assert federation.dishonest is not None
    clients = [node - FIRST_NODE for node in replies.nodes]
    liars = federation.dishonest[clients]
    if aggregate is None or not liars.any():
        return {}
    delta, reports = replies.block() - vector, reports_of(replies)
    shares = aggregate_share(lambda keep: aggregate(delta, reports, keep), liars)
    attackers = [client for client, liar in zip(clients, liars.tolist()) if liar]
    return dict(zip(attackers, shares.tolist()))


def _evaluate(federation: Federation, number: int, vector: Tensor) -> dict[str, Any]:
    """Counts of every client; the strategy sees the replies of those that it chose.

    As the fields of `Finished`: counts, severity and evaluate_metrics.
    """
    strategy, grid = federation.strategy, federation.grid
    arrays = arrays_of(vector, federation.layout)
    chosen: list[int] = []
    if number > 0:
        with _plain_errors(strategy, number):
            picked = strategy.configure_evaluate(number, arrays, ConfigRecord(), grid)
        chosen = list(_nodes(picked))
    replies, counts = counted(federation, number, vector)
    severity = severity_counts(replies.records)
    metrics: Mapping[str, Any] = {}
    if chosen:
        wanted = [i for i, node in enumerate(replies.nodes) if node in set(chosen)]
        seen = Replies(
            [replies.nodes[i] for i in wanted],
            "evaluate",
            metrics={name: values[wanted] for name, values in replies.metrics.items()},
        )
        if len(wanted) and seen.metrics["num-examples"].sum() > 0:
            with _plain_errors(strategy, number):
                metrics = dict(strategy.aggregate_evaluate(number, seen) or {})
    return {"counts": counts, "severity": severity, "evaluate_metrics": metrics}


def counted(
    federation: Federation, number: int, vector: Float[Tensor, " d"], **settings: float
) -> tuple[Replies, Mapping[str, Counts]]:
    """What every client answers to an evaluation, and their counts by split; with `settings` of it."""
    arrays, grid = arrays_of(vector, federation.layout), federation.grid
    config = {"server-round": number, **settings}
    asked = Instructions(federation.nodes, "evaluate", arrays, config)
    replies = Replies.read(grid.send_and_receive(asked))
    if replies.failures:
        node, why = next(iter(replies.failures.items()))
        raise RunFailed(
            f"evaluation failed after round {number}",
            where=f"client {federation.name_of(node - FIRST_NODE)}: {why}",
            fix="Mend the cause and resume.",
        )
    return replies, {s: stacked(replies.records[f"counts.{s}"]) for s in federation.splits}


def _ordered(arrays: ArrayRecord, layout: Layout) -> Float[Tensor, " d"]:
    """The vector of an aggregate, whatever order the strategy put its arrays in."""
    vector = vector_of(arrays)
    if len(vector) == layout.size and layout_of(arrays).names != layout.names:
        parts = [torch.as_tensor(arrays[name].numpy()).flatten().float() for name in layout.names]
        return torch.cat(parts)
    if len(vector) != layout.size:
        raise RunFailed(
            f"the strategy returned {len(vector)} parameters, the model has {layout.size}",
            where="[strategy]",
            fix="Return arrays of the same names and shapes as were handed in.",
        )
    return vector


def strategy_state(strategy: Strategy) -> dict[str, Any]:
    """What a strategy remembers: its own `state()`, or, as best effort, its attributes."""
    if hasattr(strategy, "state"):
        return strategy.state()
    return {k: v for k, v in vars(strategy).items() if not callable(v)}


def restore_strategy(strategy: Strategy, state: Mapping[str, Any]) -> None:
    """Put back what `strategy_state` gave."""
    vars(strategy).update(state)


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    """Strategies that draw from the process's global streams draw the same in every run."""
    draw = stream(seed, SERVER, number, "strategy")
    # NumPy's state takes longer to copy than a small client to train, so the generator is changed.
    python, numpy = random.getstate(), get_bit_generator()
    random.seed(int(draw.integers(2**63)))
    set_bit_generator(_OWN)
    np.random.seed(int(draw.integers(2**32)))
    try:
        yield
    finally:
        random.setstate(python)
        set_bit_generator(numpy)


@contextmanager
def _plain_errors(strategy: Strategy, number: int) -> Iterator[None]:
    """An exception inside a strategy, with the strategy's name and the round."""
    try:
        yield
    except FedmodelError:
        raise
    except Exception as error:
        raise RunFailed(
            f"the strategy {type(strategy).__name__} failed in round {number}",
            where=plugin_fault(error),
            fix="Mend the strategy and resume.",
        ) from error
