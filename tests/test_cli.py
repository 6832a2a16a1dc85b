"""The command line as its user meets it: progress, summary, Ctrl-C, and going on."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from calling import call

import fedmodel
from fedmodel.runs.run import load

CONFIG = """
name = "hearts"
rounds = {rounds}
[data]
name = "heart_disease"
encode = "public"
[model]
name = "logistic"
[client]
name = "dp_sgd"
learning_rate = 0.3
[privacy]
epsilon = 5.0
delta = 1e-3
accountant = "rdp"
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hearts.toml").write_text(CONFIG.format(rounds=3))
    return tmp_path / "hearts.toml"


def test_a_run_tells_each_round_and_where_everything_is(config, monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "run", "hearts.toml", "--out", "here")
    assert code == 0
    for number in range(4):
        assert re.search(rf"round {number}/3 +loss \d\.\d+ +accuracy 0\.\d+ +epsilon", said)
    assert "left" in said
    assert "epsilon by client" in said
    assert "here/report.html" in said
    code, shown = call(monkeypatch, capsys, "show", "here")
    assert code == 0
    assert "here/report.html" in shown
    accuracy = f"{load('here').last('accuracy'):.4f}"
    assert accuracy in said
    assert accuracy in shown


def test_the_default_folder_carries_name_and_time(config, monkeypatch, capsys):
    code, _ = call(monkeypatch, capsys, "run", "hearts.toml", "--set", "rounds=1")
    assert code == 0
    (folder,) = (config.parent / "runs").iterdir()
    assert re.fullmatch(r"hearts-\d{8}-\d{6}", folder.name)


def test_overrides_engine_and_seed(config, monkeypatch, capsys):
    arguments = ["--set", "client.learning_rate=0.05", "--set", "rounds=1", "--seed", "9"]
    code, _ = call(monkeypatch, capsys, "run", "hearts.toml", *arguments, "--out", "here")
    assert code == 0
    saved = (config.parent / "here" / "config.toml").read_text()
    assert "learning_rate = 0.05" in saved
    assert "seed = 9" in saved


def test_validate_says_what_would_run(config, monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "validate", "hearts.toml")
    assert code == 0
    for words in ("4, ", "epsilon 5", "noise multiplier", "ready to run"):
        assert words in said
    assert not (config.parent / "runs").exists()


def test_list_shows_names_options_and_what_they_are(config, monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "list", "aggregator")
    assert code == 0
    assert "trimmed_mean" in said
    assert "fraction" in said
    assert "heart_disease" not in said
    code, said = call(monkeypatch, capsys, "list")
    assert code == 0
    assert "heart_disease" in said


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_round_and_the_run_goes_on_later(engine, config, monkeypatch, capsys):
    config.write_text(CONFIG.format(rounds=500))
    command = [sys.executable, "-m", "fedmodel.cli", "run", "hearts.toml", "--out", "here"]
    process = subprocess.Popen(
        [*command, "--engine", engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    said = ""
    for line in process.stdout:
        said += line
        if "round 2/" in line:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
            break
    deadline = time.monotonic() + 60
    said += process.stdout.read()
    assert process.wait(timeout=deadline - time.monotonic()) == 1
    assert "ending after this round" in said
    assert "fedmodel resume here" in said
    assert "Traceback" not in said
    run = load("here")
    assert not run.manifest["finished"]
    assert 2 <= run.metrics["round"].max() < 500
    assert run.report.is_file()
    assert len(run.epsilon) == 4 * run.metrics["round"].max()


def test_show_data_prints_the_card_of_a_data_set(monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "show", "data", "indo_rct")
    assert code == 0
    for words in ("Elmunzer", "602", "pancreatitis 79 (13.1%)", "4, of 3 to 413", "be careful"):
        assert words in said
    code, said = call(monkeypatch, capsys, "show", "data", "reuters_r8")
    assert code == 0
    assert "files of yours" in said
    code, said = call(monkeypatch, capsys, "show", "data", "indo_rtc")
    assert code == 2
    assert "Did you mean `indo_rct`?" in said
    code, said = call(monkeypatch, capsys, "show", "here", "indo_rct")
    assert code == 2
    assert "fedmodel show data indo_rct" in said


def test_a_known_trap_is_told_once(config, monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "validate", "hearts.toml")
    assert code == 0
    assert said.count("10:") == 1  # women in Switzerland
    assert "fedmodel show data heart_disease" in " ".join(said.split())


def test_the_version_is_told(monkeypatch, capsys):
    assert call(monkeypatch, capsys, "--version") == (0, f"fedmodel {fedmodel.__version__}\n")


def test_no_command_is_answered_with_the_commands(monkeypatch, capsys):
    code, said = call(monkeypatch, capsys)
    assert code == 2
    assert said.startswith("Usage: ") and "error" not in said
