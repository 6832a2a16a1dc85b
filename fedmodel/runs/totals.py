"""What several runs on the same records cost together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedmodel.errors import FedmodelError
from fedmodel.privacy.checks import check_delta
from fedmodel.privacy.composition import add_up
from fedmodel.runs.folder import RunFolder

__all__ = ["Total", "total"]

SAME = {
    "records_fingerprint": "records, or in the clients that hold them",
    "unit": "unit of privacy",
    "neighbours": "relation of neighbours",
}


@dataclass(frozen=True, kw_only=True)
class Total:
    """Epsilon of each client by run and of all runs together, and what to know about it."""

    table: pd.DataFrame  # client, records, one column a run, "together"
    delta: float
    accountant: str
    sentences: tuple[str, ...]


def total(paths: Sequence[Path | str], *, delta: float | None = None) -> Total:
    """Add up what private runs on the same records and clients released.

    By one accountant over all their histories: RDP where any of the runs has it, PRV otherwise.
    Training and evaluation records have ledgers apart if all runs split the records alike;
    where they do not, a record may have been in both, and so both add up. `delta` is that of the
    sum (default: the largest of the runs').

    Raises:
        FedmodelError: a folder is no private run, is given twice, or is about other records.
    """
    where = "fedmodel privacy total"
    folders = [Path(path) for path in paths]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise FedmodelError("a run is given twice", where=where, fix="Give each run once.")
    runs = [_read(folder) for folder in folders]
    _check_same(runs, where=where)
    if delta is None:
        delta = max(run["delta"] for run in runs)
    check_delta(delta)
    slack = any(run["accountant"] != "prv" for run in runs)
    accountant = "rdp" if slack else "prv"
    apart = len({run["split"] for run in runs}) == 1
    names = [run["name"] for run in runs]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    parts = []
    tables = [run["released"] for run in runs]
    if not apart:
        tables = [table.assign(records="any") for table in tables]
    for records in dict.fromkeys(kind for table in tables for kind in table.records):
        own = [table[table.records == records] for table in tables]
        columns = {
            name: {
                client: f.epsilon
                for client, f in add_up([table], delta=delta, accountant=accountant).items()
            }
            for name, table in zip(names, own, strict=True)
        }
        together = add_up(own, delta=delta, accountant=accountant)
        columns["together"] = {client: figure.epsilon for client, figure in together.items()}
        part = pd.DataFrame(columns).fillna(0.0).rename_axis("client").reset_index()
        part.insert(1, "records", records)
        parts.append(part)
    return Total(
        table=pd.concat(parts, ignore_index=True),
        delta=delta,
        accountant=accountant,
        sentences=tuple(_sentences(runs, apart=apart)),
    )


def _read(path: Path) -> dict[str, Any]:
    folder = RunFolder.open(path)
    manifest, file = folder.manifest, path / "released.parquet"
    stated = manifest.get("privacy")
    if stated is None or not file.is_file():
        raise FedmodelError(
            f"{path} does not say what it released",
            where=str(file),
            fix="Give runs with [privacy], or with noise on [evaluation]; one that was cut off has to be "
            "resumed first (`fedmodel resume`).",
        )
    evaluation = stated.get("evaluation", {})
    return {
        "name": path.name,
        "finished": manifest["finished"],
        "released": pd.read_parquet(file),
        "records_fingerprint": manifest["records_fingerprint"],
        "split": manifest["split_fingerprint"],
        "unit": stated.get("unit", evaluation.get("unit")),
        "neighbours": stated.get("neighbours", evaluation.get("neighbours")),
        "delta": max(part["delta"] for part in (stated, evaluation) if "delta" in part),
        "accountant": stated.get("accountant", "prv"),
        "seed": manifest["seed"],
        "simulated": stated.get("simulated", evaluation.get("simulated")),
    }


def _check_same(runs: Sequence[dict[str, Any]], *, where: str) -> None:
    for run in runs[1:]:
        for key, what in SAME.items():
            if run[key] != runs[0][key]:
                raise FedmodelError(
                    f"{runs[0]['name']} and {run['name']} differ in their {what}",
                    where=where,
                    fix="Add up runs on the same data and partition (with its seed) that protect the same.",
                )


def _sentences(runs: Sequence[dict[str, Any]], *, apart: bool) -> list[str]:
    said = []
    if not apart:
        said.append(
            "The runs split the records differently: what trains one may evaluate another, so what both "
            "released is added up for every record."
        )
    seeds = [run["seed"] for run in runs if run["simulated"]]
    if len(set(seeds)) < len(seeds):
        said.append(
            "Runs of the same seed draw the same noise. The sum is what they would cost with noise of "
            "their own, as in reality; whoever sees two of these simulations can subtract it."
        )
    said.append(
        "What lies outside the guarantee of each run, in its report, is outside the sum too."
    )
    if cut := [run["name"] for run in runs if not run["finished"]]:
        said.append(f"Not finished, and counted as far as they are: {', '.join(cut)}.")
    return said
