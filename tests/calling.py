"""The command line, called as from a shell."""

import sys

import pytest

from fedmodel.cli import main


def call(monkeypatch, capsys, *arguments):
    """The exit code, and what was said."""
    monkeypatch.setattr(sys, "argv", ["fedmodel", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    said = capsys.readouterr()
    return done.value.code, said.out + said.err
