"""The command line as its user meets it: progress, summary, Ctrl-C, and going on."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from calling import call

import fedmodel
from fedmodel.data.medical import heart_disease
from fedmodel.experiment import Experiment
from fedmodel.runs.run import load
from fedmodel.seeds import Repetition

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


def interrupted(engine, config, *, when):
    """What a run in `here` says that gets Ctrl-C at the first line `when` picks, given all said so far."""
    command = [sys.executable, "-m", "fedmodel.cli", "run", "hearts.toml", "--out", "here"]
    process = subprocess.Popen(
        [*command, "--engine", engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "STARTED_BY": str(config)},
    )
    said = ""
    for line in process.stdout:
        said += line
        if when(said, line):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
            break
    deadline = time.monotonic() + 60
    said += process.stdout.read()
    assert process.wait(timeout=deadline - time.monotonic()) == 1
    assert "ending after this round" in said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_round_and_the_run_goes_on_later(engine, config):
    config.write_text(CONFIG.format(rounds=500))
    said = interrupted(engine, config, when=lambda said, line: "round 2/" in line)
    assert "fedmodel resume here" in said
    run = load("here")
    assert not run.manifest["finished"]
    assert 2 <= run.metrics["round"].max() < 500
    assert run.report.is_file()
    assert len(run.epsilon) == 4 * run.metrics["round"].max()


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_ctrl_c_in_a_run_with_seeds_keeps_what_is_finished(engine, config):
    plain = CONFIG.split("[privacy]")[0].replace("dp_sgd", "sgd").format(rounds=40)
    config.write_text("seeds = [1, 2]\n" + plain)
    said = interrupted(
        engine, config, when=lambda said, line: "seed 2" in said and "round 2/" in line
    )
    assert "1 of 2 seeds finished" in said
    assert "stopped early; go on with: fedmodel resume here" in said
    assert started_by(str(config)) == []
    runs = load("here")
    assert list(runs.finished) == [1] and list(runs.runs) == [1, 2]
    assert runs.report.is_file() and runs.runs[2].report.is_file()
    kept = len(runs.runs[2].rounds)
    left = {seed: len(list(rounds)) for seed, _, rounds in Repetition.resume("here").left()}
    assert left == {2: 41 - kept}
    assert [run.metrics["round"].max() for run in load("here").finished.values()] == [40, 40]


def started_by(mark):
    """Processes that carry the mark in their environment, but for those that end by themselves."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("STARTED_BY") == mark:
                found.append(process)
    _, left = psutil.wait_procs(found, timeout=10)
    return left


def test_an_interrupt_while_data_are_loaded_ends_at_once(config, monkeypatch, capsys):
    (config.parent / "mine.py").write_text(
        "def never():\n    'Interrupted by its user.'\n    raise KeyboardInterrupt\n"
    )
    text = CONFIG.format(rounds=3).replace('"heart_disease"\nencode = "public"', '"mine.py:never"')
    for seeds in ("", "seeds = [1, 2]\n"):
        config.write_text(seeds + text)
        code, said = call(monkeypatch, capsys, "run", "hearts.toml", "--out", "here")
        assert code == 1
        assert said.strip() in ("stopped at once", "seed 1\nstopped at once")
        assert not (config.parent / "here").exists()


def test_a_seed_that_cannot_be_built_leaves_the_others(config, monkeypatch, capsys):
    (config.parent / "mine.py").write_text(
        "from fedmodel.data.partition import iid\n"
        "from fedmodel.errors import FedmodelError\n"
        "def some(records, *, seed):\n    'Fails with an even seed.'\n"
        "    if seed % 2 == 0:\n        raise FedmodelError('an even seed', fix='Take an odd one.')\n"
        "    return iid(records, seed=seed, clients=3)\n"
    )
    text = CONFIG.format(rounds=1) + '[partition]\nname = "mine.py:some"\n'
    config.write_text("seeds = [1, 2]\n" + text)
    code, said = call(monkeypatch, capsys, "run", "hearts.toml", "--out", "here")
    assert code == 2
    assert "error: an even seed" in said
    assert "what was finished is kept; go on with: fedmodel resume here" in said
    assert list(load("here").finished) == [1] and load("here").report.is_file()


def test_a_run_that_is_not_finished_says_so(config, monkeypatch, capsys):
    for _ in Experiment.read(config).rounds("half"):
        break
    heart_disease().features.head(2).to_csv("new.csv", index=False)
    for command in (
        ["show"],
        ["predict", "new.csv"],
        ["evaluate", "hearts.toml", "--out", "other"],
    ):
        code, said = call(monkeypatch, capsys, command[0], "half", *command[1:])
        assert code == 0
        told = (
            "note: The run is not finished, it has come to round 0: `fedmodel resume half` goes on."
        )
        assert told in " ".join(said.split())
    for name in ("model.safetensors", "encoder.json", "report.html", "clients.parquet"):
        (config.parent / "half" / name).unlink()  # as a crash leaves it
    code, said = call(monkeypatch, capsys, "show", "half")
    assert code == 0 and "report.html" not in said and "0 clients" not in said
    for command in (["predict", "new.csv", "--out", "p.csv"], ["evaluate", "hearts.toml"]):
        code, said = call(monkeypatch, capsys, command[0], "half", *command[1:])
        assert code == 2 and "`fedmodel resume half`" in said


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
