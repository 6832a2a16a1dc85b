"""What grids of one machine share: nodes in partition order, client states, Flower's Grid interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Protocol, runtime_checkable

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid

from fedmodel._flower import Run, identify
from fedmodel.grids.states import ClientStates
from fedmodel.messages import Replies, Request

__all__ = ["FIRST_NODE", "SUM", "AnswersCohorts", "LocalGrid", "context_of"]

# Flower keeps 0 and 1 for itself.
FIRST_NODE = 2
SUM = 1  # where one reply for many clients comes from


@runtime_checkable
class AnswersCohorts(Protocol):
    """A ClientApp that can be asked for all clients at once, and updates their states in place.

    `states` are by node; a client's that is not there yet is empty, and made when it is asked for.
    """

    def answer(
        self,
        request: Request,
        partitions: Sequence[int],
        states: Mapping[int, RecordDict],
        *,
        threads: int = 1,
    ) -> Replies: ...


class LocalGrid(Grid):
    """A grid whose node k + FIRST_NODE is the client of partition k, and which keeps clients' states.

    Hardly anything but states takes memory: `nodes` is a range, `states` makes what is asked for.
    """

    def __init__(self, num_clients: int) -> None:
        self.nodes = range(FIRST_NODE, FIRST_NODE + num_clients)
        self.states = ClientStates(self.nodes)
        self._run = Run.create_empty(run_id=1)
        self._replies: dict[str, Message] = {}
        self._numbers = count()

    @abstractmethod
    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Carry messages out and return the replies, in the order of the nodes.

        `timeout` is Flower's; work on this machine is waited for.
        """

    def save_states(self, nodes: Iterable[int] | None = None) -> dict[int, RecordDict]:
        """The states of clients, to be restored in another process; none of who never had one."""
        asked = list(self.states if nodes is None else nodes)
        saved = {node: self.states[node] for node in asked if node in self.states}
        self.states.pack(saved)
        return saved

    def restore_states(self, states: Mapping[int, RecordDict]) -> None:
        """Put saved states back."""
        self.states.update(states)

    def leave(self, nodes: Iterable[int]) -> bool:
        """Let these nodes leave in the middle of the next round; False where it has no middle."""
        return False

    def close(self) -> None:
        """Let go of processes and files."""

    def get_node_ids(self) -> Sequence[int]:
        return self.nodes

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        identify()
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys = []
        for reply in self.send_and_receive(list(messages)):
            keys.append(f"message-{next(self._numbers)}")
            self._replies[keys[-1]] = reply
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._replies.pop(key) for key in message_ids if key in self._replies]


def context_of(node: int, *, num_clients: int, state: RecordDict) -> Context:
    """The context that a ClientApp sees on this node."""
    return Context(
        run_id=1,
        node_id=node,
        node_config={"partition-id": node - FIRST_NODE, "num-partitions": num_clients},
        state=state,
        run_config={},
    )
