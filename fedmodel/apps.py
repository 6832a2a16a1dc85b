"""The Flower ClientApp of an experiment: it trains whole cohorts, and answers single messages too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from jaxtyping import Float
from torch import Tensor

from fedmodel.catalogue import Component
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.evaluation.counts import count
from fedmodel.evaluation.rows import CountRows
from fedmodel.messages import Replies, Request, requests
from fedmodel.privacy.ledger import Ledger
from fedmodel.training import falsified, train_cohort
from fedmodel.types import FederatedData, Split

__all__ = ["CohortApp", "Workload", "counts_of"]

LEDGER = "privacy"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything that a worker needs to be any of the clients. K clients in all."""

    data: FederatedData
    model: FlatModel
    behaviour: Any
    training: LocalTraining
    seed: int
    max_steps: np.ndarray | None = None  # [K] private steps a client may take over the whole run
    attack: Component | None = None  # on the client's own update
    dishonest: np.ndarray | None = None  # [K] bool
    splits: tuple[Split, ...] = ("test",)
    device: str = "cpu"


class CohortApp(ClientApp):
    """A ClientApp that answers one message as any other does, and a whole round as one cohort."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.workload = workload

        @self.train()
        def train(message: Message, context: Context) -> Message:
            return self._one(message, context)

        @self.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return self._one(message, context)

    def __reduce__(self) -> Any:
        return CohortApp, (self.workload,)

    def _one(self, message: Message, context: Context) -> Message:
        node = message.metadata.dst_node_id
        partition = int(context.node_config["partition-id"])
        replies = self.answer(requests([message])[0], [partition], {node: context.state})
        return Message(replies.answer(0), reply_to=message)

    def answer(
        self, request: Request, partitions: Sequence[int], states: Mapping[int, RecordDict]
    ) -> Replies:
        """What these clients answer, all at once; their `states` are updated in place."""
        if request.message_type.startswith("evaluate"):
            return self._evaluate(request, np.asarray(partitions))
        return self._train(request, np.asarray(partitions), states)

    def _train(
        self, request: Request, partitions: np.ndarray, states: Mapping[int, RecordDict]
    ) -> Replies:
        work, nodes = self.workload, request.nodes
        ledgers, declined = self._willing(request, partitions, states)
        rows = [row for row, node in enumerate(nodes) if node not in declined]
        if not rows:
            return Replies([], request.message_type, request.layout, declined=declined)
        cohort = Cohort(
            partitions[rows],
            work.data,
            work.model,
            work.training,
            work.seed,
            int(request.config.get("server-round", 0)),
            request.config,
            work.device,
        )
        start = request.vector.to(work.device)
        trained = train_cohort(work.behaviour, cohort, start)
        good, delta, loss = trained.good, trained.delta, trained.loss
        if work.attack is not None and work.dishonest is not None:
            liars = [row for row in good if work.dishonest[cohort.clients[row]]]
            if liars:
                delta[liars] = falsified(work.attack, delta[liars], round=cohort.round)
        if ledgers:
            assert work.training.noise_multiplier is not None
            # Secure noise that a failed client drew is drawn anew on a retry, and so charged twice.
            secure = work.training.noise == "secure"
            drawn = [row for row in range(len(rows)) if secure and trained.noise_steps[row]]
            for row in sorted({*good, *drawn}):
                noise = work.training.noise_multiplier[cohort.clients[row]]
                steps, rate = int(trained.noise_steps[row]), float(cohort.sample_rate[row])
                ledger = ledgers[rows[row]].charge(float(noise), rate, steps)
                states[nodes[rows[row]]][LEDGER] = ledger.to_record()
        metrics = {"num-examples": cohort.sizes[good]}
        if not work.training.private and not torch.isnan(loss[good]).any():
            # A private client keeps its training loss: it is computed from records without noise.
            metrics["train_loss"] = loss[good].double().cpu().numpy()
        return Replies(
            [nodes[rows[row]] for row in good],
            request.message_type,
            request.layout,
            (start + delta[good]).cpu(),
            metrics,
            failures={nodes[rows[row]]: why for row, why in trained.failures.items()},
            declined=declined,
        )

    def _willing(
        self, request: Request, partitions: np.ndarray, states: Mapping[int, RecordDict]
    ) -> tuple[list[Ledger], dict[int, str]]:
        """The clients' ledgers, and who declines because one more round would overspend."""
        work, declined = self.workload, {}
        if not work.training.private:
            return [], {}
        ledgers = [_ledger(states[node]) for node in request.nodes]
        if work.max_steps is not None:
            planned, limits = work.training.num_steps[partitions], work.max_steps[partitions]
            for node, ledger, steps, limit in zip(request.nodes, ledgers, planned, limits):
                if not ledger.can_afford(int(steps), int(limit)):
                    declined[node] = f"its budget is spent: {ledger.steps} of {limit} steps"
        return ledgers, declined

    def _evaluate(self, request: Request, partitions: np.ndarray) -> Replies:
        work = self.workload
        records: dict[str, Sequence[Any]] = {}
        metrics: dict[str, np.ndarray] = {}
        for split in work.splits:
            counts = counts_of(
                work.model,
                request.vector.to(work.device),
                work.data,
                partitions=partitions,
                split=split,
                device=work.device,
            )
            records[f"counts.{split}"] = CountRows(counts)
            if split == "test":
                number = counts.confusion.sum((1, 2, 3)).numpy()
                correct = counts.confusion.sum(1).diagonal(dim1=1, dim2=2).sum(1).numpy()
                metrics = {
                    "num-examples": number,
                    "eval_loss": counts.loss.numpy() / np.maximum(number, 1),
                    "eval_acc": correct / np.maximum(number, 1),
                }
        return Replies(list(request.nodes), request.message_type, metrics=metrics, records=records)


def counts_of(
    model: FlatModel,
    vector: Float[Tensor, " d"],
    data: FederatedData,
    *,
    partitions: np.ndarray,
    split: Split,
    device: str = "cpu",
) -> Any:
    """The counts of one model at some clients' records of a split, one row a client."""
    sizes = data.sizes(split).numpy()[partitions]
    starts = np.array([data.rows(int(k), split).start for k in partitions], dtype=np.int64)
    client = np.repeat(np.arange(len(partitions)), sizes)
    offset = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = torch.from_numpy(starts[client] + offset)
    return count(
        model.predict(vector, data.x[rows].to(device)),
        data.y[rows],
        data.cell()[rows],
        torch.from_numpy(client),
        num_clients=len(partitions),
        num_groups=data.num_groups,
        names=[data.clients[k] for k in partitions],
    )


def _ledger(state: RecordDict) -> Ledger:
    return Ledger.from_record(state.config_records[LEDGER]) if LEDGER in state else Ledger()
