"""Audit a run or an experiment: the chosen audits, their tables, one page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fedmodel.audits.finding import Finding
from fedmodel.catalogue import KINDS, Component
from fedmodel.errors import FedmodelError, RunFailed, nearest
from fedmodel.experiment import Experiment
from fedmodel.runs.folder import RunFolder
from fedmodel.runs.page import Page
from fedmodel.runs.words import listed, write

__all__ = ["audit", "chosen", "spoken", "subject"]

KEY_FIGURES = 3  # of each audit, at the top of the page


def subject(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Experiment, Path]:
    """The experiment to audit, of a run folder or a file, and where its findings go by default.

    Raises:
        FedmodelError: neither is there, a run is unfinished, or a run is to be changed.
    """
    if not path.is_dir():
        experiment = Experiment.read(path, overrides)
        return experiment, Path("audits") / f"{experiment.file_name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = RunFolder.open(path)
    if overrides:
        raise FedmodelError(
            "a run is audited as it was run: its experiment cannot be changed",
            where=f"--set {next(iter(overrides))}",
            fix="Audit the experiment file with this change, or run it anew.",
        )
    if not folder.manifest["finished"]:
        raise FedmodelError(
            f"the run in {path} is not finished",
            fix=f"Finish it first: `fedmodel resume {path}`.",
        )
    experiment = Experiment.read(path / "config.toml")
    experiment.folder = folder
    return experiment, path


def chosen(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Component]:
    """The audits of these names (all, if there are none), with their options checked.

    Raises:
        FedmodelError: an unknown audit or option, or options of an audit that is not chosen.
    """
    options = options or {}
    names = list(dict.fromkeys(names)) or list(KINDS["audit"].names())
    for name in options:
        if name not in names:
            raise FedmodelError(
                f"there are options for the audit {name}, which is not asked for",
                where=f"--set audit.{name}",
                fix=nearest(name, names, what="the audits asked for are"),
            )
    return [
        KINDS["audit"].bind(
            {"name": name, **options.get(name, {})},
            base=Path.cwd(),
            where=lambda *keys, name=name: (
                f"--set audit.{'.'.join((name, *map(str, keys)))}"
                if keys != ("name",)
                else "--audit"
            ),
        )
        for name in names
    ]


def audit(experiment: Experiment, audits: Sequence[Component], *, out: Path) -> list[Finding]:
    """Run the audits, in this process; keep each one's tables as soon as it is done, then the page.

    Where there are several, one without options that refuses the experiment becomes a note.
    Writes ``audits/<name>/*.parquet``, ``audits/<name>/figures.json`` and ``audit.html`` below
    `out`, which is the run's own folder, or new or empty.

    Raises:
        FedmodelError: what all audits refuse, or a folder with something else in it.
    """
    own = experiment.folder is not None and experiment.folder.path.resolve() == out.resolve()
    if not own and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FedmodelError(
            f"{out} is not empty", where="--out", fix="Give a new folder, or the run's own."
        )
    folder, findings, refusals = RunFolder(out), [], []
    for component in audits:
        try:
            finding = component(experiment)
        except RunFailed:
            raise
        except FedmodelError as refusal:
            if len(audits) == 1 or component.options:
                raise  # it was asked for, or its options are at fault
            refusals.append(f"{component.name} does not fit: {refusal.problem}. {refusal.fix}")
            last = refusal
            continue
        for name, table in finding.tables.items():
            folder.write_table(f"audits/{finding.name}/{name}.parquet", table)
        figures = {n: v if math.isfinite(v) else None for n, v in finding.figures.items()}
        folder.write(f"audits/{finding.name}/figures.json", json.dumps(figures, indent=2) + "\n")
        findings.append(finding)
    if not findings:
        raise last
    folder.write("audit.html", _page(experiment, findings, refusals).render())
    return findings


def spoken(name: str) -> str:
    """A figure's name as a reader has it.

    >>> spoken("peer_client_tpr_at_0.01"), spoken("epsilon_lower")
    ('peer client TPR at 1% FPR', 'epsilon lower')
    """
    before, at, rate = name.partition("tpr_at_")
    if at:
        return f"{spoken(before)}TPR at {100 * float(rate):g}% FPR"
    return name.replace("_", " ").replace("auc", "AUC")


def _page(experiment: Experiment, findings: Sequence[Finding], refused: Sequence[str]) -> Page:
    data, config = experiment.built.data, experiment.config
    about = (
        data.card.title,
        f"{data.num_clients} clients",
        f"{config.rounds} rounds",
        f"model {config.model.name}",
        f"seed {config.seed}",
    )
    return Page(
        title=f"Audit of {experiment.name}",
        about=about,
        headline=f"What {listed(finding.name for finding in findings)} found: attacks on "
        "purpose, whose success bounds from below what this training gives away.",
        key_figures=[
            (f"{finding.name}: {spoken(name)}", _written(value), "")
            for finding in findings
            for name, value in list(finding.figures.items())[:KEY_FIGURES]
        ],
        notes=refused,
        sections=[finding.section for finding in findings],
    )


def _written(value: float) -> str:
    return "not measurable" if math.isnan(value) else write(value)
