"""What a user reads when code of theirs is wrong, or a run cannot go on: the line, the client, the round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from fedmodel.display.progress import Progress
from fedmodel.errors import FedmodelError

PLUGIN = '''
from torch import nn


def aggregator(delta):
    """Mean."""
    return undefined_thing + delta.mean(0)


def transform(delta):
    raise ValueError("not these")


class client:
    """Hungary cannot train."""

    def train(self, cohort, start):
        if 1 in cohort.clients.tolist():
            raise RuntimeError("disk on fire")
        return start.repeat(cohort.size, 1) * 0


class idle:
    pass


class short:
    def train(self, cohort, start):
        return start


def model(*, num_features, num_classes):
    return nn.Liner(num_features, num_classes)


def batchnorm(*, num_features, num_classes):
    return nn.Sequential(nn.BatchNorm1d(num_features), nn.Linear(num_features, num_classes))


def narrow(*, num_features, num_classes):
    return nn.Linear(num_features - 1, num_classes)


def many_classes(*, num_features, num_classes):
    return nn.Linear(num_features, num_classes + 5)


def no_model(*, num_features, num_classes):
    return 3


def dataset():
    return 1 / 0


def no_dataset():
    return [1, 2]


def partition(records, *, seed):
    return records.nothing


def lonely(records, *, seed):
    import numpy as np

    from fedmodel.data.records import Assignment

    return Assignment(client=np.zeros(len(records), dtype=int), names=("all", "none"))


def counts_nothing(records):
    return [0] * len(records)


def nothing():
    return 3


def a_client(cohort, start):
    return start.repeat(cohort.size, 1)


def whole(delta):
    return delta.mean(0).int()


def short_update(delta):
    return delta.mean(0)[:2]


def no_update(delta):
    return None


def no_weights(reports):
    return 0.0 * reports["num_records"]


def no_memory(step, memory):
    return step


def leaves(delta):
    raise SystemExit(0)


def metric(confusion):
    raise ValueError("no such group")


def labels(labels, *, num_classes, generator):
    return labels.nothing


def fewer_labels(labels):
    return labels[:3]


def own(own):
    return own.nothing


def interrupted(delta):
    if delta.any():  # zeros are a trial before the run
        raise KeyboardInterrupt
    return delta.mean(0)


class NotAChoice:
    def __init__(self):
        raise TypeError("cannot be made")

    def train(self, cohort, start):
        return start


number = 3
'''
LINES = PLUGIN.splitlines()
FILES = {
    "p.py": PLUGIN,
    "broken.py": "def aggregator(delta:\n    return delta.mean(0)\n",
    "imports.py": "import torch\nimport nowhere_to_be_found\n",
    "raises.py": "limits = {}\nlimit = limits['lowest']\n",
}
OPTIONS = {
    "client": ('name = "sgd"\nlearning_rate = 0.1\n', 'name = "{}"\n'),
    "model": ('name = "logistic"', 'name = "{}"'),
    "dataset": ('name = "heart_disease"', 'name = "{}"'),
    "partition": ('name = "natural"', 'name = "{}"'),
    "aggregator": ("", '\n[strategy]\nname = "compose"\ncombine = "{}"\n'),
    "weighting": ("", '\n[strategy]\nname = "compose"\nweigh = "{}"\n'),
    "optimiser": ("", '\n[strategy]\nname = "compose"\noptimiser = "{}"\n'),
    "transform": ("", '\n[strategy]\nname = "compose"\nbefore = ["{}"]\n'),
    "metric": ("", '\n[evaluation]\nmetrics = ["{}"]\n'),
    "attack": ("", '\n[attack]\nname = "{}"\nclients = 0.3\n'),
}


def place(text: str) -> str:
    """The plug-in's file and line of this text."""
    return f"p.py:{1 + next(n for n, line in enumerate(LINES) if text in line)}"


@pytest.fixture
def run(fedmodel, experiment):
    """Run the experiment with a plug-in in the place of a component."""

    def with_plugin(kind: str, name: str, *arguments: str, more: str = ""):
        old, new = OPTIONS[kind]
        assert old in experiment
        text = experiment.replace(old, new.format(name)) if old else experiment + new.format(name)
        return fedmodel.run(text + more, *arguments, files=FILES)

    return with_plugin


# Refused before anything runs

REFUSED = {
    "a syntax error": ("aggregator", "broken.py:aggregator", "SyntaxError", "broken.py:1"),
    "a missing import": ("aggregator", "imports.py:aggregator", "No module named 'nowhere_to_be", "imports.py:2"),
    "an error on import": ("aggregator", "raises.py:aggregator", "KeyError: 'lowest'", "raises.py:2"),
    "a wrong file": ("aggregator", "pp.py:aggregator", "there is no file", "Did you mean `p.py`?"),
    "a wrong name": ("aggregator", "p.py:agregator", 'p.py has no "agregator"', "Did you mean `aggregator`?"),
    "no function": ("aggregator", "p.py:number", "neither a function nor a class", "e.toml:20"),
    "a model that raises": ("model", "p.py:model", "no attribute 'Liner'", place("nn.Liner")),
    "a model with BatchNorm": ("model", "p.py:batchnorm", "BatchNorm1d at '0' mixes the records", "Use GroupNorm"),
    "a model of other records": ("model", "p.py:narrow", "cannot read records of 31 numbers", "e.toml:11"),
    "a model of other classes": ("model", "p.py:many_classes", "the data has 2 classes", "`num_classes`"),
    "no model": ("model", "p.py:no_model", "returned int, not torch.nn.Module", "e.toml:12"),
    "a data set that raises": ("dataset", "p.py:dataset", "ZeroDivisionError", place("1 / 0")),
    "no data set": ("dataset", "p.py:no_dataset", "returned list, not fedmodel.data.records.Records", "e.toml:4"),
    "a partitioner that raises": ("partition", "p.py:partition", "no attribute 'nothing'", place("records.nothing")),
    "a client without records": ("partition", "p.py:lonely", "leaves 1 of 2 clients without a record", "e.toml:8"),
    "no partition": ("partition", "p.py:counts_nothing", "the partitioner returned list", "e.toml:9"),
    "a function of nothing": ("aggregator", "p.py:nothing", "takes nothing that a component", "It has to take `delta`"),
    "a function for a client": ("client", "p.py:a_client", "has no method `train`", "e.toml:15"),
    "a client that cannot be made": ("client", "p.py:NotAChoice", "TypeError: cannot be made", place("cannot be made")),
    "a client that cannot train": ("client", "p.py:idle", "has no method `train`", "e.toml:15"),
    "an attack on labels that raises": ("attack", "p.py:labels", "no attribute 'nothing'", place("labels.nothing")),
    "an attack that loses labels": ("attack", "p.py:fewer_labels", "returned 3 labels for", "e.toml:19"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "problem", "where"), REFUSED.values(), ids=[*REFUSED])
def test_a_wrong_plugin_is_refused_at_its_line(fedmodel, run, kind, name, problem, where):
    run(kind, name).refused(problem, where)
    assert not fedmodel.out.exists()


def test_a_parameter_with_a_name_of_its_own_is_explained(fedmodel, experiment):
    files = {"p.py": "def average(updates):\n    return updates.mean(0)\n"}
    text = experiment + '\n[strategy]\nname = "compose"\ncombine = "p.py:average"\n'
    said = fedmodel.run(text, files=files)
    said.refused("p.py:average needs `updates`", "is called `delta` and `weights`")


# Fails while it runs

FAILS = {
    "an aggregator": ("aggregator", "p.py:aggregator", "'undefined_thing' is not defined", "undefined_thing"),
    "a transform": ("transform", "p.py:transform", "ValueError: not these", "not these"),
    "a metric": ("metric", "p.py:metric", "ValueError: no such group", "no such group"),
    "an attack": ("attack", "p.py:own", "no attribute 'nothing'", "return own.nothing"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "problem", "line"), FAILS.values(), ids=[*FAILS])
def test_a_plugin_that_fails_ends_the_run_at_its_line(run, kind, name, problem, line):
    run(kind, name).refused(problem, place(line), code=1)


RETURNS = {
    "no update": ("aggregator", "p.py:no_update", "returned NoneType", "a tensor [d] = (64,)"),
    "whole numbers": ("aggregator", "p.py:whole", "numbers of type torch.int32", "floating-point"),
    "too few": ("aggregator", "p.py:short_update", "returned (2,)", "a tensor [d] = (64,)"),
    "weights of nobody": ("weighting", "p.py:no_weights", "the weights [0.0, 0.0", "not all of them 0"),
    "no memory": ("optimiser", "p.py:no_memory", "returned Tensor", "its memory for the next round"),
    "the way out": ("aggregator", "p.py:leaves", "your code ended the program", "in place of `sys.exit`"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "problem", "fix"), RETURNS.values(), ids=[*RETURNS])
def test_what_a_plugin_returns_is_told_where_it_is_wrong(run, kind, name, problem, fix):
    run(kind, name).refused(problem, fix, code=1)


@pytest.mark.parametrize("policy", ["retry", "abort"])
def test_a_client_that_fails_ends_the_run(fedmodel, run, policy):
    more = f'\n[engine]\non_failure = "{policy}"\n'
    said = run("client", "p.py:client", more=more).refused(
        "1 client failed", "round 1", "Hungary", "RuntimeError: disk on fire", place("on fire"),
        'engine.on_failure = "drop"', f"fedmodel resume {fedmodel.out}", code=1
    )  # fmt: skip
    assert ("twice" in said.words) == (policy == "retry")


def test_a_client_that_fails_is_dropped_and_reported(fedmodel, run):
    said = run("client", "p.py:client", more='\n[engine]\non_failure = "drop"\n')
    assert said.code == 0
    assert "round 2/2" in said.out
    assert "Hungary failed" in said.words and "disk on fire" in said.words
    rounds = [json.loads(line) for line in (fedmodel.out / "rounds.jsonl").read_text().splitlines()]
    assert [list(entry["failed"]) for entry in rounds] == [[], ["1"], ["1"]]
    assert [entry["trained"] for entry in rounds] == [[], [0, 2, 3], [0, 2, 3]]


def test_a_strategy_of_flowers_that_fails(fedmodel, experiment):
    more = '\n[strategy]\nname = "flwr.serverapp.strategy:FedAvg"\nweighted_by_key = "wealth"\n'
    fedmodel.run(experiment + more).refused(
        "FedAvg failed in round 1", "Missing required key `wealth`", code=1
    )


def test_a_strategy_of_flowers_that_makes_no_model_is_told(fedmodel, experiment):
    plugin = """
from flwr.serverapp.strategy import FedAvg


class Silent(FedAvg):
    def aggregate_train(self, server_round, replies):
        return None, None
"""
    text = experiment + '\n[strategy]\nname = "p.py:Silent"\n'
    said = fedmodel.run(text, files={"p.py": plugin})
    assert said.code == 0
    assert "round 1: the strategy returned no model, so the last one stays" in said.words


def test_an_update_of_another_shape(run):
    run("client", "p.py:short").refused("train returned (64,)", "[K, d] = (4, 64)", code=1)


def test_a_training_that_diverges_names_client_and_round(fedmodel, experiment):
    text = experiment.replace('"logistic"', '"mlp"').replace("= 0.1", "= 1e30")
    fedmodel.run(text).refused(
        "round 1", "Cleveland", "not finite", "Choose a smaller client.learning_rate", code=1
    )


def test_a_second_interrupt_says_how_to_go_on(fedmodel, run):
    said = run("aggregator", "p.py:interrupted")
    assert said.code == 1
    assert "stopped at once" in said.err
    assert f"fedmodel resume {fedmodel.out}" in said.words


@pytest.mark.slow
def test_a_plugin_that_fails_in_a_worker_is_told_as_well(run):
    more = '\n[engine]\nname = "ray"\nworkers = 2\n'
    run("client", "p.py:client", more=more).refused(
        "Hungary", "round 1", "RuntimeError: disk on fire", place("on fire"), code=1
    )


# Resume


def test_nothing_to_resume(fedmodel):
    fedmodel.out.mkdir()
    fedmodel("resume", fedmodel.out).refused("holds no run", str(fedmodel.out), "`fedmodel run`")


def test_a_finished_run_is_not_run_again(fedmodel, experiment):
    assert fedmodel.run(experiment).code == 0
    written = (fedmodel.out / "rounds.jsonl").read_text()
    said = fedmodel("resume", fedmodel.out)
    assert said.code == 0
    assert "this run is finished: no round is left" in said.err
    assert (fedmodel.out / "rounds.jsonl").read_text() == written


def test_a_run_goes_on_with_the_mended_copy_of_a_plugin(fedmodel, run):
    said = run("aggregator", "p.py:aggregator").refused("undefined_thing", code=1)
    copy = fedmodel.out / "plugins" / "p.py"
    assert f"your code from the copy in {copy.parent}" in said.words
    copy.write_text(PLUGIN.replace("undefined_thing + ", ""))
    again = fedmodel("resume", fedmodel.out)
    assert again.code == 0, again.words
    assert "round 2/2" in again.out


def test_the_data_of_a_run_must_not_change(fedmodel, experiment):
    table = "site,age,ill\n" + "".join(f"{'ab'[i % 2]},{i},{i % 3 // 2}\n" for i in range(40))
    old = '"heart_disease"\nencode = "public"\ntest = 0.25\n'
    text = experiment.replace(old, '"csv"\npath = "t.csv"\nlabel = "ill"\nclient = "site"\n')
    text += OPTIONS["aggregator"][1].format("p.py:aggregator")
    said = fedmodel.run(text, files={**FILES, "t.csv": table})
    said.refused("undefined_thing", code=1)
    (fedmodel.folder / "t.csv").write_text(table.replace("a,4,", "a,5,"))
    said = fedmodel("resume", fedmodel.out)
    said.refused("the data is not what this run was started with", "Put the data back")


# Check


CHECKED = {
    "raises": ("p.py:aggregator", "p.py:aggregator as aggregator", place("undefined_thing")),
    "fails": ("p.py:client", "FAIL one client alone trains as", "disk on fire"),
    "refused": ("p.py:batchnorm", "FAIL it answers each record", "BatchNorm1d"),
}


@pytest.mark.parametrize(("name", "finding", "detail"), CHECKED.values(), ids=[*CHECKED])
def test_check_tells_what_a_plugin_breaks(fedmodel, name, finding, detail):
    fedmodel.write("", FILES)
    said = fedmodel("check", name)
    assert said.code == 2
    assert finding in said.words and detail in said.words
    assert "Traceback" not in said.words


NOT_CHECKED = {
    "a syntax error": ("broken.py:aggregator", "broken.py:1"),
    "a wrong name": ("p.py:agregator", "Did you mean `aggregator`?"),
    "no name": ("p.py", "FILE.py:NAME"),
    "no function": ("p.py:number", "neither a function nor a class"),
    "a kind that cannot be told": ("p.py:idle", "--kind"),
}


@pytest.mark.parametrize(("name", "problem"), NOT_CHECKED.values(), ids=[*NOT_CHECKED])
def test_check_refuses_what_it_cannot_try(fedmodel, name, problem):
    fedmodel.write("", FILES)
    fedmodel("check", name).refused(problem)


# As a process of its own, on a terminal, and a mistake of ours


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedmodel.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_mistake_ends_the_process_with_2(fedmodel, experiment):
    fedmodel.write(experiment.replace("learning_rate", "learnin_rate"))
    done = process("run", fedmodel.file, "--out", fedmodel.out)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: sgd has no option `learnin_rate`\n\n"
        "  e.toml:16   learnin_rate = 0.1\n"
        "              ^^^^^^^^^^^^\n\n"
        "  Did you mean `learning_rate`? sgd takes: learning_rate (required), batch_size (default 32), epochs\n"
        "  (default 1.0), steps (default None), optimiser (default 'sgd'), momentum (default 0.0),\n"
        "  weight_decay (default 0.0), proximal (default 0.0), class_weights (default None), beside dropout,\n"
        "  schedule.\n"
    )


def test_a_failed_run_ends_the_process_with_1(fedmodel, experiment):
    fedmodel.write(experiment + OPTIONS["aggregator"][1].format("p.py:aggregator"), FILES)
    done = process("run", fedmodel.file, "--out", fedmodel.out)
    assert done.returncode == 1
    assert "round 0/2" in done.stdout
    assert "Traceback" not in done.stderr
    assert place("undefined_thing") in done.stderr


def test_a_mistake_leaves_the_terminal_as_it_was():
    class Broken:
        class config:  # noqa: N801
            rounds = 3

        @property
        def built(self):
            raise FedmodelError("no such data")

    terminal = StringIO()
    console = Console(file=terminal, force_terminal=True)
    with pytest.raises(FedmodelError), Progress(console, Broken()):
        pass
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().rfind(shown) > terminal.getvalue().rfind(hidden) >= 0


def test_a_mistake_of_ours_is_called_one(fedmodel, experiment, monkeypatch, capsys):
    monkeypatch.setattr("fedmodel.experiment.Experiment.read", staticmethod(json.loads))
    with pytest.raises(TypeError):
        fedmodel.run(experiment)
    assert "a mistake in fedmodel itself; please report it" in capsys.readouterr().err
