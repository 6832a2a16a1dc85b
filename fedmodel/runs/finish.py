"""The tables, the model and the report of a run, whole or cut short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fedmodel.build import Built
from fedmodel.config import AdaptiveClip, Config
from fedmodel.data.describe import partition_table
from fedmodel.data.saved import Reading
from fedmodel.privacy.accounting import Figure
from fedmodel.privacy.composition import Sum, release_table, sum_at
from fedmodel.privacy.counts import evaluation_statement
from fedmodel.privacy.statement import statement
from fedmodel.runs.folder import RunFolder
from fedmodel.runs.report import ReportData, write_report
from fedmodel.runs.spending import Spending

__all__ = ["finish"]


def finish(
    folder: RunFolder,
    *,
    manifest: dict[str, Any],
    built: Built,
    spending: Spending,
    config: Config,
) -> None:
    """Write metrics, clients, epsilon, model and report from what the rounds have saved."""
    metrics = folder.metrics_so_far()
    epsilon, figures = spending.table(built.data.clients)
    entries = folder.entries()
    clients = _clients(built, entries, metrics, figures, spending.steps)
    folder.write_table("metrics.parquet", metrics)
    folder.write_table("clients.parquet", clients)
    folder.write_table("epsilon.parquet", epsilon)
    state = folder.latest_state()
    if state is not None:
        folder.write_model("model.safetensors", built.model.state_dict(state.vector))
        folder.write("encoder.json", Reading(built.data.encoder, built.data.classes).to_json())
    stated, release = None, built.workload.count_noise
    evaluated = metrics["round"].nunique() + manifest.get("repeated_evaluations", 0)
    released = release_table(
        built.plans,
        spending.steps,
        names=built.data.clients,
        evaluations=[(release.noise_multiplier, 1.0, evaluated)] if release else (),
    )
    if built.plans is not None:
        declined = {client for entry in entries for client in entry["declined"]}
        outside = (
            *built.data.outside,
            *_released(config),
        )
        stated = statement(
            built.plans,
            figures,
            declined=len(declined),
            outside=outside,
            clipping=getattr(built.workload.behaviour, "clipping", "flat"),
            adaptive=config.privacy is not None and isinstance(config.privacy.clip, AdaptiveClip),
            total=_most_spent(released, figures, built),
        )
    if release is not None:
        part = evaluation_statement(
            release, evaluations=evaluated, target=config.evaluation.epsilon
        )
        stated = {**(stated or {}), "evaluation": part}
    if stated is not None:
        manifest["privacy"] = stated
        folder.write_table("released.parquet", released)
    folder.write_manifest(manifest)
    write_report(
        ReportData(
            title=manifest.get("name", "experiment"),
            config_toml=(folder.path / "config.toml").read_text(encoding="utf-8"),
            manifest=manifest,
            card=built.data.card,
            metrics=metrics,
            clients=clients,
            epsilon=epsilon,
            partition=partition_table(built.data),
            statement=stated,
            cross_site=folder.table("cross_site.parquet"),
            notes=tuple(manifest["notes"]),
            rounds=config.rounds,
            finished=manifest["finished"],
        ),
        folder.path / "report.html",
    )


def _most_spent(released: pd.DataFrame, figures: list[Figure], built: Built) -> Sum | None:
    """Everything that was released at the client that spent most."""
    assert built.plans is not None
    if not any(figure.epsilon > 0 for figure in figures):
        return None
    most = max(range(len(figures)), key=lambda client: figures[client].epsilon)
    budget = built.plans.budget
    return sum_at(
        released,
        built.data.clients[most],
        delta=budget.delta,
        accountant=budget.accountant,
    )


def _released(config: Config) -> list[str]:
    """What a private run lets out beside the updates."""
    released = []
    privacy = config.privacy
    whole = privacy is not None and privacy.unit == "client"  # these records are its own as well
    if whole:
        exact = (
            "noised for single records only"
            if config.evaluation.private
            else "exact and without noise"
        )
        released.append(
            f"The evaluation counts of each client's records, {exact}: they are a part of what the "
            "client holds."
        )
    elif not config.evaluation.private:
        released.append(
            "the evaluation counts of test records, which belong to other people than the training "
            "records: exact, without noise"
        )
        if config.data.validation:
            released.append("the evaluation counts of validation records: exact, without noise")
    if privacy is not None and privacy.mode == "central" and config.attack is not None:
        released.append(
            "each attacker's share of the aggregate, which is measured before the noise"
        )
    if config.evaluation.severity is not None:
        released.append(
            "the evaluation counts of test records that were made worse: exact, without noise"
        )
    if config.model.init is not None:
        released.append(
            "the start model: what it gives away of the records that it was trained on is not counted, "
            "also if these are among them"
        )
    if config.evaluation.stop is not None and not config.evaluation.private:
        released.append(
            "the round after which the run stopped, by validation records without noise"
        )
    if config.evaluation.threshold == "validation":
        released.append("the decision threshold, chosen on validation records without noise")
    released.append("the picture of labels by client in this report")
    if config.evaluation.references:
        released.append(
            "the references, which train on the same records without noise and are there to compare"
        )
    return released


def _clients(
    built: Built,
    entries: list[dict[str, Any]],
    metrics: pd.DataFrame,
    figures: list[Figure],
    steps: Sequence[int],
) -> pd.DataFrame:
    """One row a client."""
    data, plans = built.data, built.plans
    times: dict[str, Counter[int]] = {
        what: Counter(int(client) for entry in entries for client in entry[what])
        for what in ("trained", "declined", "failed", "dropped")
    }
    count = range(data.num_clients)
    columns: dict[str, Any] = {
        "client": list(data.clients),
        "num_train": data.sizes("train").tolist(),
        "num_validation": data.sizes("validation").tolist(),
        "num_test": data.sizes("test").tolist(),
        "rounds": [times["trained"][k] for k in count],
        "declined": [times["declined"][k] for k in count],
        "failed": [times["failed"][k] for k in count],
        "dropped": [times["dropped"][k] for k in count],
    }
    if built.dishonest is not None:
        columns["dishonest"] = built.dishonest.tolist()
    if plans is not None:
        columns["sample_rate"] = plans.sample_rate.tolist()
        columns["noise_multiplier"] = plans.noise_multiplier.tolist()
        columns["steps"] = list(steps)  # with noise, charged
        columns["epsilon"] = [figure.epsilon for figure in figures]
        columns["delta"] = plans.budget.delta
        columns["accountant"] = [figure.accountant for figure in figures]
    table = pd.DataFrame(columns)
    if len(metrics):
        own = metrics[(metrics.scope == "client") & (metrics.model == "global")]
        own = own[(own.split == "test") & (own["round"] == own["round"].max())]
        for name in ("accuracy", "loss"):
            values: Mapping[str, float] = own[own.metric == name].set_index("key").value.to_dict()
            table[name] = [values.get(client, float("nan")) for client in data.clients]
    return table
