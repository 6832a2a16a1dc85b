"""Counting: from a model's logits to what clients answer an evaluation with, and its way home."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from flwr.app import ConfigRecord
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.types import Counts

__all__ = ["count", "from_records", "to_record"]

# As scikit-learn's log_loss: P(true class) is clipped to [EPSILON, 1 - EPSILON].
EPSILON = torch.finfo(torch.float64).eps


def count(
    logits: Float[Tensor, "N C"],
    y: Int[Tensor, " N"],
    cell: Int[Tensor, " N"],
    client: Int[Tensor, " N"],
    *,
    num_clients: int,
    num_groups: int,
    bins: int = 1024,
    names: Sequence[str] = (),
    threshold: float | None = None,
) -> Counts:
    """Count the predictions of all clients at once; one client's counts need no other client.

    N records in any order, each of a class ``y``, a combination of sensitive levels ``cell`` and a
    client (its position, which ``names`` puts into words for an error). The counts lie on the CPU.

    - Predicted is the class with the largest logit, the lowest of them at a tie; with a ``threshold``
      and two classes, class 1 where P(class 1) is at least that.
    - The loss of a record is the cross-entropy in nats, in float64. As in scikit-learn's
      `log_loss`, P(true class) is clipped to [eps, 1 - eps] with eps = 2.2e-16, so that one
      record costs 36.04 nats at most.
    - With two classes, P(class 1) falls into one of ``bins`` equal bins over [0, 1].

    Raises `RunFailed` where logits give no probabilities (NaN, +inf, or all of them -inf), and
    `FedmodelError` for labels, cells or clients out of range.

    >>> logits, y = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1])
    >>> zero = torch.zeros(2, dtype=torch.int64)
    >>> count(logits, y, zero, zero, num_clients=1, num_groups=1).confusion.tolist()
    [[[[1, 0], [1, 0]]]]
    """
    num_classes = logits.shape[1]
    y, cell, client = y.cpu().long(), cell.cpu().long(), client.cpu().long()
    _check_range("label", y, num_classes, "Give the model one output for each class")
    _check_range("group", cell, num_groups, "Count `num_groups` over all sensitive attributes")
    _check_range("client", client, num_clients, "Number clients by their position")

    scores = logits.detach().double()
    loss = functional.cross_entropy(scores, y.to(scores.device), reduction="none").cpu()
    if loss.isnan().any():
        raise _no_probabilities(client[loss.isnan()], len(loss), names)
    loss = loss.clamp(-math.log1p(-EPSILON), -math.log(EPSILON))
    predicted = scores.argmax(1).cpu()
    if threshold is not None and num_classes == 2:
        predicted = (scores.softmax(1)[:, 1] >= threshold).long().cpu()

    place = ((client * num_groups + cell) * num_classes + y) * num_classes + predicted
    confusion = torch.bincount(place, minlength=num_clients * num_groups * num_classes**2)
    if num_classes == 2:
        bin = (scores.softmax(1)[:, 1].cpu() * bins).long().clamp(max=bins - 1)
        place = (client * 2 + y) * bins + bin
        histogram = torch.bincount(place, minlength=num_clients * 2 * bins)
    else:
        bins, histogram = 0, torch.zeros(0, dtype=torch.int64)
    return Counts(
        confusion=confusion.reshape(num_clients, num_groups, num_classes, num_classes),
        loss=torch.zeros(num_clients, dtype=torch.float64).index_add(0, client, loss),
        histogram=histogram.reshape(num_clients, num_classes, bins),
    )


def to_record(counts: Counts) -> ConfigRecord:
    """One client's counts as plain lists, in a record whose shape depends on no record of data.

    A ConfigRecord, because Flower's strategies average every number in the MetricRecords they
    find. The histogram's key is left out where there are no bins; of noised counts, which say how
    much noise they hold, the loss as well. Raises `FedmodelError` where
    counts are not of exactly one client.
    """
    if len(counts.loss) != 1:
        raise FedmodelError(
            f"a reply carries the counts of one client, not of {len(counts.loss)}",
            fix="Make one record for each client.",
        )
    _, num_groups, num_classes, _ = counts.confusion.shape
    bins = counts.histogram.shape[-1]
    record = ConfigRecord(
        {
            "shape": [num_groups, num_classes, bins],
            "confusion": counts.confusion.flatten().tolist(),
        }
    )
    if counts.noise:
        record["noise"] = counts.noise
    else:
        record["loss"] = counts.loss.item()
    if bins:
        record["histogram"] = counts.histogram.flatten().tolist()
    return record


def from_records(records: Sequence[ConfigRecord]) -> Counts:
    """The counts of K clients from their K records, in the order of the records.

    Raises `RunFailed` where there is no record, or one that holds no counts of the first one's
    shape and noise (averages, say, or negative numbers without noise).
    """
    if not records:
        raise RunFailed(
            "no client answered the evaluation", fix="Look into the log for why none did."
        )
    confusion, loss, histogram = [], [], []
    noise = records[0].get("noise", 0.0)
    for place, record in enumerate(records):
        try:
            num_groups, num_classes, bins = shape = _whole(record, "shape", 3)
            if shape != records[0]["shape"]:
                raise ValueError(f"shape {shape}, but {records[0]['shape']!r} in the first")
            if record.get("noise", 0.0) != noise:
                raise ValueError(f"noise {record.get('noise')!r}, but {noise!r} in the first")
            least = -math.inf if noise else 0
            confusion.append(_whole(record, "confusion", num_groups * num_classes**2, least))
            histogram.append(_whole(record, "histogram", num_classes * bins) if bins else [])
            loss.append(math.nan if noise else _finite(record.get("loss")))
        except ValueError as error:
            raise RunFailed(
                f"a reply holds no counts: {error}",
                where=f"reply {place} of {len(records)}",
                fix="Answer with `to_record(count(...))`.",
            ) from error
    return Counts(
        confusion=_stack(confusion).reshape(-1, num_groups, num_classes, num_classes),
        loss=torch.tensor(loss, dtype=torch.float64),
        histogram=_stack(histogram).reshape(len(records), num_classes, bins),
        noise=cast(float, noise),
    )


def _whole(record: ConfigRecord, key: str, length: int, least: float = 0) -> list[int]:
    numbers = record.get(key)
    if not isinstance(numbers, list) or len(numbers) != length:
        raise ValueError(f"{key!r} is not a list of {length} numbers")
    if not all(type(number) is int and number >= least for number in numbers):
        raise ValueError(f"{key!r} holds what is no count")
    return cast(list[int], numbers)


def _finite(loss: object) -> float:
    if not isinstance(loss, float) or not math.isfinite(loss):
        raise ValueError(f"'loss' is {loss!r}")
    return loss


def _stack(numbers: list[list[int]]) -> Int[Tensor, "K length"]:
    return torch.from_numpy(np.array(numbers, dtype=np.int64))  # four times torch.tensor's speed


def _check_range(what: str, numbers: Int[Tensor, " N"], limit: int, fix: str) -> None:
    # A number out of range would silently be counted at a neighbour's place.
    wrong = numbers[(numbers < 0) | (numbers >= limit)]
    if len(wrong):
        raise FedmodelError(f"{what} {int(wrong[0])} is not in 0 to {limit - 1}", fix=fix)


def _no_probabilities(clients: Int[Tensor, " M"], total: int, names: Sequence[str]) -> RunFailed:
    places = clients.unique().tolist()
    shown = ", ".join(names[place] if names else str(place) for place in places[:10])
    return RunFailed(
        f"the model's logits are NaN or infinite for {len(clients)} of {total} records",
        where=f"client{'s' * (len(places) > 1)} {shown}{', ...' * (len(places) > 10)}",
        fix="It has diverged: lower the learning rate, or clip the updates.",
    )
