"""A run as its user sees it: data frames, the model, the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedmodel.config_file import parsed
from fedmodel.runs.folder import RunFolder, read_table

if TYPE_CHECKING:
    from torch import nn

    from fedmodel.runs.seeds import SeedRuns

__all__ = ["Run", "load"]


class Run:
    """What is in a run folder. Frames are read when they are asked for."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.folder = RunFolder.open(self.path)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, seed, data fingerprint, git state, hardware, notes."""
        return self.folder.manifest

    @cached_property
    def config(self) -> dict[str, Any]:
        """The experiment as it was run, as the TOML has it."""
        return parsed(self.path / "config.toml")[0]

    @property
    def partition(self) -> str:
        """The name of its partitioner."""
        return self.config.get("partition", {"name": "natural"})["name"]

    @property
    def metrics(self) -> pd.DataFrame:
        """Tidy: round, split, model, scope (global, group, client), key, metric, value."""
        return self.folder.metrics()

    @property
    def clients(self) -> pd.DataFrame:
        """One row a client: sizes, rounds, refusals, noise, epsilon, its last accuracy."""
        return self._table("clients", ("client",))

    @property
    def epsilon(self) -> pd.DataFrame:
        """Cumulative: round, client, epsilon, delta, accountant; empty without [privacy]."""
        return self._table("epsilon", ("round", "client", "epsilon", "delta", "accountant"))

    @property
    def cross_site(self) -> pd.DataFrame:
        """One row for each model at each client, if the reference "cross_site" was asked for."""
        return self._table("cross_site", ("model", "client", "num_records", "correct", "accuracy"))

    @property
    def rounds(self) -> pd.DataFrame:
        """One row a round: seconds, and who trained, declined, dropped out or failed."""
        return pd.DataFrame(self.folder.entries())

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @cached_property
    def model(self) -> nn.Module:
        """The global model after the last round, ready to use."""
        from fedmodel.runs.predict import saved_model

        return saved_model(self.path).module

    def predict(
        self,
        frame: pd.DataFrame,
        *,
        best: bool = False,
        client: str | None = None,
        allow_unknown: bool = False,
        keep: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Class and probabilities of records in the columns of the data set, before encoding.

        Args:
            frame: a row a record; texts in the column of the texts. What is missing is NaN.
            best: the model of the best round by validation records, not of the last.
            client: whose records these are, where each client has a scale of its own.
            allow_unknown: an unknown category counts as none of the known ones, in place of an
                error.
            keep: further columns of the frame to carry over.

        Returns:
            The kept columns, `prediction` (the most probable class), `probability_<class>` each; in
            ``attrs["notes"]`` what was filled in.

        Raises:
            FedmodelError: the records do not fit: which ones, and why; no such model or client.
        """
        from fedmodel.runs.predict import predict

        return predict(
            self.path,
            frame,
            best=best,
            client=client,
            allow_unknown=allow_unknown,
            keep=keep,
        )

    def last(self, metric: str, *, model: str = "global", split: str = "test") -> float:
        """A global metric after the last round."""
        rows = self.metrics
        rows = rows[(rows.metric == metric) & (rows.model == model) & (rows.split == split)]
        rows = rows[rows.scope == "global"].sort_values("round")
        return float(rows.value.iloc[-1]) if len(rows) else float("nan")

    def _table(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        file = self.path / f"{name}.parquet"
        return read_table(file) if file.is_file() else pd.DataFrame({c: [] for c in columns})

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load(folder: Path | str) -> Run | SeedRuns:
    """The run in a folder, or the runs of several seeds.

    Raises:
        FedmodelError: there is none.
    """
    from fedmodel.runs.seeds import SeedRuns, holds_several

    return SeedRuns(folder) if holds_several(Path(folder)) else Run(folder)
