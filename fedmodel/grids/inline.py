"""The round as one cohort in this process, on all its cores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmodel._flower import identify
from fedmodel.cohort.machine import available_cores, keep_freed_memory
from fedmodel.errors import plugin_fault
from fedmodel.grids.local import FIRST_NODE, AnswersCohorts, LocalGrid, context_of
from fedmodel.messages import FAILED, Replies, requests

__all__ = ["InlineGrid", "answer_one"]


class InlineGrid(LocalGrid):
    """Clients execute here: one that answers cohorts all at once, any other ClientApp one message after the other.

    A cohort trains on `threads` threads; the default is one for each core that this process may use.
    """

    def __init__(self, app: ClientApp, *, num_clients: int, threads: int | None = None) -> None:
        super().__init__(num_clients)
        identify()
        keep_freed_memory()
        self.app, self.threads = app, threads or available_cores()
        # Outside of training there is little to compute, and torch's own threads, once they have
        # worked, wait in a busy loop for more: on the cores that our threads train on.
        self._torch_threads = torch.get_num_threads()
        if isinstance(app, AnswersCohorts):
            torch.set_num_threads(1)

    def close(self) -> None:
        torch.set_num_threads(self._torch_threads)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        identify()
        if isinstance(self.app, AnswersCohorts):
            parts = [
                self.app.answer(
                    request,
                    [n - FIRST_NODE for n in request.nodes],
                    self.states,
                    threads=self.threads,
                )
                for request in requests(messages)
            ]
            return Replies.merge(parts) if parts else []
        asked = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        replies = []
        for message in asked:
            node = message.metadata.dst_node_id
            before = self.states.get(node, RecordDict())
            reply, state = answer_one(self.app, message, before, num_clients=len(self.nodes))
            if state or before:
                self.states[node] = state
            replies.append(reply)
        return replies


def answer_one(
    app: ClientApp, message: Message, state: RecordDict, *, num_clients: int
) -> tuple[Message, RecordDict]:
    """One message through any ClientApp: the reply, and the client's state afterwards.

    As in Flower, an exception becomes an error reply and leaves the state as it was.
    """
    node = message.metadata.dst_node_id
    context = context_of(node, num_clients=num_clients, state=deepcopy(state))
    # Strategies put one record into all messages: what a client does to its own must not show.
    own = Message(_shell(message.content), node, message.metadata.message_type)
    try:
        return app(own, context), context.state
    except Exception as error:
        return Message(Error(code=FAILED, reason=plugin_fault(error)), reply_to=own), state


def _shell(content: RecordDict) -> RecordDict:
    copied = RecordDict()
    for name, record in content.items():
        copied[name] = (
            ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record.copy()
        )
    return copied
