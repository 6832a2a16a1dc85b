"""What the tour found: tables for the terminal, Markdown and CSV to keep."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from experiments.tour_settings import NEEDS_A_FILE, SETTINGS
from fedmodel.display.tables import text_table

__all__ = ["Told", "checked", "printed", "save", "shown"]

METRICS = {"accuracy": "accuracy", "roc_auc": "AUC"}
SMALL = 50  # training records, below which a client's own noise drowns what it learnt


@dataclass(frozen=True, kw_only=True)
class Told:
    """A row a data set and model; a row a data set against scikit-learn; what it was run with."""

    table: pd.DataFrame  # data, metric, model, value, half, worst_client, worst_group, ...
    checks: pd.DataFrame  # data, metric, model, clients, pooled, scikit_learn, points, ...
    manifest: Mapping[str, Any]  # of a run: versions, hardware
    seeds: tuple[int, ...]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is read."""
    lines = []
    for row in table.to_dict("records"):
        half = "" if math.isnan(row["half"]) else f" ± {100 * row['half']:.1f}"
        lines.append(
            {
                "data set": row["data"],
                "model": row["model"],
                "measure": METRICS[row["metric"]],
                "mean": f"{100 * row['value']:.1f}{half}",
                "worst client": _percent(row["worst_client"]),
                "worst group": _percent(row["worst_group"]),
                "epsilon": _number(row.get("epsilon"), ".2f"),
                "delta": _number(row.get("delta"), "g"),
                "seconds": f"{row['seconds']:.1f}",
            }
        )
    return pd.DataFrame(lines)


def checked(checks: pd.DataFrame) -> pd.DataFrame:
    """Pooled models against scikit-learn's as they are read."""
    lines = []
    for row in checks.to_dict("records"):
        near = "yes" if abs(row["points"]) <= 1 else "no"
        lines.append(
            {
                "data set": row["data"],
                "model": row["model"],
                "measure": METRICS[row["metric"]],
                "clients": f"{row['clients']}",
                "training records: smallest, median": f"{row['smallest']}, {row['median']:g}",
                "pooled": f"{100 * row['pooled']:.2f}",
                "scikit-learn": f"{100 * row['scikit_learn']:.2f}",
                "points": f"{row['points']:+.2f}",
                "within one": near if row["same_family"] else f"{near} (another kind of model)",
            }
        )
    return pd.DataFrame(lines)


def printed(told: Told) -> tuple[Table, Table]:
    """Both tables for a terminal."""
    return (
        text_table(shown(told.table), "Every data set, in percent"),
        text_table(checked(told.checks), "Pooled, against scikit-learn on the same records"),
    )


def save(told: Told, folder: Path, *, command: str) -> list[Path]:
    """Write `tour-DATE.md`, and the numbers as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"tour-{datetime.now():%Y-%m-%d}"
    text = "\n".join(
        [
            "# Every data set\n",
            "All measures in percent; [how to read it](#how-to-read-it) stands below the tables.\n",
            _markdown(shown(told.table)),
            "## Pooled, against scikit-learn\n",
            _markdown(checked(told.checks)),
            "## How to read it\n",
            *(f"- {line}" for line in _about(told, command)),
            "",
        ]
    )
    paths = [Path(f"{stem}{end}") for end in (".md", ".csv", "-scikit-learn.csv")]
    paths[0].write_text(text, encoding="utf-8")
    told.table.to_csv(paths[1], index=False, float_format="%.6g")
    told.checks.to_csv(paths[2], index=False, float_format="%.6g")
    return paths


def _about(told: Told, command: str) -> list[str]:
    """How it was found, and what to be careful about."""
    where = told.manifest["hardware"]
    versions = ", ".join(
        f"{name} {told.manifest['versions'][name]}"
        for name in ("python", "fedmodel", "torch", "numpy")
    )
    tiny = told.checks[told.checks["median"] < SMALL]
    lines = [
        f"{datetime.now():%Y-%m-%d}, `python -m {command}`, engine inline, on {where['processor']}, "
        f"{where['cores']} cores, {where['memory_gib']} GiB; {versions}. Load "
        f"{os.getloadavg()[1]:.1f} at the end: above the number of cores the seconds are too many.",
        f"Seeds {', '.join(map(str, told.seeds))}; ± is half of the 95 % t-interval over them: of "
        "so few it is wide, and it says what another seed could give, not other people's records.",
        "Worst client: the measure at the client where it is smallest, among those with 10 test "
        "records or more, of each class where it is AUC. Worst group: accuracy in the sensitive group "
        "where it is smallest. Each is the smallest of a seed, averaged over seeds; a dash where nothing "
        "can be compared. Where clients differ in how often a class occurs, the worst client is one with "
        "little of the class that most records have.",
        "Local: each client's own model at its own test records. Where clients differ in how often a "
        "class occurs, each knows its own share, and they can do better than the pooled model, which "
        "does not see whose a record is. Its AUC pools the scores of all of them.",
        "Epsilon: the largest that a client spends in one run, by PRV. Delta: the largest power of ten that "
        "is at most 0.1 / n, with n the training records of the largest client. The seeds' runs together "
        "cost more, and these settings were chosen by looking at the records, which no epsilon counts.",
        "Seconds: of one seed, training and evaluation; local is all clients, one after the other.",
        "scikit-learn: LogisticRegression with its defaults on the same records, split and encoding; "
        "of texts, counts of hashed words, where the pooled model is a bag of embeddings. Its 131,000 "
        "parameters all get noise, of which little is left to see at epsilon 3.",
    ]
    if len(tiny):
        lines.append(
            f"The median client has fewer than {SMALL} training records in {', '.join(tiny.data)}: noise "
            "is drawn by each client for itself, and drowns what so few can tell. What their row with "
            "epsilon 3 shows, the larger clients have found."
        )
    fitted = [n for n in told.checks.data if SETTINGS[n].data.get("encode") == "pooled"]
    if fitted:
        lines.append(
            f"Scales of features were fitted on training records in {', '.join(fitted)}: no epsilon here "
            "counts that. The other tables are read by public ranges, texts are hashed."
        )
    lines.append("Left out: " + "; ".join(f"{n} {why}" for n, why in NEEDS_A_FILE.items()) + ".")
    return lines


def _markdown(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or math.isnan(value) else format(value, form)
