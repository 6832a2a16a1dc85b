"""What comes after the last round: the decision threshold, and what to compare the run with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from fedmodel import references
from fedmodel.build import Built
from fedmodel.config import Config, Evaluation
from fedmodel.deciding import decide
from fedmodel.rounds import Federation
from fedmodel.runs.folder import RunFolder
from fedmodel.types import Counts, Split

__all__ = ["add_references", "choose_threshold", "share_asked"]


class MetricsOf(Protocol):
    """From a model's counts by split to tidy rows."""

    def __call__(
        self, counts: Mapping[Any, Counts], *, number: int, model: str
    ) -> pd.DataFrame: ...


def choose_threshold(
    folder: RunFolder,
    federation: Federation,
    *,
    evaluation: Evaluation,
    metrics_of: MetricsOf,
    say: Callable[[str], None],
) -> None:
    """The decision threshold, if it is to be chosen, and the final model with it."""
    state = folder.latest_state()
    if evaluation.threshold != "validation" or state is None:
        return
    by = evaluation.threshold_by or "balanced_accuracy"
    chosen, counts = decide(federation, state.number, state.vector, by=by)
    rows = metrics_of(counts, number=state.number, model="at_threshold")
    folder.write_table("state/threshold.parquet", rows)
    told = f"threshold {chosen['value']:.3f} by {by} on validation records"
    note = f"The final model's decision {told}: rows `at_threshold`."
    folder.note("threshold", chosen, note)
    say(f"decision {told}")


def add_references(
    folder: RunFolder,
    federation: Federation,
    *,
    built: Built,
    config: Config,
    metrics_of: MetricsOf,
    say: Callable[[str], None],
) -> None:
    """The references that the experiment asks for, as rows of the last round; `federation` has not run."""
    names = config.evaluation.references
    if not names:
        return
    state = folder.latest_state()
    number = state.number if state is not None else config.rounds  # fewer where it stopped
    asked: dict[str, Any] = {
        "passes": _passes(built),
        "num_rounds": number,
        "share": share_asked(built.strategy),
    }
    splits: tuple[Split, ...] = built.splits
    parts = []
    if "pooled" in names:
        say("reference: one model on everybody's records")
        counts = references.pooled(built.workload, built.clean, **asked, splits=splits)
        parts.append(metrics_of(counts, number=number, model="pooled"))
    if {"local", "cross_site"} & set(names):
        say("reference: each client alone")
        vectors = references.alone(built.workload, built.clean, **asked)
    if "local" in names:
        counts = references.local(built.workload, built.clean, vectors, splits=splits)
        parts.append(metrics_of(counts, number=number, model="local"))
    if "cross_site" in names and (state := folder.latest_state()) is not None:
        say("reference: each client's own model at every other client")
        shared = state.vector
        table = references.cross_site(built.workload, built.clean, vectors, shared=shared)
        folder.write_table("cross_site.parquet", table)
    if "non_private" in names:
        say("reference: this federation without clip and noise")
        federation = replace(federation, num_rounds=number)
        for number, counted in references.non_private(
            built.workload, federation, built.model.initial
        ):
            parts.append(metrics_of(counted, number=number, model="non_private"))
    if parts:
        folder.write_table("state/references.parquet", pd.concat(parts, ignore_index=True))


def share_asked(strategy: Any) -> float:
    """The share of clients that a strategy asks each round, ours or Flower's."""
    return float(getattr(strategy, "sample", getattr(strategy, "fraction_train", 1.0)))


def _passes(built: Built) -> float:
    """How often a training record is used in a round that its client takes part in, on average."""
    behaviour, training = built.workload.behaviour, built.workload.training
    if getattr(behaviour, "steps", None) is None:
        return float(getattr(behaviour, "epochs", 1.0))
    sizes = built.data.sizes("train").numpy()
    used = training.num_steps * np.minimum(training.batch_size, sizes)
    return float(used.sum() / sizes.sum())
