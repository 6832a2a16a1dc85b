"""The command line in this process."""

import sys

import pytest

from fedmodel import cli


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """`fedmodel` in an empty folder: its exit code, and what it said on both streams, in one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedmodel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            cli.main()
        said = capsys.readouterr()
        return done.value.code, " ".join((said.out + said.err).split())

    return run
