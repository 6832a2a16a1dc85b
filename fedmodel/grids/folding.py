"""Weighted sums folded group by group, where all updates of a round at once would fill the memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedmodel._flower import arrays_of
from fedmodel.grids.local import SUM, LocalGrid
from fedmodel.grids.summing import SummingGrid
from fedmodel.messages import Instructions, Replies, Request

__all__ = ["FoldingGrid", "group_size"]

GROUP_BYTES = 256 << 20  # updates that are held at once


def group_size(size: int) -> int:
    """How many clients' updates of `size` parameters are held at once."""
    return max(1, GROUP_BYTES // (4 * size))


class FoldingGrid(SummingGrid):
    """Any grid, whose clients train in groups: of a group only the weighted sum is kept.

    The one reply to a request to train holds the weighted mean of the clients' models, and
    ``num-examples`` of all of them; so strategies that average replies work unchanged. Sums are in
    float64, so that the size of the groups does not show. With `retry` a client that failed is asked
    once more, here, where its update can still join the sum.
    """

    def __init__(self, inner: LocalGrid, *, size: int, by_records: bool, retry: bool) -> None:
        super().__init__(inner)
        self.group, self.by_records, self.retry = group_size(size), by_records, retry

    def _train(self, request: Request) -> Replies:
        sums = _Sums(request, by_records=self.by_records)
        failed = self._fold(request, sorted(request.nodes), sums)
        if failed and self.retry:
            failed = self._fold(request, sorted(failed), sums)
        return sums.reply(failed)

    def _fold(self, request: Request, nodes: Sequence[int], sums: _Sums) -> dict[int, str]:
        """Let these nodes train, group by group; who failed, and why."""
        failed: dict[int, str] = {}
        arrays = arrays_of(request.vector, request.layout)
        for first in range(0, len(nodes), self.group):
            some = nodes[first : first + self.group]
            asked = Instructions(some, request.message_type, arrays, request.config)
            replies = Replies.read(self.inner.send_and_receive(asked))
            failed.update(replies.failures)
            sums.add(replies)
        return failed


class _Sums:
    """What has come in so far: the weighted sum of models, and of numbers that clients report."""

    def __init__(self, request: Request, *, by_records: bool) -> None:
        self.request, self.by_records = request, by_records
        self.nodes: list[int] = []
        self.declined: dict[int, str] = {}
        self.models = torch.zeros(len(request.vector), dtype=torch.float64)
        self.weight, self.records = 0.0, 0
        self.metrics: dict[str, float] = {}

    def add(self, replies: Replies) -> None:
        self.declined.update(replies.declined)
        if not replies.nodes:
            return
        records = replies.metrics["num-examples"].astype(np.float64)
        weights = records if self.by_records else np.ones_like(records)
        for row, weight in zip(replies.block(), weights.tolist()):
            self.models.add_(row, alpha=weight)
        self.nodes += replies.nodes
        self.weight += float(weights.sum())
        self.records += int(records.sum())
        for name, values in replies.metrics.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + float((values * records).sum())

    def reply(self, failed: dict[int, str]) -> Replies:
        """The one reply for all that trained."""
        if not self.nodes:
            kind, layout = self.request.message_type, self.request.layout
            return Replies([], kind, layout, failures=failed, declined=self.declined)
        metrics = {n: np.array([v / self.records]) for n, v in self.metrics.items()}
        return Replies(
            [SUM],
            self.request.message_type,
            self.request.layout,
            (self.models / self.weight).float()[None],
            {**metrics, "num-examples": np.array([self.records])},
            failures=failed,
            declined=self.declined,
            summed=sorted(self.nodes),
        )
