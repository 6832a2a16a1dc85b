"""What a user reads when a component's name is wrong: problem, place, remedy, exit code 2, no run."""

from __future__ import annotations

import pytest
from errors.changing import STRATEGY, changed

UNKNOWN_NAMES = {
    "data set": (
        "heart_disease",
        "hart_disease",
        'no dataset is called "hart_disease"',
        "`heart_disease`",
        "adult",
    ),
    "model": ("logistic", "logistics", 'no model is called "logistics"', "`logistic`", "mlp"),
    "client": ('"sgd"', '"sdg"', 'no client is called "sdg"', "`sgd`", "dp_sgd"),
    "partitioner": (
        "natural",
        "naturl",
        'no partitioner is called "naturl"',
        "`natural`",
        "dirichlet",
    ),
    "data set by path": (
        "heart_disease",
        "fedmodel.data.medical:hart",
        'has no "hart"',
        "heart_disease",
        "",
    ),
    "model by path": (
        "logistic",
        "torch.nn:Linaer",
        'torch.nn has no "Linaer"',
        "`Linear`",
        "more",
    ),
    "a dot for a colon": (
        "logistic",
        "torch.nn.Linear",
        "no model is called",
        "`torch.nn:Linear`",
        "",
    ),
    "a module": ("logistic", "torhc.nn:Linear", 'no module "torhc.nn"', "Install the package", ""),
    "a file": (
        "logistic",
        "mine.py:net",
        "there is no file",
        "Paths start at the experiment's folder",
        "",
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "problem", "right", "listed"), UNKNOWN_NAMES.values(), ids=[*UNKNOWN_NAMES]
)
def test_an_unknown_name_is_answered_with_the_names(
    fedmodel, experiment, old, new, problem, right, listed
):
    said = fedmodel.run(changed(experiment, old, new)).refused(problem, right, listed)
    assert said.marked[1] == "name"


UNKNOWN_PARTS = {
    "aggregator": ('combine = "medain"', "combine", "Did you mean `mean`?", "trimmed_mean"),
    "transform": (
        'before = ["clip_nrm"]',
        '"clip_nrm"',
        "Did you mean `clip_norm`?",
        "The transforms are",
    ),
    "aggregator by path": (
        'combine = "fedmodel.strategies.robust:trimmed_men"',
        "combine",
        "Did you mean `trimmed_mean`?",
        "",
    ),
}


@pytest.mark.parametrize(
    ("line", "mark", "right", "listed"), UNKNOWN_PARTS.values(), ids=[*UNKNOWN_PARTS]
)
def test_an_unknown_part_of_a_strategy(fedmodel, experiment, line, mark, right, listed):
    said = fedmodel.run(experiment + STRATEGY + line).refused(right, listed)
    assert said.marked == ("e.toml:20", mark)


def test_a_strategy_of_flowers_is_told_by_its_path(fedmodel, experiment):
    said = fedmodel.run(experiment + '\n[strategy]\nname = "FedAdam"\n')
    assert said.refused("Did you mean `flwr.serverapp.strategy:FedAdam`?").marked[0] == "e.toml:19"


def test_an_unknown_strategy_by_path(fedmodel, experiment):
    text = experiment + '\n[strategy]\nname = "flwr.serverapp.strategy:FedAdm"\n'
    fedmodel.run(text).refused("Did you mean `FedAdam`?", "QFedAvg")


def test_a_class_that_is_no_strategy(fedmodel, experiment):
    text = experiment + '\n[strategy]\nname = "torch.nn:Identity"\n'
    fedmodel.run(text).refused("torch.nn:Identity is not a flwr.serverapp.strategy.Strategy")
