"""Flower's own Simulation Engine behind our loop: the reference for what a grid must do."""

from __future__ import annotations

import os
import pickle
import queue
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedmodel._flower import run_simulation
from fedmodel.errors import RunFailed
from fedmodel.grids.local import FIRST_NODE, LocalGrid
from fedmodel.messages import Replies

__all__ = ["FlowerGrid"]

NODES_TIMEOUT = 120.0  # seconds for Ray and all nodes to be there


class Queried(ClientApp):
    """Any ClientApp that also tells its partition, and gives its state out and takes it back.

    It travels to Flower's workers as the path of a file, which each of them reads once: Flower
    pickles the app anew for every message.
    """

    def __init__(self, app: ClientApp, file: Path) -> None:
        super().__init__()
        self.app, self.file = app, file
        if not file.exists():
            file.write_bytes(cloudpickle.dumps(app))

    def __reduce__(self) -> Any:
        return _queried, (str(self.file),)

    def __call__(self, message: Message, context: Context) -> Message:
        answer = RecordDict()
        if message.metadata.message_type == "query.partition":
            number = int(context.node_config["partition-id"])
            answer["partition"] = ConfigRecord({"id": number})
        elif message.metadata.message_type == "query.save":
            answer = RecordDict(dict(context.state))
        elif message.metadata.message_type == "query.restore":
            context.state.clear()
            context.state.update(message.content)
        else:
            return self.app(message, context)
        return Message(answer, reply_to=message)


@lru_cache(maxsize=2)
def _queried(file: str) -> Queried:
    torch.set_num_threads(1)
    return Queried(pickle.loads(Path(file).read_bytes()), Path(file))


class FlowerGrid(LocalGrid):
    """A facade of Flower's in-memory grid: nodes and replies in partition order, all nodes waited for.

    The ServerApp that Flower runs does nothing but hand its grid over and wait. Client states live
    in Flower; `query` messages save and restore them.
    """

    def __init__(
        self, app: ClientApp, *, num_clients: int, workers: int | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(num_clients)
        self._scratch = tempfile.TemporaryDirectory(prefix="fedmodel-")
        app = Queried(app, Path(self._scratch.name) / "app.pkl")
        self._handed: queue.Queue[Any] = queue.Queue()
        self._done = threading.Event()
        cores = workers or os.cpu_count() or 1
        gpus = torch.cuda.device_count() / cores if device.startswith("cuda") else 0.0
        self._thread = threading.Thread(
            target=self._simulate, args=(app, num_clients, cores, gpus), daemon=True
        )
        self._thread.start()
        try:
            self._inner = self._wait_for(NODES_TIMEOUT)
            self._real = self._order()
        except BaseException:
            self.close()
            raise

    def _simulate(self, app: ClientApp, num_clients: int, cores: int, gpus: float) -> None:
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            self._handed.put(grid)
            self._done.wait()

        try:
            run_simulation(server, app, num_clients, cores=cores, gpus=gpus)
        except BaseException as error:  # it must reach the main thread, whatever it is
            self._handed.put(error)

    def _wait_for(self, timeout: float) -> Grid:
        try:
            handed = self._handed.get(timeout=timeout)
        except queue.Empty:
            handed = TimeoutError(f"nothing happened for {timeout:.0f} s")
        if isinstance(handed, BaseException):
            raise RunFailed(
                f"Flower's Simulation Engine does not start: {handed}",
                where='[engine] name = "flower"',
                fix='Use engine "inline" or "ray"; results are the same.',
            )
        deadline = time.monotonic() + timeout
        while len(list(handed.get_node_ids())) < len(self.nodes):
            if time.monotonic() > deadline:
                raise RunFailed(
                    f"Flower's nodes do not come up within {timeout:.0f} s",
                    where='[engine] name = "flower"',
                    fix='Use engine "inline" or "ray"; results are the same.',
                )
            time.sleep(0.05)
        return handed

    def _order(self) -> dict[int, int]:
        """Our node number to Flower's, by the partition that each node says it holds."""
        asked = [
            Message(RecordDict(), node, "query.partition") for node in self._inner.get_node_ids()
        ]
        real = {}
        for reply in self._inner.send_and_receive(asked):
            if reply.has_error():
                raise RunFailed(
                    f"a node does not answer: {reply.error.reason}",
                    where='[engine] name = "flower"',
                    fix='Use engine "inline" or "ray"; results are the same.',
                )
            number = int(reply.content.config_records["partition"]["id"])  # type: ignore[arg-type]
            real[FIRST_NODE + number] = reply.metadata.src_node_id
        return real

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        ours = {real: node for node, real in self._real.items()}
        sent = [
            Message(m.content, self._real[m.metadata.dst_node_id], m.metadata.message_type)
            for m in messages
        ]
        replies = []
        for reply in self._inner.send_and_receive(sent, timeout=timeout):
            node = ours[reply.metadata.src_node_id]
            asked = Message(RecordDict(), node, reply.metadata.message_type)
            answer = reply.error if reply.has_error() else reply.content
            replies.append(Message(answer, reply_to=asked))
        return Replies.read(replies)

    def save_states(self, nodes: Iterable[int] | None = None) -> dict[int, RecordDict]:
        chosen = list(self.nodes if nodes is None else nodes)
        asked = [Message(RecordDict(), self._real[node], "query.save") for node in chosen]
        ours = {real: node for node, real in self._real.items()}
        for reply in self._inner.send_and_receive(asked):
            node = ours[reply.metadata.src_node_id]
            if reply.content or node in self.states:
                self.states[node] = reply.content
        return super().save_states(chosen)

    def restore_states(self, states: Mapping[int, RecordDict]) -> None:
        self.states.update(states)
        asked = [
            Message(state, self._real[node], "query.restore") for node, state in states.items()
        ]
        list(self._inner.send_and_receive(asked))

    def close(self) -> None:
        self._done.set()
        self._thread.join(timeout=60)
        self._scratch.cleanup()
