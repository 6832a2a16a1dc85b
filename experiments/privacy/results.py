"""What was found: a table and plots to read, the curves as CSV, and one page with all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame

from experiments.privacy.page import page
from fedmodel.runs.export import drawn
from fedmodel.runs.page import Figure
from fedmodel.runs.words import Kind, write

__all__ = ["COLUMNS", "Shown", "Told", "markdown", "save", "written"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """One row a setting, ROC curves, errors of inversion, and what they were found with."""

    table: DataFrame
    roc: DataFrame  # of, position, attack, false, true, setting
    inversion: DataFrame  # setting, epsilon, batch_size, rmse, ..., of
    scale: Mapping[str, Any]
    manifest: Mapping[str, Any]  # of the last run: versions, hardware
    data: str
    parameters: int
    records: Mapping[str, int]


@dataclass(frozen=True)
class Shown:
    """A column of the table as it is read."""

    name: str
    label: str
    kind: Kind
    meaning: str


COLUMNS = (
    Shown("accuracy", "accuracy", "percent", "of the shared model on test records; mean over seeds"),
    Shown("epsilon_upper", "ε at most", "number", "the accountant, at the run's delta"),
    Shown("epsilon_upper_small_delta", "ε at most, small δ", "number", "the accountant, at the delta of the canaries"),
    Shown("epsilon_lower", "ε at least, small δ", "number", "canaries in one run, at 95% confidence"),
    Shown("tpr_at_0.01", "TPR at 1% FPR", "percent", "members found by LiRA from the server's position, of runs like this one"),
    Shown("this_run_tpr_at_0.01", "this run at 1%", "percent", "the same of the run itself, whose only non-members are its test records"),
    Shown("this_run_tpr_at_0.1", "this run at 10%", "percent", "the same at 10% false positives"),
    Shown("auc", "AUC", "number", "of LiRA, runs like this one; 0.5 is guessing"),
    Shown("inversion_rmse", "inversion error", "number", "of a record read from one step, in standard deviations"),
    Shown("inversion_identified", "identified", "percent", "reconstructions nearer to their original than to any other record"),
)  # fmt: skip


def written(row: Mapping[str, Any], column: Shown) -> str:
    """A cell; a rate that stands on fewer than 10 false alarms is not measured."""
    value = row[column.name]
    if "tpr_at" in column.name and np.isnan(value):
        return "not measurable here"
    return write(value, column.kind)


def markdown(table: DataFrame) -> str:
    """The table as Markdown, with the meaning of each column below."""
    head = ["setting", *(column.label for column in COLUMNS)]
    lines = [
        [row["setting"], *(written(row, column) for column in COLUMNS)]
        for row in table.to_dict("records")
    ]
    parts = [head, ["---"] + ["---:"] * len(COLUMNS), *lines]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in parts)
    terms = "\n".join(f"- *{column.label}*: {column.meaning}." for column in COLUMNS)
    return f"{text}\n\n{terms}\n"


def save(told: Told, folder: Path, *, page_in: Path, command: str) -> list[Path]:
    """Write `tradeoff.md` with its plots and the numbers as CSV, and the page `tradeoff.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    date = f"{datetime.now():%Y-%m-%d %H:%M}"
    about = _about(told, command=command, date=date)
    rows = [
        [row["setting"], *(written(row, column) for column in COLUMNS)]
        for row in told.table.to_dict("records")
    ]
    columns = [(column.label, column.meaning) for column in COLUMNS]
    shown = page(told.table, told.roc, told.inversion, columns=columns, rows=rows, about=about)
    blocks = [block for section in shown.sections for block in section.blocks]
    figures = {
        re.sub(r"\W+", "-", block.title.lower()).strip("-"): block
        for block in blocks
        if isinstance(block, Figure)
    }
    pictures = "\n".join(
        f"## {figure.title}\n\n{figure.caption}\n\n![{figure.description}]({name}.svg)\n"
        for name, figure in figures.items()
    )
    lines = "\n".join(f"- {line}" for line in about)
    texts = {
        "tradeoff.md": f"# {shown.title}\n\n{markdown(told.table)}\n{lines}\n\n{pictures}",
        "tradeoff.csv": told.table.to_csv(index=False, float_format="%.6g"),
        "roc.csv": told.roc.to_csv(index=False, float_format="%.5g"),
        "inversion.csv": told.inversion.to_csv(index=False, float_format="%.5g"),
        **{f"{name}.svg": drawn(figure.spec) for name, figure in figures.items()},
    }
    paths = [page_in / "tradeoff.html"]
    paths[0].write_text(shown.render(), encoding="utf-8")
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def _about(told: Told, *, command: str, date: str) -> Sequence[str]:
    """How it was found, and what to be careful about."""
    scale, where = told.scale, told.manifest["hardware"]
    versions = ", ".join(
        f"{name} {number}" for name, number in told.manifest["versions"].items()
        if name in ("python", "fedmodel", "torch", "numpy")
    )  # fmt: skip
    first = told.table.iloc[0]
    deltas = told.table.delta.dropna()
    private = f"{deltas.iloc[0]:g}" if len(deltas) else "none"
    return (
        f"{date}, {command}: {told.table.processor_seconds.sum():.0f} s of a processor, "
        f"{told.table.seconds.sum():.0f} s by the clock, on {where['processor']}, "
        f"{where['cores']} cores, {where['memory_gib']} GiB; {versions}.",
        f"{told.data}: {told.records['train']} training and {told.records['test']} test records of "
        f"the first seed. MLP with {scale['hidden']} hidden units ({told.parameters} parameters), "
        f"{scale['rounds']} rounds; rate, batch and clip as in experiments/quickstart.toml, the same "
        "for all settings and tuned for none.",
        f"Accuracy over {scale['seeds']} seeds; audits of the first seed's run.",
        f"The run's delta is {private}, that of the canaries {first.small_delta:g}. How much canaries "
        "can show is limited by their number: the lower bound of the weak settings says that there "
        "is little privacy, not how little.",
        f"LiRA with {scale['shadows']} shadow federations. “Runs like this one” are these, each "
        f"attacked with the help of the others: {first.non_members:,} pairs of a non-member and a "
        f"model, not as many people. The run itself has {first.this_run_non_members} non-members; a "
        "rate is given where it stands on 10 false alarms.",
        f"Inversion of {scale['batches']} updates of one step on one record, at the largest client. "
        f"Guessing the mean of others' records is off by {first.inversion_rmse_of_guess:.3g}.",
    )
