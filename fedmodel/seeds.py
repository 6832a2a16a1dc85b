"""An experiment with several seeds: one folder that holds an ordinary run for each of them."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

from fedmodel.data.records import Records
from fedmodel.dealing import load_records, reading_of
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment, Round
from fedmodel.runs.folder import RunFolder
from fedmodel.runs.manifest import changed_versions, fingerprint, read_manifest, surroundings
from fedmodel.runs.seeds import SeedRuns, holds_several, place_of
from fedmodel.runs.seeds_report import write_seeds_report
from fedmodel.runs.seeds_statement import released_together

__all__ = ["Repetition", "run_seeds"]


class Repetition:
    """The runs of an experiment's seeds, one after the other; each equals the run of that seed alone.

    ``seed-1/`` and so on are run folders. Records are loaded once, for no seed has a part in them.

    >>> repetition = Repetition.begin(Experiment.read("income.toml"), "here")   # doctest: +SKIP
    >>> for seed, experiment, rounds in repetition.left():                      # doctest: +SKIP
    ...     for round in rounds:
    ...         print(seed, round.number, round["accuracy"])
    >>> runs = repetition.finish()                                              # doctest: +SKIP
    """

    def __init__(self, experiment: Experiment, path: Path) -> None:
        self.experiment, self.path = experiment, path
        # Loaded when the first run asks for them.
        self.records = cache(self._load)

    def _load(self) -> Records:
        experiment = self.experiment
        reading = reading_of(experiment.config, experiment.source)
        return load_records(experiment.config, experiment.components, reading)

    @classmethod
    def begin(cls, experiment: Experiment, out: Path | str | None = None) -> Repetition:
        """Runs in a new folder, or an empty one that is there; it is made when the first one is built.

        Raises:
            FedmodelError: something is in it already.
        """
        path = Path(out) if out is not None else experiment.default_folder()
        RunFolder.check_empty(path)
        return cls(experiment, path)

    @classmethod
    def resume(cls, path: Path | str) -> Repetition:
        """What is left of the runs in a folder.

        Raises:
            FedmodelError: they are not there, or the version or the data changed.
        """
        path = Path(path)
        runs = SeedRuns(path)
        if not runs.manifest["finished"]:
            changed_versions(runs.manifest, where=path)
        repetition = cls(Experiment.read(path / "config.toml"), path)
        begun = next(iter(runs.runs.items()), None)
        if begun is not None and len(runs.runs) < len(runs.seeds):
            seed, run = begun
            if fingerprint(repetition._of(seed).built.data) != run.manifest["data_fingerprint"]:
                raise FedmodelError(
                    f"the data is not what seed {seed} was run with",
                    where=str(run.path / "manifest.json"),
                    fix="Put the data back, or start the experiment anew.",
                )
        return repetition

    def left(self) -> Iterator[tuple[int, Experiment, Generator[Round, None, None]]]:
        """Each seed whose run is not finished, its experiment, and the rounds that are left of it."""
        for seed in self.experiment.config.seeds or []:
            path = self.path / place_of(seed)
            if (path / "manifest.json").is_file():
                if read_manifest(path / "manifest.json")["finished"]:
                    continue
                experiment, rounds = Experiment.resume(path)
            else:
                if path.is_dir() and not (path / "rounds.jsonl").exists():
                    shutil.rmtree(path)  # cut off before its first round
                experiment = self._of(seed)
                rounds = self._begun(experiment, path)
            try:
                yield seed, experiment, rounds
            finally:
                rounds.close()  # a loop over it may have been left
            if experiment.stop:
                return

    def _begun(self, experiment: Experiment, path: Path) -> Generator[Round, None, None]:
        """The rounds of a seed that has not begun. What cannot be built leaves no folder behind."""
        experiment.built  # noqa: B018
        if not holds_several(self.path):
            self._make_folder(experiment)
        yield from experiment.rounds(path)

    def _make_folder(self, first: Experiment) -> None:
        """The folder of all runs. What the first one starts from is copied: the others are to as well."""
        experiment, seeds = self.experiment, self.experiment.config.seeds or []
        self.path.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(self.path)
        first.keep(folder, seed=None, seeds=seeds)
        manifest = surroundings(engine=experiment.config.engine.name, base=experiment.source.base)
        manifest |= {
            "name": experiment.name,
            "seeds": seeds,
            "runs": {str(seed): place_of(seed) for seed in seeds},
        }
        folder.write_manifest(manifest)

    @property
    def begun(self) -> bool:
        """Whether a round of any run is finished."""
        if not holds_several(self.path):
            return False
        return any(run.folder.entries() for run in SeedRuns(self.path).runs.values())

    def finish(self) -> SeedRuns:
        """Write the tables of all runs, with a column `seed`, and the report, as far as they have come."""
        runs, folder = SeedRuns(self.path), RunFolder(self.path)
        manifest = runs.manifest
        manifest["seconds"] = round(sum(r.manifest["seconds"] for r in runs.runs.values()), 3)
        manifest["finished"] = len(runs.finished) == len(runs.seeds)
        manifest["notes"] = list(
            dict.fromkeys(note for run in runs.runs.values() for note in run.manifest["notes"])
        )
        if stated := released_together(runs, self.experiment.config):
            manifest["privacy"] = stated
        for name in ("metrics", "clients", "epsilon", "summary"):
            folder.write_table(f"{name}.parquet", getattr(runs, name))
        folder.write_manifest(manifest)
        write_seeds_report(runs, self.path / "report.html")
        return runs

    def _of(self, seed: int) -> Experiment:
        experiment = self.experiment.changed({"seeds": None, "seed": seed})
        experiment.records = self.records
        return experiment


def run_seeds(experiment: Experiment, out: Path | str | None = None) -> SeedRuns:
    """Run an experiment with all its seeds; what was finished is kept if one of them fails."""
    repetition = Repetition.begin(experiment, out)
    try:
        for _, _, rounds in repetition.left():
            for _ in rounds:
                pass
    except BaseException:
        if repetition.begun:
            repetition.finish()
        raise
    return repetition.finish()
