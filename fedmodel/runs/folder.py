"""The run folder: everything of a finished round is on disk before the next one starts."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import save_file
from torch import Tensor

from fedmodel.errors import FedmodelError
from fedmodel.rounds import Finished, State
from fedmodel.runs.manifest import read_manifest
from fedmodel.runs.states import SavedStates, whole

__all__ = ["RunFolder", "read_table"]

METRIC_COLUMNS = ("round", "split", "model", "scope", "key", "metric", "value")


class RunFolder:
    """One folder of one run.

    ``state/state.pkl`` is what the next round needs but for clients' states, which
    ``state/clients-*.pkl`` hold (`SavedStates`); ``state/metrics-*.parquet`` are the metrics of each
    round, ``rounds.jsonl`` tells who did what in which round. Every file appears whole or not at
    all; what lies beyond the saved state is dropped on resume.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.states = path, SavedStates(path / "state")

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new folder, or an empty one that is there.

        Raises:
            FedmodelError: something is in it already.
        """
        cls.check_empty(path)
        (path / "state").mkdir(parents=True, exist_ok=True)
        return cls(path)

    @staticmethod
    def check_empty(path: Path) -> None:
        """Refuse a place where something is."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FedmodelError(
                f"{path} is not empty",
                where="--out",
                fix="Give a new folder, or go on with what is there: `fedmodel resume`.",
            )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that was started before.

        Raises:
            FedmodelError: there is no run in it, several, or one of a version we cannot read.
        """
        for name in ("config.toml", "manifest.json"):
            if not (path / name).is_file():
                raise FedmodelError(
                    f"{path} holds no run: {name} is missing",
                    fix="Give the folder that `fedmodel run` printed.",
                )
        if runs := read_manifest(path / "manifest.json").get("runs"):
            raise FedmodelError(
                f"{path} holds the runs of several seeds, and this takes one",
                fix=f"Give one of them, e.g. {path / next(iter(runs.values()))}.",
            )
        return cls(path)

    @property
    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.path / "manifest.json")

    @property
    def cut_short(self) -> str:
        """What to know of a run that is not finished; nothing of one that is."""
        if self.manifest["finished"]:
            return ""
        entries = self.entries()
        last = f"has come to round {entries[-1]['round']}" if entries else "has no round yet"
        return f"The run is not finished, it {last}: `fedmodel resume {self.path}` goes on."

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self.write("manifest.json", json.dumps(manifest, indent=2, default=str) + "\n")

    def note(self, key: str, value: Mapping[str, Any], sentence: str) -> None:
        """Tell in the manifest what the end of a run has found, once however often it is resumed."""
        manifest = self.manifest
        manifest[key] = dict(value)
        if sentence not in manifest["notes"]:
            manifest["notes"].append(sentence)
        self.write_manifest(manifest)
        self.log(f"note: {sentence}")

    def write(self, name: str, text: str) -> None:
        """Write a text file in one step."""
        with whole(self.path / name) as file:
            file.write_text(text, encoding="utf-8")

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a Parquet file in one step."""
        with whole(self.path / name) as file:
            table.to_parquet(file, index=False, compression="zstd")

    def table(self, name: str) -> pd.DataFrame | None:
        """A Parquet file of the folder, if it is there."""
        file = self.path / name
        return pd.read_parquet(file) if file.is_file() else None

    def write_model(self, name: str, parameters: Mapping[str, Tensor]) -> None:
        """Write a model as safetensors in one step."""
        with whole(self.path / name) as file:
            # Tied weights share memory, which safetensors refuses.
            save_file({key: value.clone().contiguous() for key, value in parameters.items()}, file)

    def log(self, line: str) -> None:
        """Append a line to log.txt."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def save_round(
        self, state: State, finished: Finished, metrics: pd.DataFrame, extra: Mapping[str, Any]
    ) -> None:
        """Metrics, who did what, changed clients, then the state: a crash between repeats the round."""
        if len(metrics):
            self.write_table(f"state/metrics-{finished.number:05}.parquet", metrics)
        with (self.path / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(_entry(finished, extra)) + "\n")
        self.write_state(state)
        self.states.gather(state.number)

    def write_state(self, state: State) -> None:
        """Write what a state says of clients, then the rest of it, each in one step."""
        self.states.add(state.number, state.clients)
        with whole(self.path / "state" / "state.pkl") as file:
            file.write_bytes(pickle.dumps(replace(state, clients={})))

    def write_begun(self, number: int, clients: Sequence[int]) -> None:
        """Note before a round who is asked to train in it: it may be cut off."""
        self.write("state/begun.json", json.dumps({"round": number, "clients": list(clients)}))

    def cut_off(self, number: int) -> list[int] | None:
        """Who was asked to train in the round after `number`, if it began and was cut off."""
        file = self.path / "state" / "begun.json"
        if not file.is_file():
            return None
        begun = json.loads(file.read_text(encoding="utf-8"))
        return begun["clients"] if begun["round"] == number + 1 else None

    def latest_state(self) -> State | None:
        """The state after the last finished round."""
        file = self.path / "state" / "state.pkl"
        if not file.is_file():
            return None
        try:
            state: State = pickle.loads(file.read_bytes())
            return replace(state, clients=self.states.after(state.number))
        except Exception as error:
            raise FedmodelError(
                f"the saved state cannot be read: {error}",
                where=str(file),
                fix="It is of another version, or damaged; start the experiment anew.",
            ) from error

    def entries(self) -> list[dict[str, Any]]:
        """Who did what, one entry a round."""
        file = self.path / "rounds.jsonl"
        if not file.is_file():
            return []
        entries = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:  # a crash cut the last line short; its round is repeated
                break
        return entries

    def metrics(self) -> pd.DataFrame:
        """The metrics of the run; while it is under way, of its finished rounds."""
        whole = self.path / "metrics.parquet"
        return read_table(whole) if whole.is_file() else self.metrics_so_far()

    def metrics_so_far(self) -> pd.DataFrame:
        """The metrics of all finished rounds, and of the references."""
        files = sorted(self.path.glob("state/metrics-*.parquet"))
        for extra in ("threshold", "references"):
            files += self.path.glob(f"state/{extra}.parquet")
        if not files:
            return pd.DataFrame({column: [] for column in METRIC_COLUMNS})
        return pd.concat([read_table(file) for file in files], ignore_index=True)

    def forget_beyond(self, number: int) -> None:
        """Drop what a crash left of later rounds; of round 0 too if none came after it: it is repeated."""
        number = number or -1
        for part in self.path.glob("state/metrics-*.parquet"):
            if int(part.stem.split("-")[1]) > number:
                part.unlink()
        self.states.forget_beyond(number)
        kept = [json.dumps(entry) for entry in self.entries() if entry["round"] <= number]
        self.write("rounds.jsonl", "".join(line + "\n" for line in kept))


def read_table(file: Path) -> pd.DataFrame:
    """A table of a run.

    Raises:
        FedmodelError: it is damaged.
    """
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise FedmodelError(
            f"this table cannot be read: {str(error).splitlines()[0]}",
            where=str(file),
            fix="It is damaged, or of another version; `fedmodel run` with the folder's config.toml "
            "makes the run anew.",
        ) from None


def _entry(finished: Finished, extra: Mapping[str, Any]) -> dict[str, Any]:
    def named(values: Mapping[int, Any]) -> dict[str, Any]:
        return {str(key): value for key, value in values.items()}

    return {
        "round": finished.number,
        "seconds": round(finished.seconds, 4),
        "trained": list(finished.trained),
        "declined": named(finished.declined),
        "failed": named(finished.failed),
        "dropped": list(finished.dropped),
        "shares": named(finished.shares),
        "train_metrics": {k: v for k, v in finished.train_metrics.items() if _plain(v)},
        "evaluate_metrics": {k: v for k, v in finished.evaluate_metrics.items() if _plain(v)},
        **extra,
    }


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | str) or (
        isinstance(value, list) and all(isinstance(item, int | float | str) for item in value)
    )
