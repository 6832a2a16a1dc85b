"""`fedmodel doctor` tells what a bug report needs, and no more."""

import getpass
import platform
import socket
from importlib.metadata import version
from pathlib import Path

import pytest

from fedmodel.commands import diagnosing
from fedmodel.commands.diagnosing import tested_versions as pins

ROOT = Path(__file__).parents[2]


def test_it_tells_versions_and_machine(call, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    code, said = call("doctor")
    assert code == 0
    assert f"python {platform.python_version()}" in said
    assert f"torch {version('torch')}" in said
    assert "missing nothing" in said
    assert "HF_HUB_OFFLINE=yes" in said
    assert "working folder writable" in said
    assert "FAILED" not in said


def test_it_tells_no_names_and_no_paths(call, tmp_path):
    _, said = call("doctor")
    for private in (str(tmp_path), str(Path.home()), str(ROOT), socket.gethostname()):
        assert private not in said
    assert getpass.getuser() not in said.split()


def test_what_differs_from_the_tested_versions_is_told(call, monkeypatch):
    assert pins()["flwr"] == "1.42.0"
    monkeypatch.setattr(diagnosing, "tested_versions", lambda: {"numpy": "1.0", "nowhere": "2"})
    monkeypatch.setattr(diagnosing, "requires", lambda _: ["nowhere[x]>=2; python", "numpy>=1"])
    _, said = call("doctor")
    assert f"not as tested numpy {version('numpy')} (tested 1.0) missing nowhere" in said


def test_a_fault_of_the_installation_is_a_line_of_its_own(call, monkeypatch):
    def broken(_):
        raise OSError("no such device")

    monkeypatch.setattr(diagnosing.shutil, "disk_usage", broken)
    code, said = call("doctor")
    assert code == 0
    assert "working folder FAILED: OSError: no such device" in said


def test_the_tested_versions_are_those_of_the_repository(tmp_path, monkeypatch):
    text = (ROOT / "constraints.txt").read_text()
    assert len(pins()) == sum("==" in line for line in text.splitlines())
    (tmp_path / "tested_versions.txt").write_text("../constraints.txt")  # a link as a text file
    (tmp_path.parent / "constraints.txt").write_text("numpy==9.9\n# a comment\n")
    monkeypatch.setattr(diagnosing, "files", lambda _: tmp_path)
    assert pins() == {"numpy": "9.9"}


@pytest.mark.slow
def test_ray_starts(call):
    _, said = call("doctor", "--ray")
    assert "ray starts, and a worker answers" in said
