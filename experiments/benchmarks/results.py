"""What a benchmark found: as a table to read, a picture, and numbers to work with."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import pandas as pd
import psutil

from experiments.benchmarks.peers import PEERS
from experiments.benchmarks.processes import Outcome

__all__ = ["Row", "machine", "rows_of", "save", "table"]

OURS = ("inline", "ray")
LONG = 100  # rounds, from which on it is told whether memory grew


@dataclass(frozen=True)
class Row:
    """One peer at one work, over all its repetitions."""

    work: str
    peer: str
    milliseconds: float = float("nan")  # median of a round after the first
    spread: tuple[float, float] = (float("nan"), float("nan"))  # the middle half of the rounds
    times_ours: float = float("nan")  # against the faster of our engines
    startup: float = float("nan")  # seconds
    memory: float = float("nan")  # MiB at the peak
    loss: float | None = None  # after `after` rounds
    setting: str = ""
    why: str = ""  # there are no numbers


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """The outcomes gathered: one row for each work and peer, in the order of `PEERS`."""
    rows = []
    works = list(dict.fromkeys(outcome.work for outcome in outcomes))
    for work in works:
        group = [
            _row(name, [o for o in outcomes if o.work == work and o.peer == name]) for name in PEERS
        ]
        found = [row for row in group if row is not None]
        ours = min((r.milliseconds for r in found if r.peer in OURS and not r.why), default=None)
        rows += [
            row if ours is None else Row(**{**vars(row), "times_ours": row.milliseconds / ours})
            for row in found
        ]
    return rows


def _row(peer: str, outcomes: Sequence[Outcome]) -> Row | None:
    if not outcomes:
        return None
    good = [outcome for outcome in outcomes if outcome.seconds]
    if not good:
        return Row(outcomes[0].work, peer, why=outcomes[0].why)
    times = pd.Series([1000 * s for outcome in good for s in outcome.seconds[1:]])
    lost = len(outcomes) - len(good)
    losses = [outcome.loss for outcome in good if outcome.loss is not None]
    return Row(
        good[0].work,
        peer,
        milliseconds=float(times.median()),
        spread=(float(times.quantile(0.25)), float(times.quantile(0.75))),
        startup=median(outcome.startup for outcome in good),
        memory=max(outcome.peak for outcome in good),
        loss=median(losses) if losses and peer != "floor" else None,
        setting="; ".join(filter(None, [_setting(good[0].setting), *_remarks(good[0], lost)])),
    )


def _remarks(outcome: Outcome, lost: int) -> Iterator[str]:
    if len(outcome.seconds) >= LONG:
        yield f"{outcome.growth[0]:.0f} MiB after a tenth of {len(outcome.seconds)} rounds, {outcome.growth[1]:.0f} at the end"
    if lost:
        yield f"{lost} further processes failed"


def _setting(setting: dict[str, Any]) -> str:
    named = [f"{value} {key}" for key, value in setting.items() if key == "threads"]
    named = [text.removesuffix("s") if text[:2] == "1 " else text for text in named]
    return ", ".join(named + [f"Opacus {v}" for k, v in setting.items() if k == "mode"])


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ["work", "peer", "ms a round", "middle half", "times ours", "start s", "MiB", "loss", ""]
    lines = [
        [
            row.work,
            PEERS[row.peer].title,
            *(
                [
                    _digits(row.milliseconds),
                    f"{_digits(row.spread[0])} to {_digits(row.spread[1])}",
                    _digits(row.times_ours),
                    f"{row.startup:.1f}",
                    f"{row.memory:.0f}",
                    "" if row.loss is None else f"{row.loss:.4f}",
                    row.setting,
                ]
                if not row.why
                else [""] * 6 + [row.why]
            ),
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in [head, rule, *lines]
    )


def _digits(value: float) -> str:
    """Three digits, never an exponent."""
    if value != value:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """Where and with which versions."""
    names = ("fedmodel", "flwr", "ray", "torch", "opacus", "numba", "numpy")
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "busy": f"load {psutil.getloadavg()[0]:.2f} of {psutil.cpu_count()} cores before it began",
        "versions": {name: _version(name) for name in names},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def save(outcomes: Sequence[Outcome], folder: Path, *, command: str, where: dict[str, Any]) -> None:
    """Write `results.json` (every round), `table.md` and `rounds.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(outcomes)
    told = {
        "date": datetime.now().isoformat(timespec="minutes"),
        "command": command,
        "machine": where,
        "rows": [asdict(row) for row in rows],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (folder / "results.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (folder / "table.md").write_text(_page(rows, told), encoding="utf-8")
    if any(not row.why for row in rows):
        picture(rows).save(str(folder / "rounds.svg"))


def _page(rows: Sequence[Row], told: dict[str, Any]) -> str:
    where = told["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    return f"""# Seconds a round, side by side

{told["date"]}, `{told["command"]}`

{where["processor"]}, {where["cores"]} cores, {where["memory_gib"]} GiB, {where["system"]},
Python {where["python"]}; {versions}; {where["busy"]}.

{table(rows)}

Each peer ran in processes of its own, in turn. *ms a round*: median over rounds after the first, of
all processes; *middle half*: their quartiles; *times ours*: against the faster fedmodel engine;
*start*: from starting the process to the end of the first round, less one round; *MiB*: most memory
of the process and its children at once, shared pages counted once; *loss*: cross-entropy on test
records after the work's number of rounds. Nobody evaluates and nobody accounts during the rounds.

![milliseconds a round](rounds.svg)
"""


def picture(rows: Sequence[Row]) -> alt.FacetChart:
    """Milliseconds a round on a logarithmic axis, one panel a work."""
    shown = [row for row in rows if not row.why]
    frame = pd.DataFrame(
        {
            "work": row.work,
            "peer": PEERS[row.peer].title,
            "ms": row.milliseconds,
            "label": f"{_digits(row.milliseconds)} ms",
            "kind": "fedmodel"
            if row.peer in OURS
            else "reference"
            if row.peer in ("floor", "central")
            else "peer",
        }
        for row in shown
    )
    order = [PEERS[name].title for name in PEERS]
    colours = alt.Scale(
        domain=["fedmodel", "peer", "reference"], range=["#0f6b6b", "#b4622d", "#9a9a94"]
    )
    base = alt.Chart(frame).encode(y=alt.Y("peer:N", sort=order, title=None))
    points = base.mark_circle(size=90, opacity=1).encode(
        x=alt.X("ms:Q", scale=alt.Scale(type="log"), title="milliseconds a round (log scale)"),
        color=alt.Color("kind:N", scale=colours, title=None),
    )
    labels = base.mark_text(align="left", dx=8, fontSize=10).encode(x="ms:Q", text="label:N")
    return (
        alt.layer(points, labels)
        .properties(width=420, height=alt.Step(20))
        .facet(row=alt.Row("work:N", sort=list(dict.fromkeys(frame.work)), title=None))
        .resolve_scale(y="independent")
    )
