"""The command line in this process, and what a user may expect of everything that it refuses."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedmodel import cli

EXPERIMENT = """rounds = 2

[data]
name = "heart_disease"
encode = "public"
test = 0.25

[partition]
name = "natural"

[model]
name = "logistic"

[client]
name = "sgd"
learning_rate = 0.1
"""


@dataclass(frozen=True)
class Said:
    """What the command line answered."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """Everything that was said, in one line."""
        return " ".join((self.out + self.err).split())

    @property
    def marked(self) -> tuple[str, str]:
        """File and line of the quoted line, and what is marked in it."""
        lines = self.err.splitlines()
        number = next(n for n, line in enumerate(lines) if re.fullmatch(r" +\^+", line))
        mark = slice(lines[number].index("^"), len(lines[number]))
        return lines[number - 1].split()[0], lines[number - 1][mark]

    def refused(self, *words: str, code: int = 2) -> Said:
        """Assert that it was refused with this exit code, in these words, on one screen."""
        assert self.code == code, self.words
        assert self.err.startswith(("error: ", "note: "))
        assert "Traceback" not in self.out + self.err
        lines = (self.out + self.err).splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 120
        for word in words:
            assert word in self.words
        return self


class CommandLine:
    """An experiment in the working folder, and `fedmodel` to run it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.file, self.out = Path("e.toml"), Path("out")

    def __call__(self, *arguments: object) -> Said:
        before, sys.argv = sys.argv, ["fedmodel", *map(str, arguments)]
        self.capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            sys.argv = before
        said = self.capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    def write(self, text: str, files: Mapping[str, str] | None = None) -> None:
        """The experiment file, and further files beside it."""
        for name, content in {"e.toml": text, **(files or {})}.items():
            Path(name).write_text(content, encoding="utf-8")

    def run(self, text: str, *arguments: object, files: Mapping[str, str] | None = None) -> Said:
        """Write an experiment and run it."""
        self.write(text, files)
        return self("run", self.file, "--out", self.out, *arguments)


@pytest.fixture
def fedmodel(tmp_path, capsys, monkeypatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path, capsys)


@pytest.fixture
def experiment() -> str:
    """A small experiment on shipped data that runs."""
    return EXPERIMENT
