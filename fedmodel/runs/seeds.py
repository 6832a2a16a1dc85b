"""The runs of one experiment with several seeds: the frames of all, their means and intervals."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from fedmodel.config_file import parsed
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.repeated import half_width
from fedmodel.privacy.composition import histories_of
from fedmodel.privacy.repeated import composed_epsilon
from fedmodel.runs.folder import read_table
from fedmodel.runs.manifest import read_manifest
from fedmodel.runs.run import Run
from fedmodel.runs.words import limits_of

__all__ = ["SeedRuns", "holds_several", "place_of"]

WHAT = ["split", "model", "scope", "key", "metric"]  # what a value is of


def place_of(seed: int) -> str:
    """The folder of a seed's run, in that of all."""
    return f"seed-{seed}"


def holds_several(path: Path) -> bool:
    """Whether this is a folder of several runs, one a seed."""
    file = path / "manifest.json"
    return file.is_file() and "runs" in read_manifest(file)


class SeedRuns:
    """The runs of several seeds. Frames are those of `Run` with a column `seed` before the others."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not holds_several(self.path):
            raise FedmodelError(
                f"{self.path} does not hold the runs of several seeds",
                fix="Give the folder that `fedmodel run` of an experiment with `seeds` printed.",
            )

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, seeds and where their runs are, what they release together, notes."""
        return read_manifest(self.path / "manifest.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The experiment with its seeds, as the TOML has it."""
        return parsed(self.path / "config.toml")[0]

    @property
    def seeds(self) -> list[int]:
        """All seeds of the experiment, in its order."""
        return self.manifest["seeds"]

    @property
    def runs(self) -> dict[int, Run]:
        """The run of each seed that has begun."""
        places = {seed: self.path / place_of(seed) for seed in self.seeds}
        return {s: Run(p) for s, p in places.items() if (p / "manifest.json").is_file()}

    @property
    def finished(self) -> dict[int, Run]:
        """The runs that are finished: the only ones whose last values can be averaged."""
        return {seed: run for seed, run in self.runs.items() if run.manifest["finished"]}

    @property
    def metrics(self) -> pd.DataFrame:
        """Tidy: seed, round, split, model, scope, key, metric, value."""
        return self._together("metrics")

    @property
    def clients(self) -> pd.DataFrame:
        """One row a seed and client. Where the partition is drawn, a client's name is all that a
        client of one seed has in common with one of another."""
        return self._together("clients")

    @property
    def epsilon(self) -> pd.DataFrame:
        """Cumulative within each seed's run: seed, round, client, epsilon, delta, accountant."""
        return self._together("epsilon")

    @property
    def rounds(self) -> pd.DataFrame:
        """One row a seed and round."""
        return self._together("rounds")

    @property
    def by_round(self) -> pd.DataFrame:
        """Each metric over the seeds that have it in a round: seeds, mean, std, low, high, where low
        and high are the 95 % t-interval of the mean."""
        return _over_seeds(self.metrics, ["round", *WHAT])

    @property
    def summary(self) -> pd.DataFrame:
        """Each metric over the finished runs, at their last round: split, model, scope, key, metric,
        seeds, mean, std, low, high (the 95 % t-interval of the mean)."""
        return _over_seeds(self.last_values, WHAT)

    @property
    def last_values(self) -> pd.DataFrame:
        """The metrics of the finished runs at the last round that each model was evaluated in."""
        frame = self._together("metrics", self.finished)
        last = frame.groupby(["seed", "model"])["round"].transform("max")
        return frame[frame["round"] == last].reset_index(drop=True)

    @property
    def report(self) -> Path:
        """The HTML report over all seeds; each run has its own."""
        return self.path / "report.html"

    @property
    def model(self) -> NoReturn:
        """There is none of all: a mean of models would be another model.

        Raises:
            FedmodelError: always.
        """
        raise FedmodelError(
            f"each of the {len(self.seeds)} seeds has a model of its own",
            fix=f"Take one of them, e.g. `.runs[{self.seeds[0]}].model`.",
        )

    def last(self, metric: str, *, model: str = "global", split: str = "test") -> float:
        """The mean of a global metric over the finished runs, after the last round."""
        rows = self.summary
        rows = rows[(rows.metric == metric) & (rows.model == model) & (rows.split == split)]
        rows = rows[rows.scope == "global"]
        return float(rows["mean"].iloc[0]) if len(rows) else math.nan

    def composed_epsilon(self) -> float | None:
        """Epsilon of all runs together for a training record (or client), at their delta, of all that
        they released of it, private feature scales among it; None without [privacy].
        See `fedmodel.privacy.repeated`."""
        histories, delta = [], None
        for run in self.runs.values():
            stated, file = run.manifest.get("privacy", {}), run.path / "released.parquet"
            if "unit" not in stated or not file.is_file():
                continue
            delta = stated["delta"]
            released = read_table(file)
            histories.append(histories_of([released[released.records != "evaluation"]]).values())
        return None if delta is None else composed_epsilon(histories, delta=delta)

    def _together(self, frame: str, runs: dict[int, Run] | None = None) -> pd.DataFrame:
        parts = []
        for seed, run in (self.runs if runs is None else runs).items():
            part = getattr(run, frame)
            part.insert(0, "seed", seed)
            parts.append(part)
        if not parts:
            names = ["seed", *(["round", *WHAT, "value"] if frame == "metrics" else [])]
            none = pd.DataFrame({name: pd.Series(dtype=object) for name in names})
            return none.astype({name: float for name in names if name == "value"})
        return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)

    def __repr__(self) -> str:
        return f"SeedRuns({str(self.path)!r})"


def _over_seeds(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean, standard deviation and t-interval of `value`, cut to where the metric can lie; what is
    undefined in a seed is left out."""
    table = frame.groupby(by, sort=False).value.agg(["count", "mean", "std"]).reset_index()
    table = table.rename(columns={"count": "seeds"})
    half = half_width(table["std"].to_numpy(), table["seeds"].to_numpy(float))
    limits = np.array([limits_of(name) for name in table.metric]).reshape(-1, 2)
    low, high = table["mean"] - half, table["mean"] + half
    return table.assign(low=low.clip(lower=limits[:, 0]), high=high.clip(upper=limits[:, 1]))
