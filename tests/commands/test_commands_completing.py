"""What Tab offers, by the protocol of the shells, without loading anything heavy."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from fedmodel.catalogue import KINDS
from fedmodel.commands.completing import components, names_in, run_folders

ASK = "import sys\nfrom fedmodel.cli import main\nsys.argv = ['fedmodel']\ntry:\n    main()\nfinally:\n    "
ASK += "print([m for m in ('torch', 'flwr', 'pandas', 'ray') if m in sys.modules])"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["runs/old", "runs/new", "other", "deep/down"]):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}")
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "runs" / "none").mkdir()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        ("fedmodel p", ["predict", "privacy"], ["resume"]),
        ("fedmodel show data german", ["german_credit"], ["adult"]),
        ("fedmodel resume runs/", ["runs/new", "runs/old"], ["runs/none", "other"]),
    ],
)
def test_the_shell_is_answered_lightly(shell, typed, offered, not_offered, folders):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    environment = {**os.environ, **words, "_TYPER_COMPLETE_ARGS": typed}
    environment["_FEDMODEL_COMPLETE"] = f"complete_{shell}"
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    *answer, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    for name in offered:
        assert name in "\n".join(answer)
    for name in not_offered:
        assert name not in "\n".join(answer)


def test_run_folders_newest_first(folders):
    assert run_folders("") == ["other", "runs/new", "runs/old"]
    assert run_folders("runs/n") == ["runs/new"]
    assert run_folders("deep/") == ["deep/down"]
    assert run_folders("nothing") == []


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_read_as_they_are_imported(kind):
    for module in KINDS[kind].modules:
        assert list(names_in(module)) == list(import_module(module).__all__)
    assert components(kind, "") == sorted(KINDS[kind].names())
