"""What is in a run folder in other programs' forms: CSV, TensorBoard's event files, SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert

from fedmodel.errors import FedmodelError, nearest
from fedmodel.runs.folder import read_table
from fedmodel.runs.run import Run, load
from fedmodel.runs.seeds import SeedRuns
from fedmodel.runs.style import CONFIG, VEGA_LITE

__all__ = ["FORMATS", "export"]

WIDTH = 640  # pixels of a figure
FRAMES = ("metrics", "clients", "epsilon", "rounds")


def export(path: Path, to: Path, *, form: str) -> list[Path]:
    """Write a run, or the runs of several seeds, to the folder `to`; return what was written.

    Raises:
        FedmodelError: no run, an unknown format, a folder with something in it, or TensorBoard's
            package is missing.
    """
    run = load(path)
    if form not in FORMATS:
        raise FedmodelError(
            f"nothing is exported as {form}",
            where="--format",
            fix=nearest(form, FORMATS, what="the formats are"),
        )
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise FedmodelError(
            f"{to} is not empty", where="--to", fix="Give a new folder; nothing is overwritten."
        )
    return FORMATS[form](run, to)


def _csv(run: Run | SeedRuns, to: Path) -> list[Path]:
    """Every table: frames of the run, and those of its audits. Lists are JSON."""
    tables = {name: getattr(run, name) for name in FRAMES}
    if isinstance(run, SeedRuns):
        tables |= {"summary": run.summary, "by_round": run.by_round}
    for file in sorted(run.path.glob("audits/*/*.parquet")):
        tables[f"audit-{file.parent.name}-{file.stem}"] = read_table(file)
    return [_write_csv(table, to / f"{name}.csv") for name, table in tables.items() if len(table)]


def _write_csv(table: pd.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nested = {
        name: table[name].map(lambda v: json.dumps(v) if isinstance(v, list | dict) else v)
        for name in table.select_dtypes("object").columns
    }
    table.assign(**nested).to_csv(file, index=False)
    return file


def _tensorboard(run: Run | SeedRuns, to: Path) -> list[Path]:
    """Global metrics and the largest epsilon by round, a folder a model (and seed) to hold apart."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise FedmodelError(
            "the package tensorboard, which writes event files, is not installed",
            where="--format tensorboard",
            fix='Install it: pip install "fedmodel[tensorboard]"; or take --format csv.',
        ) from None
    runs = run.runs if isinstance(run, SeedRuns) else {None: run}
    for seed, one in runs.items():
        rows = one.metrics
        rows = rows[(rows.scope == "global") & rows.value.notna()]
        for model, own in rows.groupby("model"):
            place = to if seed is None else to / f"seed-{seed}"
            with SummaryWriter(str(place / str(model))) as writer:
                for row in own.sort_values("round").itertuples():
                    writer.add_scalar(f"{row.split}/{row.metric}", row.value, row.round)
                if model == "global" and len(one.epsilon):
                    for number, epsilon in one.epsilon.groupby("round").epsilon.max().items():
                        writer.add_scalar("privacy/largest_epsilon", epsilon, number)
    return sorted(to.rglob("events.*"))


def _svg(run: Run | SeedRuns, to: Path) -> list[Path]:
    """Each figure of the run's pages, in the colours of the light theme."""
    written = []
    for page in ("report.html", "audit.html"):
        if not (run.path / page).is_file():
            continue
        found = _Figures((run.path / page).read_text(encoding="utf-8"))
        for number, (title, spec) in enumerate(found.figures, 1):
            name = re.sub(r"\W+", "-", title.lower()).strip("-")
            file = to / f"{page.removesuffix('.html')}-{number:02}-{name}.svg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(drawn(spec), encoding="utf-8")
            written.append(file)
    return written


FORMATS = {"csv": _csv, "tensorboard": _tensorboard, "svg": _svg}


def drawn(spec: Mapping[str, Any]) -> str:
    """A chart of a page as an SVG file that stands alone."""
    css = files("fedmodel.runs").joinpath("page.css").read_text(encoding="utf-8")
    light = css.split("}", 1)[0]  # the first rule; the dark theme overrides it
    colours = dict(re.findall(r"(--[\w-]+): (#\w+);", light))
    # The page defines these; a file of its own needs the values, and a width.
    text = re.sub(r"var\((--[\w-]+)\)", lambda m: colours[m[1]], json.dumps([spec, CONFIG]))
    whole, config = json.loads(text)
    if whole.get("width") == "container":
        whole["width"] = WIDTH
    return vl_convert.vegalite_to_svg({**whole, "config": config}, vl_version=VEGA_LITE)


class _Figures(HTMLParser):
    """The figures of a page of ours: their titles, in order, and what they draw."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.at, self.specs = "", ""
        self.titles: list[str] = []
        self.numbers: list[int] = []
        self.feed(text)
        specs = json.loads(self.specs or "[]")
        self.figures = [(t, specs[number]) for t, number in zip(self.titles, self.numbers)]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "figcaption":
            self.titles.append("")
            self.at = "title"
        elif tag == "script" and given.get("id") == "specs":
            self.at = "specs"
        elif number := given.get("data-figure"):
            self.numbers.append(int(number))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h3", "script"):
            self.at = ""

    def handle_data(self, data: str) -> None:
        if self.at == "title":
            self.titles[-1] += data.strip()
        elif self.at == "specs":
            self.specs += data
