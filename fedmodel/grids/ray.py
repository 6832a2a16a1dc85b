"""The round in shards on Ray workers: this machine's cores, or a cluster's."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from fedmodel._flower import identify, quiet_flower
from fedmodel.cohort.machine import keep_freed_memory
from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.grids.inline import answer_one
from fedmodel.grids.local import FIRST_NODE, AnswersCohorts, LocalGrid
from fedmodel.messages import Replies, Request, requests

__all__ = ["RayGrid"]

ATTEMPTS = 3  # a shard is given to so many workers before its clients count as failed


class Worker:
    """A process that holds the app, and so the data, for the whole run."""

    def __init__(self, app: ClientApp, num_clients: int) -> None:
        torch.set_num_threads(1)
        keep_freed_memory()
        identify()
        quiet_flower()
        self.app, self.num_clients = app, num_clients

    def answer(self, request: Request, states: dict[int, RecordDict]) -> tuple[Any, Any]:
        """The replies of a shard, and its clients' states afterwards."""
        assert isinstance(self.app, AnswersCohorts)
        own = defaultdict(RecordDict, states)
        replies = self.app.answer(request, [n - FIRST_NODE for n in request.nodes], own)
        return replies, _filled(own, states)

    def answer_each(
        self, messages: list[Message], states: dict[int, RecordDict]
    ) -> tuple[Any, Any]:
        """The same for any ClientApp, one message after the other."""
        replies, own = [], defaultdict(RecordDict, states)
        for message in messages:
            node = message.metadata.dst_node_id
            reply, own[node] = answer_one(
                self.app, message, own[node], num_clients=self.num_clients
            )
            replies.append(reply)
        return replies, _filled(own, states)


class RayGrid(LocalGrid):
    """Contiguous shards of the nodes on Ray workers. A worker that dies is replaced, its shard repeated.

    Args:
        address: of a running cluster ("auto" finds one on this machine); else one is started here.
        workers: number of processes; default all cores of the cluster.
    """

    def __init__(
        self,
        app: ClientApp,
        *,
        num_clients: int,
        workers: int | None = None,
        address: str | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(num_clients)
        import ray

        identify()
        self.ray = ray
        self.owned = not ray.is_initialized()
        if self.owned:
            _start(ray, address, workers)
        cores = int(ray.cluster_resources().get("CPU", 1))
        number = max(1, min(workers or cores, num_clients, cores if address is None else 10**6))
        gpus = ray.cluster_resources().get("GPU", 0) / number if device.startswith("cuda") else 0
        self.remote = ray.remote(num_cpus=min(1.0, cores / number), num_gpus=gpus)(Worker)
        self.cohorts = isinstance(app, AnswersCohorts)
        self.app_reference = ray.put(app)
        self.workers = [self._worker() for _ in range(number)]

    def _worker(self) -> Any:
        return self.remote.remote(self.app_reference, len(self.nodes))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        identify()
        if not self.cohorts:
            return self._each(sorted(messages, key=lambda m: m.metadata.dst_node_id))
        parts = []
        for request in requests(messages):
            nodes = sorted(request.nodes)
            shards = [request.only(nodes[a:b]) for a, b in self._cuts(len(nodes))]
            parts += self._gather(
                [("answer", shard, self.save_states(shard.nodes)) for shard in shards]
            )
        for _, states in parts:
            self.states.update(states)
        return Replies.merge([replies for replies, _ in parts]) if parts else []

    def _each(self, messages: list[Message]) -> Sequence[Message]:
        calls = []
        for a, b in self._cuts(len(messages)):
            shard = messages[a:b]
            nodes = [message.metadata.dst_node_id for message in shard]
            calls.append(("answer_each", shard, self.save_states(nodes)))
        replies = []
        for answered, states in self._gather(calls):
            self.states.update(states)
            replies += list(answered)
        return replies

    def _cuts(self, number: int) -> list[tuple[int, int]]:
        edges = np.linspace(0, number, min(len(self.workers), number) + 1).astype(int).tolist()
        return list(pairwise(edges))

    def _gather(self, calls: list[tuple[str, Any, dict[int, RecordDict]]]) -> list[Any]:
        """The results of the calls, in order, each on a worker of its own."""
        results: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        for attempt in range(ATTEMPTS):
            running = []
            for slot, index in enumerate(waiting):
                method, *arguments = calls[index]
                place = slot % len(self.workers)
                running.append(
                    (index, place, getattr(self.workers[place], method).remote(*arguments))
                )
            waiting = []
            for index, place, reference in running:
                try:
                    results[index] = self.ray.get(reference)
                except self.ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise cause if isinstance(cause, Exception) else error from None
                except self.ray.exceptions.RayActorError as error:
                    self.workers[place] = self._worker()
                    waiting.append(index)
                    reason = f"its worker died {attempt + 1} times: {str(error).splitlines()[0]}"
                    results[index] = _dead(calls[index], reason)
            if not waiting:
                break
        return results

    def close(self) -> None:
        for worker in self.workers:
            self.ray.kill(worker)
        self.workers = []
        if self.owned:
            self.ray.shutdown()


def _filled(
    states: Mapping[int, RecordDict], before: Mapping[int, RecordDict]
) -> dict[int, RecordDict]:
    """The states that hold something, or did before."""
    return {node: state for node, state in states.items() if state or node in before}


def _dead(call: tuple[str, Any, dict[int, RecordDict]], reason: str) -> tuple[Any, Any]:
    method, asked, states = call
    if method == "answer":
        failures = dict.fromkeys(asked.nodes, reason)
        return Replies([], asked.message_type, asked.layout, failures=failures), states
    raise RunFailed("a worker process died again and again", where="[engine]", fix=reason)


def _start(ray: Any, address: str | None, workers: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
    except Exception as error:
        raise FedmodelError(
            f"Ray does not start: {error}",
            where="[engine]",
            fix='Check `address`, or use engine name = "inline", which needs no Ray.',
        ) from None
