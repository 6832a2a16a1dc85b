"""What a user reads when settings do not go together, or arguments are wrong: problem, place, remedy, exit code 2, no run."""

from __future__ import annotations

import pytest
from errors.changing import ENGINE, PRIVACY, STRATEGY, changed

# Combinations without effect or meaning

COMBINATIONS = {
    "weights that nobody takes": (
        "",
        STRATEGY + 'combine = "trimmed_mean"\nweigh = "by_records"\n',
        "trimmed_mean ignores weights",
        "Drop `weigh`",
        "weigh",
    ),
    "privacy without noise": ("", PRIVACY, "sgd adds no noise", 'name = "dp_sgd"', "privacy"),
    "noise without privacy": ('"sgd"', "", "there is no [privacy]", "Add [privacy]", "name"),
    "two budgets": (
        '"sgd"',
        PRIVACY + "noise_multiplier = 1.0\n",
        "not both",
        "Drop one",
        "noise_multiplier",
    ),
    "no budget": ('"sgd"', "\n[privacy]\n", "not none", "Add e.g. epsilon = 3.0", "privacy"),
    "the run as its own reference": (
        "",
        '\n[evaluation]\nreferences = ["pooled", "non_private"]\n',
        "is this run itself",
        "Drop it",
        '"non_private"',
    ),
    "an address without ray": (
        "",
        ENGINE + 'address = "auto"\n',
        "`address` has no effect",
        'name = "ray"',
        "address",
    ),
    "a device that is not there": (
        "",
        ENGINE + 'device = "gpu7"\n',
        'no device "gpu7"',
        '"cpu"',
        "device",
    ),
    "an attacker that is not there": (
        "",
        '\n[attack]\nname = "sign_flip"\nclients = ["Clevland"]\n',
        'no client "Clevland"',
        "Did you mean `Cleveland`?",
        "clients",
    ),
    "attackers only": (
        "",
        '\n[attack]\nname = "sign_flip"\nclients = ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"]\n',
        "all clients are attackers",
        "at least one honest client",
        "clients",
    ),
    "more steps than can be counted": (
        '"sgd"',
        PRIVACY + "participations = 9000000000000000000\n",
        "plans for",
        "fewer participations",
        "participations",
    ),
    "an epsilon below all noise": (
        '"sgd"',
        PRIVACY.replace("3.0", "1e-9"),
        "no noise keeps",
        "choose a larger epsilon",
        "epsilon",
    ),
    "weights by a loss that is private": (
        '"sgd"',
        PRIVACY
        + '\n[strategy]\nname = "flwr.serverapp.strategy:QFedAvg"\nclient_learning_rate = 0.1\n',
        "which a private client keeps to itself",
        "drop [privacy]",
        "name",
    ),
    "more clients waited for than there are": (
        "",
        '\n[strategy]\nname = "flwr.serverapp.strategy:FedAvg"\nmin_available_nodes = 10\n',
        "FedAvg waits for 10 clients and there are 4",
        "Set min_available_nodes = 4 or fewer",
        "min_available_nodes",
    ),
    "a share of more than all": (
        "",
        '\n[strategy]\nname = "flwr.serverapp.strategy:FedAvg"\nfraction_train = 7.0\n',
        "FedAvg cannot ask a share of 7.0 of the clients",
        "0 <= fraction_train <= 1",
        "fraction_train",
    ),
    "texts wanted, numbers there": (
        '"logistic"',
        "",
        "text_bag reads texts, and heart_disease has none",
        "a model of tables",
        "name",
    ),
}
RIGHT = {'"sgd"': '"dp_sgd"', '"logistic"': '"text_bag"'}


@pytest.mark.parametrize(
    ("old", "more", "problem", "fix", "mark"), COMBINATIONS.values(), ids=[*COMBINATIONS]
)
def test_what_has_no_effect_or_meaning_is_refused(
    fedmodel, experiment, old, more, problem, fix, mark
):
    text = changed(experiment, old, RIGHT[old]) if old else experiment
    said = fedmodel.run(text + more).refused(problem, fix)
    assert said.marked[1] == mark
    assert not fedmodel.out.exists()


def test_a_large_delta_is_a_warning_and_the_run_goes_on(fedmodel, experiment):
    text = changed(experiment, '"sgd"', '"dp_sgd"') + PRIVACY.replace("1e-3", "0.1")
    said = fedmodel.run(text)
    assert said.code == 0
    assert "note: delta=0.1 is at least 1 / n for 4 of 4 clients" in said.words
    assert "Choose a delta well below 0.004" in said.words
    assert "round 2/2" in said.out


# Overrides and other arguments

OVERRIDES = {
    "no equals sign": (
        "nonsense",
        '"nonsense" is not KEY=VALUE',
        "e.g. --set client.learning_rate=0.05",
    ),
    "no key": ("=3", "is not KEY=VALUE", "--set"),
    "an empty part": (
        "client..epochs=3",
        '"client..epochs" is not a dotted key',
        "a dot and the key",
    ),
    "below a number": ("rounds.x=3", "`rounds` is not a table", "--set rounds.x"),
    "a wrong value": ("rounds=two", '`rounds` cannot be "two"', "--set rounds"),
    "an unknown option": (
        "client.learnin_rate=1",
        "Did you mean `learning_rate`?",
        "--set client.learnin_rate",
    ),
    "a table that is none": ("client=3", "`client` cannot be 3", "It should be a table"),
    "inside an inline table": (
        'strategy={name="compose",combine={name="trimmed_mean",fracton=1}}',
        "trimmed_mean has no option `fracton`",
        "--set strategy",
    ),
    "a table that the file lacks": (
        "privacy.epsilon=3",
        "[privacy] has no effect",
        "--set privacy.epsilon",
    ),
}


@pytest.mark.parametrize(("override", "problem", "more"), OVERRIDES.values(), ids=[*OVERRIDES])
def test_an_override_is_named_where_it_is_wrong(fedmodel, experiment, override, problem, more):
    fedmodel.run(experiment, "--set", override).refused(problem, more, "--set")


def test_a_right_override_leaves_the_place_of_other_mistakes(fedmodel, experiment):
    text = changed(experiment, "= 0.1", "= 0.1\nepoch = 3")
    said = fedmodel.run(text, "--set", "client.learning_rate=0.05").refused("`epochs`")
    assert said.marked == ("e.toml:17", "epoch")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("run",), "missing argument 'CONFIG'"),
        (("runn", "e.toml"), "Did you mean 'run'?"),
        (("run", "e.toml", "--ouut", "x"), "Did you mean '--out'?"),
        (("run", "e.toml", "--engine", "rya"), "'rya' is not one of 'inline', 'ray', 'flower'"),
        (("run", "e.toml", "--seed", "x"), "'x' is not a valid integer"),
        (("list", "aggregatr"), "Did you mean `aggregator`?"),
        (("list", "metrics"), "no metric has a name of its own"),
    ],
)
def test_arguments_are_answered_in_the_same_voice(fedmodel, arguments, problem):
    fedmodel(*arguments).refused(problem)


def test_a_run_folder_that_is_not_empty(fedmodel, experiment):
    fedmodel.out.mkdir()
    (fedmodel.out / "notes.txt").write_text("mine")
    said = fedmodel.run(experiment).refused("out is not empty", "--out", "Give a new folder")
    assert [file.name for file in fedmodel.out.iterdir()] == ["notes.txt"], said


def test_a_run_folder_that_cannot_be_made(fedmodel, experiment):
    (fedmodel.file.parent / "file").write_text("")
    fedmodel.write(experiment)
    said = fedmodel("run", fedmodel.file, "--out", fedmodel.file.parent / "file" / "out")
    said.refused("cannot be used: Not a directory", "can be written to", code=1)
