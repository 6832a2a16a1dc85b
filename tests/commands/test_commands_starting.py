"""`fedmodel init`: what it writes runs, is sound, and passes its own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_what_it_writes_works(call):
    code, said = call("init", "deep/new")
    assert code == 0
    written = {path.name for path in Path("deep/new").iterdir()}
    assert written == {"README.md", "experiment.toml", "mine.py", "test_mine.py"}
    assert all(name in said for name in written)
    for command in (
        ["validate", "deep/new/experiment.toml"],
        ["check", "deep/new/mine.py:length_limited"],
        ["check", "deep/new/mine.py:fading_sgd"],
    ):
        code, said = call(*command)
        assert code == 0, said


@pytest.mark.parametrize("content", ["a file", "a folder with a file"])
def test_nothing_is_written_over(call, tmp_path, content):
    if content == "a file":
        Path("new").write_text("mine")
    else:
        Path("new").mkdir()
        Path("new/.hidden").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    code, said = call("init", "new")
    assert code == 2
    assert "nothing is written over" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_its_own_test_passes(call):
    assert call("init", ".")[0] == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
