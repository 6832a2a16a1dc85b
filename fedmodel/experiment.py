"""An experiment: read, built, run round by round, resumed, finished with its tables and its report."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
import torch

from fedmodel.afterwards import add_references, choose_threshold
from fedmodel.apps import CohortApp
from fedmodel.build import Built, bind, build
from fedmodel.cohort import keep_freed_memory
from fedmodel.config import Config
from fedmodel.config_file import read_config
from fedmodel.data.records import Records
from fedmodel.data.saved import Reading
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.robustness import honest_rows
from fedmodel.evaluation.severity import severity_rows
from fedmodel.evaluation.tables import metric_rows, rows
from fedmodel.grids import grid_named
from fedmodel.grids.folding import FoldingGrid
from fedmodel.grids.local import LocalGrid
from fedmodel.grids.secure import SecureGrid
from fedmodel.rounds import Federation, Finished, State, rounds
from fedmodel.runs.finish import finish
from fedmodel.runs.folder import RunFolder
from fedmodel.runs.history import charge_cut_off, check_history
from fedmodel.runs.manifest import changed_versions, fingerprint, make_manifest, start_model
from fedmodel.runs.run import Run
from fedmodel.runs.saved_form import saved_form
from fedmodel.runs.spending import Spending
from fedmodel.source import Source
from fedmodel.stopping import Stopping, better, measured
from fedmodel.types import Counts

__all__ = ["Experiment", "Round"]


class Round:
    """A finished round. ``round["accuracy"]`` is a global metric on the test records."""

    def __init__(self, finished: Finished, metrics: pd.DataFrame, epsilon: pd.Series) -> None:
        self.number, self.seconds = finished.number, finished.seconds
        self.finished, self.metrics, self.epsilon = finished, metrics, epsilon

    def __getitem__(self, metric: str) -> float:
        rows = self.metrics
        found = rows[(rows.metric == metric) & (rows.scope == "global") & (rows.split == "test")]
        if not len(found):
            known = sorted(set(rows[rows.scope == "global"].metric))
            raise KeyError(f"{metric!r} was not measured in round {self.number}; there is {known}")
        return float(found.value.iloc[0])

    @property
    def evaluated(self) -> bool:
        """Whether this round was evaluated (`evaluation.every`)."""
        return len(self.metrics) > 0


class Experiment:
    """What an experiment file says, and what became of it. Nothing is loaded before it is needed."""

    def __init__(self, config: Config, source: Source, raw: Mapping[str, Any]) -> None:
        self.config, self.source, self.raw = config, source, dict(raw)
        self.folder: RunFolder | None = None
        self.records: Callable[[], Records] | None = None  # where several experiments share them
        self.stop = False  # set from outside: the run ends after the round in progress
        self.say: Callable[[str], None] = lambda line: None

    @classmethod
    def read(
        cls,
        path: Path | str | Mapping[str, Any],
        overrides: Mapping[str, Any] | None = None,
        **keys: Any,
    ) -> Experiment:
        """Read an experiment file (or a mapping); `overrides` are by dotted key, `keys` top-level.

        Raises:
            FedmodelError: what is wrong, at which line, and what to do.
        """
        config, source, raw = read_config(path, {**(overrides or {}), **keys})
        experiment = cls(config, source, raw)
        experiment.components  # noqa: B018 - names and options are checked at once
        return experiment

    def changed(self, overrides: Mapping[str, Any]) -> Experiment:
        """The same experiment with some keys changed, by dotted key."""
        config, source, raw = read_config(self.raw, overrides)
        source = Source(self.source.path, self.source.text, frozenset(overrides))
        experiment = Experiment(config, source, raw)
        experiment.components  # noqa: B018 - checked at once
        return experiment

    @cached_property
    def components(self):
        """The components with their checked options."""
        return bind(self.config, self.source)

    @cached_property
    def built(self) -> Built:
        """Data, model, strategy and plans; loads the data."""
        if self.config.engine.name == "inline":
            keep_freed_memory()  # before there is much
        return build(self.config, self.source, self.records)

    @property
    def name(self) -> str:
        """The experiment's name, or its file's."""
        return self.config.name or (self.source.path.stem if self.source.path else "experiment")

    @property
    def file_name(self) -> str:
        """The name as a part of files' names: no other folder, and not too long for one."""
        return re.sub(r'[\x00-\x1f/\\:*?"<>|]+', "-", self.name)[:100]

    @property
    def run(self) -> Run:
        """The run, as far as it has come.

        Raises:
            FedmodelError: it has not begun.
        """
        if self.folder is None:
            raise FedmodelError("this experiment has not run yet", fix="Iterate over `.rounds()`.")
        return Run(self.folder.path)

    def rounds(self, out: Path | str | None = None) -> Generator[Round, None, None]:
        """Run, round by round; leaving the loop ends the run with what is finished.

        Raises:
            FedmodelError: `out` is not empty, or there are several seeds; RunFailed: a round could
                not be finished.
        """
        if self.config.seeds is not None:
            raise FedmodelError(
                "this experiment has several seeds, so it is several runs",
                where=self.source.where("seeds"),
                fix="`fedmodel.run` runs them all; `.changed({'seeds': None, 'seed': 1})` is one.",
            )
        built = self.built
        path = Path(out) if out is not None else self.default_folder()
        folder = RunFolder.create(path)
        self.keep(folder, seed=self.config.seed)
        manifest = make_manifest(
            seed=self.config.seed,
            engine=self.config.engine.name,
            data=built.data,
            base=self.source.base,
        )
        manifest["name"], manifest["notes"] = self.name, list(built.notes)
        if self.config.model.init is not None:
            manifest["init"] = start_model(self.config.model.init, folder.path / "init.safetensors")
        folder.write_manifest(manifest)
        for note in built.notes:
            folder.log(f"note: {note}")
        yield from self._go(folder, State(0, built.model.initial))

    @classmethod
    def resume(cls, path: Path | str) -> tuple[Experiment, Generator[Round, None, None]]:
        """An interrupted run, and the rounds that are left of it.

        Raises:
            FedmodelError: no run there, the data or the version changed, or a private run whose
                state is lost.
        """
        folder = RunFolder.open(Path(path))
        manifest = folder.manifest
        changes = changed_versions(manifest, where=folder.path) if not manifest["finished"] else []
        experiment = cls.read(folder.path / "config.toml")
        if fingerprint(experiment.built.data) != manifest["data_fingerprint"]:
            raise FedmodelError(
                "the data is not what this run was started with",
                where=str(folder.path / "manifest.json"),
                fix="Put the data back, or start the experiment anew.",
            )
        state = folder.latest_state()
        if experiment.built.plans is not None:
            check_history(state, folder.entries(), where=str(folder.path))
        if state is None:
            state = State(0, experiment.built.model.initial)
        if not manifest["finished"]:
            folder.forget_beyond(state.number)
        if changes:
            manifest["notes"] += changes
            folder.write_manifest(manifest)
        if not manifest["finished"]:
            state = charge_cut_off(
                folder, state, experiment.built.plans, evaluation=experiment.config.evaluation
            )
        return experiment, experiment._go(folder, state)

    def default_folder(self) -> Path:
        """Where a run goes that is told no other place."""
        return Path("runs") / f"{self.file_name}-{datetime.now():%Y%m%d-%H%M%S}"

    def _go(self, folder: RunFolder, state: State) -> Generator[Round, None, None]:
        """The rounds that are left; what was finished is told, however it ends."""
        self.folder, built = folder, self.built
        if folder.manifest["finished"]:
            return
        repeated = folder.manifest.get("repeated_rounds", ())
        spending = Spending(built.plans, built.data.num_clients, repeated=repeated)
        spending.restore(folder.entries(), state.clients)
        begun, before = time.perf_counter(), folder.manifest["seconds"]
        last: list[Round] = []

        def save(state: State, finished: Finished) -> None:
            last[:] = [self._save(folder, spending, state, finished)]

        grid, complete, failed = None, False, False
        try:
            grid = self._grid()
            federation = self.federation(grid)
            if built.plans is not None and built.plans.budget.noise == "secure":
                federation = replace(federation, begin=folder.write_begun)
            # Rounds that were cut off are paid for, and the budget is for so many.
            federation = replace(federation, num_rounds=self.config.rounds - len(repeated))
            stopping = Stopping(self.config.evaluation.stop, folder.metrics_so_far())
            for _ in rounds(federation, state, save=save) if not stopping.reason else ():
                yield last[0]
                stopping.see(last[0].metrics)
                if self.stop or stopping.reason:
                    break
            number = last[0].number if last else state.number
            complete = not self.stop or number == self.config.rounds or bool(stopping.reason)
            if complete:
                if stopping.reason:
                    folder.note("stopped", stopping.as_found(number), stopping.reason)
                    self.say(stopping.reason)
                self._add_afterwards(folder, federation)
        except Exception:
            failed = True
            raise
        finally:
            if grid is not None:
                grid.close()
            manifest = folder.manifest
            manifest["seconds"] = round(before + time.perf_counter() - begun, 3)
            manifest["finished"] = complete and not failed
            if last or folder.latest_state() is not None:  # else there is nothing to tell yet
                self.say("writing tables and report")
                finish(
                    folder, manifest=manifest, built=built, spending=spending, config=self.config
                )

    def _grid(self) -> LocalGrid:
        """The engine's grid, with what its secure or folded sums need around it."""
        built, engine = self.built, self.config.engine
        grid = grid_named(
            engine.name,
            CohortApp(built.workload),
            num_clients=built.data.num_clients,
            workers=engine.workers,
            address=engine.address,
            device=engine.device,
        )
        if built.workload.secure is not None:
            return SecureGrid(grid, built.workload.secure, seed=self.config.seed)
        if built.fold is not None:
            retry, by_records = engine.on_failure == "retry", built.fold.by_records
            return FoldingGrid(grid, size=built.model.size, by_records=by_records, retry=retry)
        return grid

    def _save(
        self, folder: RunFolder, spending: Spending, state: State, finished: Finished
    ) -> Round:
        """Write what a round left, charge it, and tell of it."""
        built, number = self.built, finished.number
        metrics = self.metrics_of(
            finished.counts, number=number, model="global", shares=finished.shares
        )
        if finished.severity:
            worse = severity_rows(finished.severity, data=built.data, round=number)
            metrics = pd.concat([metrics, worse], ignore_index=True)
        steps = spending.note(finished, state.clients)
        folder.save_round(state, finished, metrics, {"steps": steps})
        self._keep_best(folder, state, metrics)
        for line in _events(finished, built.data.clients):
            folder.log(line)
            self.say(line)
        folder.log(
            f"round {number}: {len(finished.trained)} clients trained, {finished.seconds:.3f} s"
        )
        return Round(finished, metrics, spending.so_far(built.data.clients))

    def _add_afterwards(self, folder: RunFolder, federation: Federation) -> None:
        """What is chosen and compared once the training is done."""
        config = self.config
        told: dict[str, Any] = {"metrics_of": self.metrics_of, "say": self.say}
        choose_threshold(folder, federation, evaluation=config.evaluation, **told)
        add_references(folder, self.federation(None), built=self.built, config=config, **told)

    def keep(self, folder: RunFolder, **changes: Any) -> None:
        """Write the configuration with some keys changed, and what it starts from: model and encoder."""
        raw, built = {**self.saved_form(folder.path), **changes}, self.built
        if self.config.model.init is not None:
            folder.write_model("init.safetensors", built.model.state_dict(built.model.initial))
            raw["model"] = {**raw["model"], "init": "init.safetensors"}
        if self.config.data.encoder is not None:
            reading = Reading(built.data.encoder, built.data.classes)
            folder.write("encoder.json", reading.to_json())
            raw["data"] = {**raw["data"], "encoder": "encoder.json"}
        written = {key: value for key, value in raw.items() if value is not None}
        folder.write("config.toml", tomli_w.dumps(written))

    def saved_form(self, folder: Path) -> dict[str, Any]:
        """The configuration as a run folder keeps it; its plug-ins are brought along."""
        base = self.source.base
        return saved_form(self.raw, self.components, base=base, folder=folder)

    def federation(self, grid: Any) -> Federation:
        """Who takes part, how, and what goes wrong on purpose, on a grid."""
        built, config = self.built, self.config
        on_failure = config.engine.on_failure
        if built.workload.secure is not None and on_failure == "retry":
            on_failure = "drop"  # no client masks two vectors
        if built.fold is not None and on_failure == "retry":
            on_failure = "abort"  # the grid has asked twice
        return Federation(
            strategy=deepcopy(built.strategy),
            grid=grid,
            layout=built.layout,
            seed=config.seed,
            num_rounds=config.rounds,
            every=config.evaluation.every,
            dropout=config.client.dropout,
            omniscient=built.omniscient,
            dishonest=None if built.dishonest is None else torch.from_numpy(built.dishonest),
            on_failure=on_failure,
            name_of=lambda client: built.data.clients[client],
            splits=built.splits,
        )

    def metrics_of(
        self,
        counts: Mapping[Any, Counts],
        *,
        number: int,
        model: str,
        shares: Mapping[int, float] | None = None,
    ) -> pd.DataFrame:
        """The tidy rows of a model's counts after a round, and of the attackers' shares in it."""
        built = self.built
        parts = []
        for split, found in counts.items():
            place = {"round": number, "split": split, "model": model}
            parts.append(metric_rows(found, data=built.data, extra=built.metrics, **place))
            if built.dishonest is not None and model in ("global", "non_private"):
                parts.append(honest_rows(found, torch.from_numpy(built.dishonest), **place))
        if shares and counts:
            keys = [built.data.clients[client] for client in shares]
            values = {"aggregate_share": torch.tensor(list(shares.values()))}
            place = {"round": number, "split": "train", "model": model}
            parts.append(rows(values, scope="client", keys=keys, **place))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _keep_best(self, folder: RunFolder, state: State, metrics: pd.DataFrame) -> None:
        """Keep the model of the round that is best on validation records, if there are some."""
        if "validation" not in self.built.splits or not len(metrics) or state.number == 0:
            return
        stop = self.config.evaluation.stop
        metric = stop.metric if stop else "accuracy"
        value, manifest, key = measured(metrics, metric), folder.manifest, f"validation_{metric}"
        if better(value, manifest.get("best", {}).get(key, np.nan), metric):
            folder.write_model("best.safetensors", self.built.model.state_dict(state.vector))
            manifest["best"] = {"round": state.number, key: value}
            folder.write_manifest(manifest)


def _events(finished: Finished, names: tuple[str, ...]) -> Iterator[str]:
    for what, clients in (("declined", finished.declined), ("failed", finished.failed)):
        for client, why in list(clients.items())[:5]:
            yield f"round {finished.number}: client {names[client]} {what}: {why}"
        if len(clients) > 5:
            yield f"round {finished.number}: {len(clients) - 5} more clients {what}"
    if finished.number and not finished.trained:
        yield f"round {finished.number}: nobody trained"
    if finished.no_model:
        yield f"round {finished.number}: the strategy returned no model, so the last one stays"
