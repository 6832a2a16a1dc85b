"""From counts to the tidy table of a run: one number a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fedmodel.errors import FedmodelError
from fedmodel.evaluation.custom import Metric, evaluate_each
from fedmodel.evaluation.fairness import (
    accuracy_difference,
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    equalized_odds_ratio,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from fedmodel.evaluation.intervals import gap_intervals, rate_intervals
from fedmodel.evaluation.performance import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    roc_auc_bound,
    roc_auc_score,
)
from fedmodel.evaluation.spread import spread
from fedmodel.types import Counts, FederatedData

__all__ = ["marginals", "metric_rows", "rows"]


def metric_rows(
    counts: Counts,
    *,
    data: FederatedData,
    round: int,
    split: str,
    model: str,
    extra: Mapping[str, Metric] | None = None,
) -> pd.DataFrame:
    """All metrics of one model on one split: ``round, split, model, scope, key, metric, value``.

    1. Scope ``global``, key ``""``: performance on the pooled counts, fairness over the
       combinations of all sensitive attributes, and the spread of accuracy over the clients that
       have records.
    2. Scope ``group``: the rates of each level (``sex=Female``) and, with two or more
       attributes, of each combination (``sex=Female, race=Black``) and the fairness of each
       attribute (``sex``). An undefined rate is a row with NaN.
    3. Scope ``client``: each client's own performance and fairness. What is undefined there has
       no row; nor has the fairness of a client all of whose records are of one group, for there
       is nothing to compare.

    Noised counts give two rows more for accuracies, rates and differences, globally and of groups:
    the bounds of their interval, ``..._low`` and ``..._high`` (`intervals`).

    Fairness needs sensitive attributes and, but for the difference in accuracy, two classes.
    ``extra`` names further metrics, functions of the counts ``[G, true, predicted]``, for the
    pooled counts and for each client. Raises `FedmodelError` where counts are not of this data's
    shape, and where a function of ``extra`` fails or takes a name that is taken.
    """
    _check_shape(counts, data)
    extra, total, sensitive = extra or {}, counts.total(), bool(data.attributes)
    pooled, own = _pooled(counts, sensitive=sensitive), _own(counts, sensitive=sensitive)
    for name in extra:
        if name in pooled or name in own:
            raise FedmodelError(
                f"there is a metric {name!r} already", fix="Give yours another name."
            )
    pooled |= evaluate_each(extra, total.confusion, places=("all clients",))
    own |= evaluate_each(extra, counts.confusion, places=data.clients)

    of = partial(rows, round=round, split=split, model=model)
    parts = [of(pooled, scope="global", keys=[""])]
    if sensitive:
        groups = _groups(total.confusion[0], data.attributes, noise=total.noise)
        for keys, values in groups:
            parts.append(of(values, scope="group", keys=keys))
    parts.append(of(own, scope="client", keys=data.clients).dropna(subset="value"))
    return pd.concat(parts, ignore_index=True)


def rows(
    values: Mapping[str, Float[Tensor, " keys"]],
    *,
    scope: str,
    keys: Sequence[str],
    round: int,
    split: str,
    model: str,
) -> pd.DataFrame:
    """A part of the table: key by key, all metrics of each."""
    columns = {
        "round": round,
        "split": split,
        "model": model,
        "scope": scope,
        "key": np.repeat(np.array(keys, dtype=object), len(values)),
        "metric": np.tile(np.array(list(values), dtype=object), len(keys)),
        "value": torch.stack(list(values.values()), 1).flatten().double().numpy(),
    }
    return pd.DataFrame(columns)


def _pooled(counts: Counts, *, sensitive: bool) -> dict[str, Float[Tensor, " 1"]]:
    total = counts.total()
    values = _performance(total)
    if counts.histogram.shape[-1]:
        values["roc_auc_bound"] = roc_auc_bound(total.histogram)
    if total.noise:
        noise = _summed(total.noise, total.confusion.shape[1])
        bounds = rate_intervals(total.confusion.sum(1), noise=noise)
        values |= _low_and_high({"accuracy": bounds["accuracy"]})
    if sensitive:
        values |= _fairness(total.confusion, noise=total.noise)
    noise = _summed(counts.noise, counts.confusion.shape[1])
    accuracy = accuracy_score(counts.confusion.sum(1), noise=noise)
    for name, value in spread(accuracy).items():
        values[f"accuracy_{name}"] = accuracy.new_tensor([value])
    return values


def _own(counts: Counts, *, sensitive: bool) -> dict[str, Float[Tensor, " K"]]:
    """Each client's metrics; NaN for fairness where no rate is defined for two of its groups."""
    values = _performance(counts)
    confusion, noise = counts.confusion, counts.noise
    if sensitive and confusion.shape[-1] == 2:
        parity = _compared(selection_rate(confusion, noise=noise))
        odds = _compared(true_positive_rate(confusion, noise=noise))
        odds |= _compared(false_positive_rate(confusion, noise=noise))
        difference = demographic_parity_difference(confusion, noise=noise)
        values["demographic_parity_difference"] = difference.where(parity, torch.nan)
        difference = equalized_odds_difference(confusion, noise=noise)
        values["equalized_odds_difference"] = difference.where(odds, torch.nan)
    return values


def _compared(rate: Float[Tensor, "K G"]) -> Bool[Tensor, " K"]:
    return (~rate.isnan()).sum(1) >= 2


def _performance(counts: Counts) -> dict[str, Float[Tensor, " K"]]:
    confusion = counts.confusion.sum(1)
    noise = _summed(counts.noise, counts.confusion.shape[1])
    num_records = confusion.sum((-2, -1)).clamp(min=0)
    values = {
        "num_records": num_records.double(),
        "loss": log_loss(counts.loss, num_records=num_records),
        "accuracy": accuracy_score(confusion, noise=noise),
        "balanced_accuracy": balanced_accuracy_score(confusion, noise=noise),
    }
    if counts.histogram.shape[-1]:
        values["roc_auc"] = roc_auc_score(counts.histogram)
    return values


def _fairness(confusion: Int[Tensor, "K G C C"], *, noise: float) -> dict[str, Float[Tensor, " K"]]:
    measures = [accuracy_difference]
    if confusion.shape[-1] == 2:
        measures += [
            demographic_parity_difference,
            demographic_parity_ratio,
            equalized_odds_difference,
            equalized_odds_ratio,
        ]
    values = {measure.__name__: measure(confusion, noise=noise) for measure in measures}
    if noise:
        values |= _low_and_high(gap_intervals(confusion, noise=noise))
    return values


def _groups(
    confusion: Int[Tensor, "G C C"], attributes: Mapping[str, tuple[str, ...]], *, noise: float
) -> Iterator[tuple[Sequence[str], dict[str, Float[Tensor, " keys"]]]]:
    """Keys and their metrics: levels of each attribute, its fairness, and combinations of all."""
    for names, keys, counts in marginals(confusion, attributes):
        deviation = _summed(noise, len(confusion) // len(counts))
        values = {
            "num_records": counts.sum((-2, -1)).clamp(min=0).double(),
            "accuracy": accuracy_score(counts, noise=deviation),
            "balanced_accuracy": balanced_accuracy_score(counts, noise=deviation),
        }
        if confusion.shape[-1] == 2:
            values["selection_rate"] = selection_rate(counts, noise=deviation)
            values["true_positive_rate"] = true_positive_rate(counts, noise=deviation)
            values["false_positive_rate"] = false_positive_rate(counts, noise=deviation)
        if noise:
            values |= _low_and_high(rate_intervals(counts, noise=deviation))
        yield keys, values
        if len(names) < len(attributes):  # else it is the global fairness
            yield names, _fairness(counts[None], noise=deviation)


def _summed(noise: float, number: int) -> float:
    """The standard deviation of the noise in a sum of so many counts."""
    return noise * number**0.5


def _low_and_high(
    bounds: Mapping[str, tuple[Float[Tensor, " keys"], Float[Tensor, " keys"]]],
) -> dict[str, Float[Tensor, " keys"]]:
    low = {f"{name}_low": low for name, (low, _) in bounds.items()}
    return low | {f"{name}_high": high for name, (_, high) in bounds.items()}


def marginals(
    confusion: Int[Tensor, "G C C"], attributes: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], list[str], Int[Tensor, "L C C"]]]:
    """Attributes, keys and counts of each attribute's levels and, last, of all combinations (of one:
    the same). A key is written ``sex=Female`` or ``sex=Female, race=Black``."""

    def keys(*names: str) -> list[str]:
        levels = product(*(attributes[name] for name in names))
        return [", ".join(map("=".join, zip(names, level))) for level in levels]

    sizes = [len(levels) for levels in attributes.values()]
    shape = confusion.shape[1:]
    if len(sizes) > 1:
        by_level = confusion.reshape(*sizes, *shape)
        for axis, name in enumerate(attributes):
            yield (
                (name,),
                keys(name),
                by_level.movedim(axis, 0).reshape(sizes[axis], -1, *shape).sum(1),
            )
    yield tuple(attributes), keys(*attributes), confusion


def _check_shape(counts: Counts, data: FederatedData) -> None:
    num_classes = len(data.classes)
    expected = (data.num_clients, data.num_groups, num_classes, num_classes)
    if tuple(counts.confusion.shape) != expected:
        raise FedmodelError(
            f"counts of shape {tuple(counts.confusion.shape)} do not fit this data: {expected}",
            where="clients, groups, classes, classes",
            fix="Count with the data's num_clients, num_groups and classes.",
        )
