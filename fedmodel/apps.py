"""The Flower ClientApp of an experiment: it trains whole cohorts, and answers single messages too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from jaxtyping import Float
from torch import Tensor

from fedmodel.catalogue import Component
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.cohort.machine import processor_threads
from fedmodel.cohort.placement import on_device
from fedmodel.evaluation.counts import count
from fedmodel.evaluation.rows import CountRows
from fedmodel.evaluation.severity import Severity, name_of
from fedmodel.messages import Replies, Request, requests
from fedmodel.privacy.counts import CountNoise
from fedmodel.privacy.ledger import LEDGER, Ledger
from fedmodel.privacy.updates import LocalRelease
from fedmodel.secure.answers import ClientSide, Plan
from fedmodel.secure.exchanges import KEYS, MASKED, SHARES, UNMASK
from fedmodel.secure.noise import SumNoise
from fedmodel.training import Trained, falsified, train_cohort
from fedmodel.types import Counts, FederatedData, Split

__all__ = ["CohortApp", "Workload", "counts_of"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything that a worker needs to be any of the clients. K clients in all."""

    data: FederatedData
    model: FlatModel
    behaviour: Any
    training: LocalTraining
    seed: int
    max_steps: np.ndarray | None = None  # [K] private steps a client may take over the whole run
    release: LocalRelease | SumNoise | None = (
        None  # noise on the client's own update: a private step a round
    )
    tells_loss: bool = True  # False under [privacy]: it is computed from records without noise
    attack: Component | None = None  # on the client's own update
    dishonest: np.ndarray | None = None  # [K] bool
    splits: tuple[Split, ...] = ("test",)
    device: str = "cpu"
    count_noise: CountNoise | None = None  # on what a client answers an evaluation with
    severity: Severity | None = None  # what else an evaluation counts, on worse records
    threshold: float | None = None  # from which P(class 1) on a record counts as positive
    secure: Plan | None = None  # updates leave a client under secure aggregation only


class CohortApp(ClientApp):
    """A ClientApp that answers one message as any other does, and a whole round as one cohort."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.workload = workload

        @self.train()
        def train(message: Message, context: Context) -> Message:
            return self._one(message, context)

        for kind in (KEYS, SHARES, MASKED, UNMASK):
            self.train(kind.removeprefix("train."))(train)

        @self.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return self._one(message, context)

    @cached_property
    def data(self) -> FederatedData:
        """The records where this process trains, brought there when it is first asked to."""
        return on_device(self.workload.data, self.workload.device)

    def __reduce__(self) -> Any:
        return CohortApp, (self.workload,)

    def _one(self, message: Message, context: Context) -> Message:
        node = message.metadata.dst_node_id
        partition = int(context.node_config["partition-id"])
        replies = self.answer(requests([message])[0], [partition], {node: context.state})
        return Message(replies.answer(0), reply_to=message)

    def answer(
        self,
        request: Request,
        partitions: Sequence[int],
        states: Mapping[int, RecordDict],
        *,
        threads: int = 1,
    ) -> Replies:
        """What these clients answer, all at once; their `states` are updated in place."""
        if request.message_type.startswith("evaluate"):
            with processor_threads(threads):
                return self._evaluate(request, np.asarray(partitions))
        train = partial(self._train, threads=threads)
        if self.workload.secure is None:
            return train(request, np.asarray(partitions), states)
        clients = ClientSide(
            plan=self.workload.secure,
            seed=self.workload.seed,
            train=train,
            declined=lambda *asked: self._willing(*asked)[1],
        )
        return clients.answer(request, np.asarray(partitions), states)

    def _train(
        self,
        request: Request,
        partitions: np.ndarray,
        states: Mapping[int, RecordDict],
        threads: int,
    ) -> Replies:
        work, nodes = self.workload, request.nodes
        ledgers, declined = self._willing(request, partitions, states)
        rows = [row for row, node in enumerate(nodes) if node not in declined]
        if not rows:
            return Replies([], request.message_type, request.layout, declined=declined)
        cohort = Cohort(
            partitions[rows],
            self.data,
            work.model,
            work.training,
            work.seed,
            int(request.config.get("server-round", 0)),
            request.config,
            work.device,
            threads if work.device == "cpu" else 1,  # a GPU takes one after the other
        )
        start = request.vector.to(work.device)
        trained = train_cohort(work.behaviour, cohort, start)
        good, delta, loss = trained.good, trained.delta, trained.loss
        if work.release is not None:
            who = cohort.clients[good]
            delta[good] = work.release(delta[good], clients=who, round=cohort.round)
        if work.attack is not None and work.dishonest is not None:
            liars = [row for row in good if work.dishonest[cohort.clients[row]]]
            if liars:
                delta[liars] = falsified(work.attack, delta[liars], round=cohort.round)
        if ledgers:
            # Secure noise that a failed client drew is drawn anew on a retry, and so charged twice.
            secure = work.training.noise == "secure"
            drawn = [row for row in range(len(rows)) if secure and trained.noise_steps[row]]
            for row in sorted({*good, *drawn}):
                ledger = ledgers[rows[row]].charge(*self._charge(cohort, trained, row))
                states[nodes[rows[row]]][LEDGER] = ledger.to_record()
        models = delta.add_(start)
        if trained.failures:
            models, loss = models[good], loss[good]
        metrics = {"num-examples": cohort.sizes[good]}
        tells_loss = work.tells_loss and not work.training.private
        if tells_loss and not torch.isnan(loss).any():
            metrics["train_loss"] = loss.double().cpu().numpy()
        return Replies(
            [nodes[rows[row]] for row in good],
            request.message_type,
            request.layout,
            models.cpu(),
            metrics,
            failures={nodes[rows[row]]: why for row, why in trained.failures.items()},
            declined=declined,
        )

    def _charge(self, cohort: Cohort, trained: Trained, row: int) -> tuple[float, float, int]:
        """Noise, sample rate and steps of what a client lets out in this round."""
        if self.workload.release is not None:
            return self.workload.release.charged, 1.0, 1
        noise = cohort.training.noise_multiplier
        assert noise is not None
        rate, steps = cohort.sample_rate[row], trained.noise_steps[row]
        return float(noise[cohort.clients[row]]), float(rate), int(steps)

    def _willing(
        self, request: Request, partitions: np.ndarray, states: Mapping[int, RecordDict]
    ) -> tuple[list[Ledger], dict[int, str]]:
        """The clients' ledgers, and who declines because one more round would overspend."""
        work, declined = self.workload, {}
        if not work.training.private and work.release is None:
            return [], {}
        ledgers = [_ledger(states[node]) for node in request.nodes]
        if work.max_steps is not None:
            planned, limits = work.training.num_steps[partitions], work.max_steps[partitions]
            if work.release is not None:
                planned = np.ones_like(planned)
            for node, ledger, steps, limit in zip(request.nodes, ledgers, planned, limits):
                if not ledger.can_afford(int(steps), int(limit)):
                    declined[node] = f"its budget is spent: {ledger.steps} of {limit} steps"
        return ledgers, declined

    def _evaluate(self, request: Request, partitions: np.ndarray) -> Replies:
        work = self.workload
        records: dict[str, Sequence[Any]] = {}
        metrics: dict[str, np.ndarray] = {}
        threshold = request.config.get("threshold", work.threshold)
        for split in work.splits:
            counts = counts_of(
                work.model,
                request.vector,
                self.data,
                partitions=partitions,
                split=split,
                device=work.device,
                threshold=threshold,
            )
            if work.count_noise is not None:
                number = int(request.config.get("server-round", 0))
                counts = work.count_noise(counts, clients=partitions, round=number, split=split)
            records[f"counts.{split}"] = CountRows(counts)
            if split == "test":
                metrics = _for_strategies(counts)
        number = int(request.config.get("server-round", 0))
        if work.severity is not None and work.severity.due(number):
            for kind, level in work.severity.conditions:
                counts = counts_of(
                    work.model,
                    request.vector,
                    self.data,
                    partitions=partitions,
                    split="test",
                    device=work.device,
                    change=partial(work.severity.worsened, self.data, kind=kind, level=level),
                    threshold=threshold,
                )
                records[name_of(kind, level)] = CountRows(counts)
        return Replies(list(request.nodes), request.message_type, metrics=metrics, records=records)


def _for_strategies(counts: Counts) -> dict[str, np.ndarray]:
    """What Flower's strategies look for in a reply; no loss where that does not leave the client."""
    number = counts.confusion.sum((1, 2, 3)).clamp(min=0).numpy()
    correct = counts.confusion.sum(1).diagonal(dim1=1, dim2=2).sum(1).numpy()
    share = np.clip(correct / np.maximum(number, 1), 0.0, 1.0)
    metrics = {"num-examples": number, "eval_acc": share}
    if not counts.noise:
        metrics["eval_loss"] = counts.loss.numpy() / np.maximum(number, 1)
    return metrics


def counts_of(
    model: FlatModel,
    vector: Float[Tensor, " d"],
    data: FederatedData,
    *,
    partitions: np.ndarray,
    split: Split,
    device: str = "cpu",
    change: Callable[[Tensor], Tensor] | None = None,
    threshold: float | None = None,
) -> Any:
    """The counts of one model at some clients' records of a split, one row a client; predicted on `device`.

    `change` gives the features to read in place of those of the rows that it is told.
    """
    sizes = data.sizes(split).numpy()[partitions]
    starts = np.array([data.rows(int(k), split).start for k in partitions], dtype=np.int64)
    client = np.repeat(np.arange(len(partitions)), sizes)
    offset = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = torch.from_numpy(starts[client] + offset)
    x = data.x[rows] if change is None else change(rows)
    return count(
        model.predict(vector.to(device), x),
        data.y[rows],
        data.cell()[rows],
        torch.from_numpy(client),
        num_clients=len(partitions),
        num_groups=data.num_groups,
        names=[data.clients[k] for k in partitions],
        threshold=threshold,
    )


def _ledger(state: RecordDict) -> Ledger:
    if LEDGER not in state:
        return Ledger()
    record = state[LEDGER]  # `state.config_records` would copy all of them
    return Ledger.from_record(record if isinstance(record, ConfigRecord) else ConfigRecord())
