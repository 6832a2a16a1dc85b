"""Clients' states on disk: one file a round, of those that the round changed, gathered now and then."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flwr.app import RecordDict

__all__ = ["SavedStates", "whole"]

EVERY = 100  # rounds: after so many the files become one


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Where to write what shall appear as this file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.part")
    try:
        yield draft
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


class SavedStates:
    """The states of a run's clients: a round's cost is that of its own clients, however many there are.

    ``clients-00007.pkl`` holds the states that round 7 changed; those of earlier rounds are in the
    files before it. A later file is right where two hold the same client, so `gather` may be cut
    off anywhere: the file of its round first holds everything, only then the older ones go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, number: int, states: Mapping[int, RecordDict]) -> None:
        """Write what a round changed."""
        if states:
            with whole(self.folder / f"clients-{number:05}.pkl") as file:
                file.write_bytes(pickle.dumps(dict(states), protocol=5))

    def after(self, number: int) -> dict[int, RecordDict]:
        """All states after a round; clients whose state is empty are left out."""
        states: dict[int, RecordDict] = {}
        for file in self._files():
            if _number(file) <= number:
                states |= pickle.loads(file.read_bytes())
        return {node: state for node, state in states.items() if state}

    def gather(self, number: int) -> None:
        """Make one file of all, every so many rounds; only once this round's end is certain."""
        if number % EVERY:
            return
        old = [file for file in self._files() if _number(file) < number]
        self.add(number, self.after(number))
        for file in old:
            file.unlink()

    def forget_beyond(self, number: int) -> None:
        """Drop what a crash left of later rounds."""
        for file in self._files():
            if _number(file) > number:
                file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("clients-*.pkl"), key=_number)


def _number(file: Path) -> int:
    return int(file.stem.split("-")[1])
