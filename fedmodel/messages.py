"""A round's instructions and replies: Flower messages for whoever iterates, one block for who asks.

Making a message a client costs more than training a small model. So a sequence holds the parameters
of all clients as ``[K, d]`` and makes ordinary `flwr.app.Message` objects only when somebody looks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from jaxtyping import Float
from torch import Tensor

from fedmodel._flower import Layout, arrays_of, layout_of, vector_of
from fedmodel.errors import RunFailed

__all__ = ["DECLINED", "FAILED", "Instructions", "Replies", "Request", "requests"]

# Flower's own codes are below 100: 2 says that the client raised an exception.
NOTHING = Layout((), ())
FAILED = 2
DECLINED = 100
OWN = "own"  # the record of a message that is for its node alone


class _Messages(Sequence[Message]):
    """Messages made on demand, each once."""

    def __init__(self) -> None:
        self._made: dict[int, Message] = {}

    @abstractmethod
    def _make(self, index: int) -> Message:
        """The message at a place of the sequence."""

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index not in self._made:
            self._made[index] = self._make(index)
        return self._made[index]

    def __iter__(self) -> Iterator[Message]:
        return (self[index] for index in range(len(self)))


class Instructions(_Messages):
    """The same parameters and settings for many nodes; a shell of its own for each message.

    `own` is what each node is told alone, by node: a record of its own in the message.
    """

    def __init__(
        self,
        nodes: Sequence[int],
        message_type: str,
        arrays: ArrayRecord,
        config: Mapping[str, Any],
        own: Mapping[int, ConfigRecord] | None = None,
    ) -> None:
        super().__init__()
        self.nodes, self.message_type, self.arrays = list(nodes), message_type, arrays
        self.config, self.own = dict(config), dict(own or {})

    def __len__(self) -> int:
        return len(self.nodes)

    def _make(self, index: int) -> Message:
        content = RecordDict({"arrays": self.arrays, "config": ConfigRecord(dict(self.config))})
        if self.nodes[index] in self.own:
            content[OWN] = self.own[self.nodes[index]]
        return Message(content, self.nodes[index], self.message_type)

    def only(self, nodes: Iterable[int]) -> Instructions:
        """The same instructions for some of the nodes."""
        return Instructions(list(nodes), self.message_type, self.arrays, self.config, self.own)


@dataclass(frozen=True)
class Request:
    """What some nodes are asked, all of them the same, but for what each is told alone."""

    nodes: tuple[int, ...]
    message_type: str
    vector: Float[Tensor, " d"]
    layout: Layout
    config: Mapping[str, Any]
    own: Mapping[int, ConfigRecord] = field(default_factory=dict)  # what a node is told alone

    def only(self, nodes: Sequence[int]) -> Request:
        """The same request to some of the nodes."""
        own = {node: self.own[node] for node in nodes if node in self.own}
        return replace(self, nodes=tuple(nodes), own=own)


def requests(messages: Iterable[Message]) -> list[Request]:
    """Messages grouped by what they ask: nodes that get the same record and settings are one request."""
    if isinstance(messages, Instructions):
        arrays = messages.arrays
        return [
            Request(
                tuple(messages.nodes),
                messages.message_type,
                vector_of(arrays),
                layout_of(arrays),
                messages.config,
                messages.own,
            )
        ]
    groups: dict[tuple[Any, ...], tuple[list[int], str, ArrayRecord | None, dict[str, Any]]] = {}
    own: dict[int, ConfigRecord] = {}
    for message in messages:
        content = message.content
        arrays_or_none = next(iter(content.array_records.values()), None)
        config: dict[str, Any] = {}
        for name, record in content.config_records.items():
            if name == OWN:
                own[message.metadata.dst_node_id] = record
            else:
                config.update(record)
        key = (message.metadata.message_type, id(arrays_or_none), repr(sorted(config.items())))
        groups.setdefault(key, ([], message.metadata.message_type, arrays_or_none, config))[
            0
        ].append(message.metadata.dst_node_id)
    return [
        Request(
            tuple(nodes),
            message_type,
            torch.zeros(0) if record is None else vector_of(record),
            NOTHING if record is None else layout_of(record),
            config,
            {node: own[node] for node in nodes if node in own},
        )
        for nodes, message_type, record, config in groups.values()
    ]


@dataclass
class Replies(_Messages):
    """What clients answered: K successes as one block, then failures and refusals as error messages.

    `metrics` are numbers by name, one a success (they travel as one MetricRecord); `records` are
    further records by name, one a success. After secure aggregation there is one success, which
    answers for the nodes in `summed`.
    """

    nodes: list[int]
    message_type: str
    layout: Layout = NOTHING
    models: Float[Tensor, "K d"] | None = None
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    records: dict[str, Sequence[Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    declined: dict[int, str] = field(default_factory=dict)
    summed: list[int] | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def __len__(self) -> int:
        return len(self.nodes) + len(self.failures) + len(self.declined)

    def answer(self, index: int) -> RecordDict | Error:
        """What one client answered: the content of its message, or the error."""
        if index >= len(self.nodes):
            errors = [Error(code=FAILED, reason=why) for why in self.failures.values()]
            errors += [Error(code=DECLINED, reason=why) for why in self.declined.values()]
            return errors[index - len(self.nodes)]
        content = RecordDict()
        if self.models is not None:
            content["arrays"] = arrays_of(self.models[index], self.layout)
        numbers = {name: values[index].item() for name, values in self.metrics.items()}
        content["metrics"] = MetricRecord(numbers)
        for name, values in self.records.items():
            content[name] = values[index]
        return content

    def _make(self, index: int) -> Message:
        nodes = [*self.nodes, *self.failures, *self.declined]
        asked = Message(RecordDict(), nodes[index], self.message_type)
        return Message(self.answer(index), reply_to=asked)

    def block(self) -> Float[Tensor, "K d"]:
        """The parameters of all successes; a row that somebody changed in its message, as changed."""
        assert self.models is not None, "these replies carry no parameters"
        for index, message in self._made.items():
            if index < len(self.nodes):
                record = next(iter(message.content.array_records.values()))
                changed = vector_of(record)
                if changed.data_ptr() != self.models[index].data_ptr():
                    self.models[index] = changed
        return self.models

    def with_models(self, models: Float[Tensor, "K d"]) -> Replies:
        """The same replies with other parameters: what the server would see from liars."""
        return self._kept(models)

    def successes(self) -> Replies:
        """Only the replies that carry an answer."""
        if not self.failures and not self.declined:
            return self
        return self._kept(self.models)

    def _kept(self, models: Float[Tensor, "K d"] | None) -> Replies:
        return Replies(
            self.nodes,
            self.message_type,
            self.layout,
            models,
            self.metrics,
            self.records,
            summed=self.summed,
        )

    @staticmethod
    def merge(parts: Sequence[Replies]) -> Replies:
        """Replies of several cohorts as one, in the order of the nodes.

        Raises:
            RunFailed: the parts report different numbers.
        """
        if len(parts) == 1:
            return parts[0]
        filled = [part for part in parts if part.nodes] or list(parts[:1])
        names = {tuple(sorted(part.metrics)) for part in filled}
        if len(names) > 1:
            raise RunFailed(
                f"clients report different metrics: {sorted(names)}",
                fix="Every client must answer with the same names in its MetricRecord.",
            )
        nodes = [node for part in filled for node in part.nodes]
        order = sorted(range(len(nodes)), key=nodes.__getitem__)
        first = filled[0]
        models = None
        if first.models is not None:
            models = torch.cat([part.models for part in filled if part.models is not None])
            if order != list(range(len(nodes))):
                models = models[order]
        return Replies(
            [nodes[i] for i in order],
            first.message_type,
            first.layout,
            models,
            {
                name: np.concatenate([part.metrics[name] for part in filled])[order]
                for name in first.metrics
            },
            {n: _concat([part.records[n] for part in filled], order) for n in first.records},
            {n: why for part in parts for n, why in part.failures.items()},
            {n: why for part in parts for n, why in part.declined.items()},
        )

    @staticmethod
    def read(messages: Iterable[Message]) -> Replies:
        """Any grid's replies as a block, in the order of the nodes."""
        if isinstance(messages, Replies):
            return messages
        answered = sorted(messages, key=lambda message: message.metadata.src_node_id)
        good = [message for message in answered if message.has_content()]
        bad = [message for message in answered if message.has_error()]
        kind = answered[0].metadata.message_type if answered else "train"
        replies = Replies([message.metadata.src_node_id for message in good], kind)
        for message in bad:
            target = replies.declined if message.error.code == DECLINED else replies.failures
            target[message.metadata.src_node_id] = message.error.reason or "no reason given"
        if not good:
            return replies
        contents = [message.content for message in good]
        arrays = [next(iter(content.array_records.values()), None) for content in contents]
        present = [record for record in arrays if record is not None]
        if len(present) == len(arrays):
            replies.layout = layout_of(present[0])
            replies.models = torch.stack([vector_of(record) for record in present])
        numbers: list[Mapping[str, Any]] = [
            next(iter(content.metric_records.values()), {}) for content in contents
        ]
        replies.metrics = {
            name: np.array([metrics[name] for metrics in numbers])
            for name in numbers[0]
            if all(name in metrics for metrics in numbers)
        }
        replies.records = {
            name: [content[name] for content in contents] for name in contents[0].config_records
        }
        return replies


def _concat(parts: Sequence[Sequence[Any]], order: Sequence[int]) -> Sequence[Any]:
    """Rows of all parts in a new order; rows that know how to do it stay stacked."""
    if hasattr(parts[0], "concat"):
        return parts[0].concat(parts, order)
    rows = [row for part in parts for row in part]
    return [rows[index] for index in order]
