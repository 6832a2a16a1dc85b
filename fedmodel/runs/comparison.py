"""Runs side by side: their results, how far each differs from the first, and in which settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fedmodel.config import Config
from fedmodel.errors import FedmodelError, shown
from fedmodel.evaluation.repeated import Interval, newcombe, paired, t_interval, welch
from fedmodel.runs.run import Run, load
from fedmodel.runs.seeds import SeedRuns
from fedmodel.runs.words import limits_of, listed

__all__ = ["COMPARED", "Comparison", "compare", "explained"]

COMPARED = (
    "accuracy",
    "roc_auc",
    "loss",
    "accuracy_worst_decile",
    "demographic_parity_difference",
    "equalized_odds_difference",
)
HOW = {
    "paired": "paired t, {number} seeds",
    "welch": "Welch",
    "newcombe": "Newcombe, {number:,} records",
    "other": "none: other test records",
    "noised": "none: counts were noised",
    "one": "none: one seed",
    "unmeasured": "none: not measured in both",
}
MEANING = {
    "paired t": "the t-interval of the differences at the seeds that both runs have",
    "Welch": "the runs have no two seeds in common, so their values are taken as independent",
    "Newcombe": (
        "of two shares of the same number of records, taken as independent: models that are wrong about "
        "the same records differ less by chance than it allows for"
    ),
    "none": "give both runs two seeds or more, the same ones, for an interval",
}


@dataclass(frozen=True)
class Side:
    """One of the runs that are compared: by seed, the runs it is made of."""

    label: str
    whole: Run | SeedRuns
    runs: Mapping[int, Run]

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Global metrics on test records of the federated model, with a column seed."""
        parts = []
        for seed, run in self.runs.items():
            rows = run.metrics
            rows = rows[
                (rows.split == "test") & (rows.scope == "global") & (rows.model == "global")
            ]
            parts.append(rows[["round", "metric", "value"]].assign(seed=seed))
        return pd.concat(parts, ignore_index=True)

    def values(self, metric: str) -> dict[int, float]:
        """The last value of each seed that has one."""
        rows = self.metrics[self.metrics.metric == metric].dropna(subset=["value"])
        last = rows.sort_values("round").drop_duplicates("seed", keep="last")
        return dict(zip(last.seed.tolist(), last.value.tolist()))

    @cached_property
    def spent(self) -> pd.DataFrame:
        """The largest epsilon of a client and seed by round: columns round, value."""
        frames = [run.epsilon for run in self.runs.values()]
        frames = [frame for frame in frames if len(frame)]
        if not frames:
            return pd.DataFrame({"round": [], "value": []})
        largest = pd.concat(frames).groupby("round").epsilon.max()
        return largest.rename("value").reset_index()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The experiment by dotted key, defaults of its tables filled in where this version can."""
        raw = self.whole.config
        try:
            raw = Config.model_validate(raw).model_dump(exclude_none=True)
        except ValidationError:  # of another version
            raw = dict(raw)
        for own in ("name", "seed", "seeds"):
            raw.pop(own, None)
        return {**dict(_dotted(raw)), "seeds": list(self.runs)}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Frames for the terminal and the page; the first run is what the others are held against."""

    runs: tuple[str, ...]
    # run, seeds, finished, each metric with _low and _high, epsilon, seconds
    table: pd.DataFrame
    differences: pd.DataFrame  # run, metric, difference, low, high, how
    settings: pd.DataFrame  # key, and a column a run
    curves: pd.DataFrame  # run, metric, round, value, low, high
    notes: tuple[str, ...]


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare finished or unfinished runs, of one or of several seeds each.

    Raises:
        FedmodelError: fewer than two runs, one twice, or a folder that holds none.
    """
    sides = _sides(paths)
    first = sides[0]
    return Comparison(
        runs=tuple(side.label for side in sides),
        table=pd.DataFrame([_row(side) for side in sides]),
        differences=pd.DataFrame(
            [
                {"run": side.label, "metric": m, **_difference(first, side, m)}
                for side in sides[1:]
                for m in COMPARED
                if first.values(m) or side.values(m)
            ],
            columns=["run", "metric", "difference", "low", "high", "how"],
        ),
        settings=_settings(sides),
        curves=pd.concat([_curves(side) for side in sides], ignore_index=True),
        notes=tuple(_notes(sides)),
    )


def _sides(paths: Sequence[Path]) -> list[Side]:
    if len(paths) < 2:
        raise FedmodelError(
            "there is nothing to compare one run with",
            where="fedmodel compare",
            fix="Give the folders of two runs or more; the others are held against the first.",
        )
    places = [path.resolve() for path in paths]
    names, sides = [path.name for path in places], []
    for path, place in zip(paths, places):
        if places.count(place) > 1:
            raise FedmodelError(
                f"{path} is given twice", where="fedmodel compare", fix="Give each run once."
            )
        whole = load(path)
        if isinstance(whole, SeedRuns):
            runs = whole.finished or whole.runs
        else:
            runs = {whole.manifest["seed"]: whole}
        if not runs or not any(len(run.metrics) for run in runs.values()):
            raise FedmodelError(
                f"the run in {path} has no round yet",
                where="fedmodel compare",
                fix=f"Go on with it first: `fedmodel resume {path}`.",
            )
        sides.append(Side(place.name if names.count(place.name) == 1 else str(path), whole, runs))
    return sides


def _row(side: Side) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": side.label,
        "seeds": len(side.runs),
        "finished": side.whole.manifest["finished"],
    }
    for metric in COMPARED:
        values = np.array(list(side.values(metric).values()))
        found = Interval(math.nan, math.nan, math.nan)
        if len(values):
            found = t_interval(values, limits=limits_of(metric))
        row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
    seconds = [run.manifest["seconds"] for run in side.runs.values()]
    spent = side.spent.value.max() if len(side.spent) else math.nan
    return {**row, "epsilon": spent, "seconds": float(np.mean(seconds))}


def _difference(first: Side, second: Side, metric: str) -> dict[str, Any]:
    """Second minus first, the interval that its data allow, and which it is."""
    a, b, limits = first.values(metric), second.values(metric), limits_of(metric)
    if not a or not b:
        return _told(Interval(math.nan, math.nan, math.nan), "unmeasured")
    common = sorted(set(a) & set(b))
    if len(common) > 1:
        pairs = (np.array([values[s] for s in common]) for values in (a, b))
        return _told(paired(*pairs, limits=limits), "paired", number=len(common))
    if not common and min(len(a), len(b)) > 1:
        each = (np.array(list(values.values())) for values in (a, b))
        return _told(welch(*each, limits=limits), "welch")
    if common:
        a, b = ({s: values[s] for s in common} for values in (a, b))
    difference = float(np.mean(list(b.values())) - np.mean(list(a.values())))
    nothing = Interval(difference, math.nan, math.nan)
    if metric != "accuracy":
        return _told(nothing, "one")
    if not common or not _same_records(first, second, common[0]):
        return _told(nothing, "other")
    if first.values("accuracy_low") or second.values("accuracy_low"):
        return _told(nothing, "noised")
    seed = common[0]
    number = first.values("num_records")[seed]
    found = newcombe(a[seed], b[seed], first_of=number, second_of=number)
    return _told(found, "newcombe", number=int(number))


def explained(found: Comparison) -> list[tuple[str, str]]:
    """The kinds of interval in a comparison, and what each of them takes for granted."""
    used = " ".join(found.differences.how)
    return [(kind, meaning) for kind, meaning in MEANING.items() if kind in used]


def _told(found: Interval, how: str, *, number: int = 0) -> dict[str, Any]:
    return {
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "how": HOW[how].format(number=number),
    }


def _same_records(first: Side, second: Side, seed: int) -> bool:
    return _fingerprint(first, seed) == _fingerprint(second, seed)


def _fingerprint(side: Side, seed: int) -> str:
    manifest = side.runs[seed].manifest
    return manifest.get("test_fingerprint", manifest["data_fingerprint"])


def _curves(side: Side) -> pd.DataFrame:
    """Each metric by round, its mean over the seeds that are all there, and the t-interval."""
    rows = []
    for (metric, number), group in side.metrics.groupby(["metric", "round"]):
        if metric in COMPARED and len(group) == len(side.runs):
            found = t_interval(group.value.to_numpy(), limits=limits_of(metric))
            rows.append((side.label, metric, number, *found))
    return pd.DataFrame(rows, columns=["run", "metric", "round", "value", "low", "high"])


def _settings(sides: Sequence[Side]) -> pd.DataFrame:
    """The keys that differ, as the TOML would write them; "–" where a run leaves one out."""
    keys = dict.fromkeys(key for side in sides for key in side.settings)
    rows = []
    for key in keys:
        written = [shown(s.settings[key]) if key in s.settings else "–" for s in sides]
        if len(set(written)) > 1:
            rows.append((key, *written))
    return pd.DataFrame(rows, columns=["key", *(side.label for side in sides)])


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    first = sides[0]
    for side in sides:
        if not side.whole.manifest["finished"]:
            yield f"{side.label} is not finished: its values are those so far."
    for side in sides[1:]:
        common = set(side.runs) & set(first.runs)
        if not common:
            yield (
                f"{side.label} and {first.label} have no seed in common: where the split is drawn, they "
                "are not evaluated on the same test records."
            )
        elif not all(_same_records(first, side, seed) for seed in common):
            yield (
                f"{side.label} and {first.label} differ in data, partition or split: they are not "
                "evaluated on the same test records."
            )
    for what, of in (
        ("versions of fedmodel", lambda m: m.get("versions", {}).get("fedmodel")),
        ("processors, so that times cannot be compared", lambda m: m["hardware"]["processor"]),
    ):
        found = dict.fromkeys(str(of(side.whole.manifest)) for side in sides)
        if len(found) > 1:
            yield f"The runs come from different {what}: {listed(found)}."
