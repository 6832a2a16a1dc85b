"""The Flower ClientApp of an experiment: it trains whole cohorts, and answers single messages too."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from jaxtyping import Float
from torch import Tensor

from fedmodel.catalogue import Component
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.errors import FedmodelError, RunFailed, plugin_fault
from fedmodel.evaluation.counts import count
from fedmodel.evaluation.rows import CountRows
from fedmodel.messages import Replies, Request, requests
from fedmodel.privacy.ledger import Ledger
from fedmodel.types import FederatedData, Split

__all__ = ["CohortApp", "Workload", "counts_of"]

# Parameters, gradients and the like of the clients that train at once.
COHORT_BYTES = 128 << 20
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

    def __init__(self, workload: Workload, *, file: Path | None = None) -> None:
        super().__init__()
        self.workload, self.file = workload, file

        @self.train()
        def train(message: Message, context: Context) -> Message:
            return self._one(message, context)

        @self.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return self._one(message, context)

        @self.query("save")
        def save(message: Message, context: Context) -> Message:
            return Message(RecordDict(dict(context.state)), reply_to=message)

        @self.query("restore")
        def restore(message: Message, context: Context) -> Message:
            context.state.clear()
            context.state.update(message.content)
            return Message(RecordDict(), reply_to=message)

        @self.query("partition")
        def partition(message: Message, context: Context) -> Message:
            number = int(context.node_config["partition-id"])
            answer = RecordDict({"partition": ConfigRecord({"id": number})})
            return Message(answer, reply_to=message)

    def __reduce__(self) -> Any:
        # With a file, another process loads the workload once, however many messages it gets.
        if self.file is not None:
            return _load_app, (str(self.file),)
        return CohortApp, (self.workload,)

    def save(self, file: Path) -> CohortApp:
        """The same app, which travels to other processes as the path of this file."""
        import cloudpickle  # type: ignore[import-untyped]

        file.write_bytes(cloudpickle.dumps(self.workload))
        return CohortApp(self.workload, file=file)

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
        work = self.workload
        private = work.training.private
        ledgers = [_ledger(states[node]) for node in request.nodes] if private else []
        declined: dict[int, str] = {}
        if private and work.max_steps is not None:
            planned = work.training.num_steps[partitions]
            for row, node in enumerate(request.nodes):
                limit = int(work.max_steps[partitions[row]])
                if not ledgers[row].can_afford(int(planned[row]), limit):
                    declined[node] = f"its budget is spent: {ledgers[row].steps} of {limit} steps"
        rows = [row for row, node in enumerate(request.nodes) if node not in declined]
        if not rows:
            return Replies([], request.message_type, request.layout, declined=declined)
        nodes = [request.nodes[row] for row in rows]
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
        trained, failures = self._run(cohort, start)
        delta, steps, loss = trained
        good = [i for i in range(len(nodes)) if i not in failures]
        if work.attack is not None and work.dishonest is not None:
            liars = [i for i in good if work.dishonest[partitions[rows[i]]]]
            if liars:
                delta[liars] = work.attack(delta[liars])
        if private:
            for i in good:
                rate, noise = cohort.sample_rate[i], float(cohort.noise_multiplier[i])
                exact = work.training.noise_multiplier
                noise = float(exact[partitions[rows[i]]]) if exact is not None else noise
                ledger = ledgers[rows[i]].charge(noise, float(rate), int(steps[i]))
                states[nodes[i]][LEDGER] = ledger.to_record()
        metrics = {"num-examples": cohort.sizes[good]}
        if not private and not torch.isnan(loss[good]).any():
            # A private client keeps its training loss: it is computed from records without noise.
            metrics["train_loss"] = loss[good].double().cpu().numpy()
        return Replies(
            [nodes[i] for i in good],
            request.message_type,
            request.layout,
            (start + delta[good]).cpu(),
            metrics,
            failures={nodes[i]: why for i, why in failures.items()},
            declined=declined,
        )

    def _run(self, cohort: Cohort, start: Tensor) -> tuple[Any, dict[int, str]]:
        """Train in parts under the byte budget; a part that raises is repeated client by client."""
        width = cohort.model.size * 4 * 8
        if cohort.training.private:
            width = cohort.model.size * 4 * (cohort.training.batch_size + 8)
        deltas, steps, losses = [], [], []
        failures: dict[int, str] = {}
        done = 0
        for part in cohort.parts(clients=max(1, COHORT_BYTES // width)):
            try:
                delta = self._train_part(part, start)
            except Exception as error:
                if part.size == 1 or isinstance(error, RunFailed):
                    delta = self._failed(part, error, failures, done)
                else:
                    delta = torch.zeros(part.size, cohort.model.size, device=start.device)
                    for row, single in enumerate(part.parts(clients=1)):
                        try:
                            delta[row] = self._train_part(single, start)[0]
                            part.noise_steps[row] = single.noise_steps[0]
                            part.loss_sum[row] = single.loss_sum[0]
                            part.loss_count[row] = single.loss_count[0]
                        except Exception as own:
                            self._failed(single, own, failures, done + row)
            broken = ~torch.isfinite(delta).all(1)
            for row in torch.nonzero(broken).flatten().tolist():
                client = self.workload.data.clients[part.clients[row]]
                failures.setdefault(
                    done + row,
                    f"client {client}, round {part.round}: the update is not finite (NaN or "
                    "infinity in training). Choose a smaller client.learning_rate, or scale the "
                    "features (data.encode).",
                )
            deltas.append(delta)
            steps.append(part.noise_steps)
            losses.append(part.training_loss)
            done += part.size
        return (torch.cat(deltas), np.concatenate(steps), torch.cat(losses)), failures

    def _train_part(self, part: Cohort, start: Tensor) -> Float[Tensor, "K d"]:
        self.workload.model.module.train()
        delta = self.workload.behaviour.train(part, start)
        expected = (part.size, self.workload.model.size)
        if not isinstance(delta, Tensor) or tuple(delta.shape) != expected:
            got = tuple(delta.shape) if isinstance(delta, Tensor) else type(delta).__name__
            raise RunFailed(
                f"{type(self.workload.behaviour).__name__}.train returned {got}",
                where="[client]",
                fix=f"It must return a tensor [K, d] = {expected}.",
            )
        if part.training.private and (part.noise_steps != part.poisson_steps).any():
            raise RunFailed(
                f"{type(self.workload.behaviour).__name__} took {part.poisson_steps.max()} Poisson "
                f"batches and added noise {part.noise_steps.max()} times: no accountant covers that",
                where="[client]",
                fix="Draw one cohort.poisson_batch(step) and one cohort.normal(step, ...) a step.",
            )
        if part.training.private and not part.noise_steps.all():
            raise RunFailed(
                f"{type(self.workload.behaviour).__name__} is declared private and added no noise",
                where="[client]",
                fix="Add cohort.normal(step, gradient), or set `private = False`.",
            )
        return delta.detach()

    def _failed(
        self, part: Cohort, error: Exception, failures: dict[int, str], row: int
    ) -> Float[Tensor, "K d"]:
        if isinstance(error, FedmodelError):
            raise error
        client = self.workload.data.clients[part.clients[0]]
        failures[row] = f"client {client}, round {part.round}: {plugin_fault(error)}"
        return torch.zeros(part.size, part.model.size, device=part.device)

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


@lru_cache(maxsize=2)
def _load_app(file: str) -> CohortApp:
    torch.set_num_threads(1)
    workload = pickle.loads(Path(file).read_bytes())
    return CohortApp(replace(workload), file=Path(file))
