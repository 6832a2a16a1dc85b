"""What a user reads when a key, a value or a file is wrong: problem, place, remedy, exit code 2, no run."""

from __future__ import annotations

import pytest
from errors.changing import ENGINE, STRATEGY, changed

# Keys that nobody knows

UNKNOWN_KEYS = {
    "at the top": ("rounds = 2", "rounds = 2\nround = 3", "e.toml:2", "round", "rounds"),
    "a table": ("[partition]", "[partitions]", "e.toml:8", "partitions", "partition"),
    "an option": ("learning_rate", "learnin_rate", "e.toml:16", "learnin_rate", "learning_rate"),
    "of a table with options": ("test = 0.25", "tst = 0.25", "e.toml:6", "tst", "test"),
}


@pytest.mark.parametrize(
    ("old", "new", "place", "mark", "right"), UNKNOWN_KEYS.values(), ids=[*UNKNOWN_KEYS]
)
def test_an_unknown_key_is_marked_and_the_nearest_is_named(
    fedmodel, experiment, old, new, place, mark, right
):
    said = fedmodel.run(changed(experiment, old, new)).refused(f"Did you mean `{right}`?")
    assert said.marked == (place, mark)
    assert not fedmodel.out.exists()


ADDED_KEYS = {
    "in a table": (f"{ENGINE}worker = 2\n", "e.toml:19", "worker", "workers"),
    "in an inline table": (
        STRATEGY + 'combine = { name = "trimmed_mean", fracton = 0.2 }\n',
        "e.toml:20",
        "fracton",
        "fraction",
    ),
    "in a list of inline tables": (
        STRATEGY + 'before = [{ name = "clip_norm", bond = 1.0 }]\n',
        "e.toml:20",
        "bond",
        "bound",
    ),
    "in a list over several lines": (
        STRATEGY
        + 'before = [\n  { name = "clip_norm", bound = 1.0 },  # bond = 1\n'
        + '  { name = "clip_norm", bond = 2.0 },\n]\n',
        "e.toml:22",
        "bond",
        "bound",
    ),
    "in a table below": (
        STRATEGY + '[strategy.combine]\nname = "trimmed_mean"\nfracton = 0.2\n',
        "e.toml:22",
        "fracton",
        "fraction",
    ),
    "in the second of a list of tables": (
        STRATEGY
        + '[[strategy.before]]\nname = "clip_norm"\nbound = 1.0\n'
        + '[[strategy.before]]\nname = "clip_norm"\nbond = 1.0\n',
        "e.toml:25",
        "bond",
        "bound",
    ),
    "in quotes": (f'{ENGINE}"worker" = 2\n', "e.toml:19", '"worker"', "workers"),
    "below comments and text that look like it": (
        ENGINE
        + '# worker = 1\nname = "inline"  # worker = 3\ndevice = """\nworker = 4"""\nworker = 2\n',
        "e.toml:23",
        "worker",
        "workers",
    ),
    "that is right in another table": (
        f"{ENGINE}learning_rate = 2\n",
        "e.toml:19",
        "learning_rate",
        None,
    ),
}


@pytest.mark.parametrize(("more", "place", "mark", "right"), ADDED_KEYS.values(), ids=[*ADDED_KEYS])
def test_the_mark_stands_under_the_key_itself(fedmodel, experiment, more, place, mark, right):
    said = fedmodel.run(experiment + more).refused(*([f"Did you mean `{right}`?"] if right else []))
    assert said.marked == (place, mark)


def test_dotted_keys_are_found(fedmodel):
    text = (
        'rounds = 1\ndata.name = "heart_disease"\nmodel.name = "logistic"\n'
        'client = { name = "sgd", learning_rate = 0.1 }\ndata.tst = 0.2\n'
    )
    said = fedmodel.run(text).refused("heart_disease has no option `tst`", "Did you mean `test`?")
    assert said.marked == ("e.toml:5", "tst")


def test_a_long_line_is_shown_around_the_mark(fedmodel, experiment):
    many = ", ".join(['"pooled"'] * 20)
    text = experiment + f"\n[evaluation]\nreferences = [{many}, 'lokal']\n"
    said = fedmodel.run(text).refused("`evaluation.references` cannot hold")
    assert said.marked == ("e.toml:19", "'lokal'")


def test_what_the_experiment_supplies_is_no_option(fedmodel, experiment):
    text = changed(experiment, '"natural"', '"dirichlet"\nclients = 5\nseed = 3')
    said = fedmodel.run(text).refused("dirichlet has no option `seed`", "Leave it out")
    assert said.marked == ("e.toml:11", "seed")


# Values of the wrong type

WRONG_VALUES = {
    "text for a number": ("rounds = 2", 'rounds = "two"', "e.toml:1", "rounds", "a whole number"),
    "a number in quotes": ("= 0.1", '= "0.1"', "e.toml:16", "learning_rate", "a number"),
    "too large": ("test = 0.25", "test = 25", "e.toml:6", "test", "less than 1"),
    "negative": ("= 0.1", "= -0.1", "e.toml:16", "learning_rate", "greater than 0"),
    "without end": ("= 0.1", "= 0.1\nepochs = inf", "e.toml:17", "epochs", "a finite number"),
    "not a number": ("test = 0.25", "test = nan", "e.toml:6", "test", "a finite number"),
    "no steps": ("= 0.1", "= 0.1\nsteps = 0", "e.toml:17", "steps", "greater than 0"),
    "more than an array holds": (
        "= 0.1",
        "= 0.1\nbatch_size = 10000000000000000000",
        "e.toml:17",
        "batch_size",
        "at most 64 bits",
    ),
    "a velocity that never fades": (
        "= 0.1",
        "= 0.1\nmomentum = 1.0",
        "e.toml:17",
        "momentum",
        "less than 1",
    ),
    "no text": (
        'name = "logistic"',
        'name = "logistic"\ninit = ""',
        "e.toml:13",
        "init",
        "text that is not empty",
    ),
    "half a record": (
        "= 0.1",
        "= 0.1\nbatch_size = 0.5",
        "e.toml:17",
        "batch_size",
        "a whole number",
    ),
    "text for a list": (
        '"heart_disease"',
        '"heart_disease"\nsensitive = "sex"',
        "e.toml:5",
        "sensitive",
        "a list",
    ),
    "truth for a number": ("rounds = 2", "rounds = true", "e.toml:1", "rounds", "a whole number"),
    "none of the words": ('"public"', '"publc"', "e.toml:5", "encode", '"public" or "none"'),
}


@pytest.mark.parametrize(
    ("old", "new", "place", "mark", "wanted"), WRONG_VALUES.values(), ids=[*WRONG_VALUES]
)
def test_a_wrong_value_is_shown_with_what_it_should_be(
    fedmodel, experiment, old, new, place, mark, wanted
):
    said = fedmodel.run(changed(experiment, old, new)).refused("cannot be", "It should be", wanted)
    assert said.marked == (place, mark)
    assert not fedmodel.out.exists()


WRONG_PARTS = {
    "a number for a component": (STRATEGY + "combine = 3\n", "combine", "a name in quotes"),
    "a component for a list": (
        STRATEGY + 'before = "clip_norm"\n',
        "before",
        'Write before = ["..."].',
    ),
    "a list for a component": (
        STRATEGY + 'combine = ["mean"]\n',
        "combine",
        'Write combine = "...".',
    ),
    "a share that trims all": (
        STRATEGY + 'combine = { name = "trimmed_mean", fraction = 0.7 }\n',
        "fraction",
        "less than 0.5",
    ),
    "an unknown word in a list": (
        '\n[evaluation]\nevery = 1\nreferences = ["pooled", "lokal"]\n',
        '"lokal"',
        '"pooled", "local", "non_private" or "cross_site"',
    ),
    "a share of more than all": (
        '\n[attack]\nname = "sign_flip"\nclients = 1.5\n',
        "clients",
        "less than 1",
    ),
    "nobody": (
        '\n[attack]\nname = "sign_flip"\nclients = []\n',
        "clients",
        "a list of at least 1",
    ),
    "no client's name": (
        '\n[attack]\nname = "sign_flip"\nclients = [1.5]\n',
        "1.5",
        "text in quotes or a whole number",
    ),
    "a bound that float32 cannot noise": (
        "\n[privacy]\n\nclip = 1e39\nepsilon = 3.0\n",
        "clip",
        "at most 1000000000",
    ),
}


@pytest.mark.parametrize(("more", "mark", "wanted"), WRONG_PARTS.values(), ids=[*WRONG_PARTS])
def test_a_wrong_part_is_shown_with_what_it_should_be(fedmodel, experiment, more, mark, wanted):
    said = fedmodel.run(experiment + more).refused(wanted)
    assert said.marked == ("e.toml:20", mark)


def test_a_table_is_wanted(fedmodel, experiment):
    text = "engine = 3\n" + experiment
    assert fedmodel.run(text).refused("It should be a table").marked == ("e.toml:1", "engine")


# What is not there

MISSING = {
    "rounds": ("rounds = 2\n", "", "needs `rounds`", "rounds = 20"),
    "a table": ('[model]\nname = "logistic"\n', "", "needs `model`", "[model]"),
    "a name": ('name = "sgd"\n', "", "[client] needs `name`", 'name = "..."'),
    "an option": (
        "learning_rate = 0.1\n",
        "",
        "sgd needs `learning_rate`",
        "learning_rate (required)",
    ),
}


@pytest.mark.parametrize(("old", "new", "problem", "fix"), MISSING.values(), ids=[*MISSING])
def test_what_is_missing_is_named(fedmodel, experiment, old, new, problem, fix):
    fedmodel.run(changed(experiment, old, new)).refused(problem, fix, "e.toml")


def test_a_missing_option_in_a_list_is_placed(fedmodel, experiment):
    text = experiment + STRATEGY + 'before = [\n  { name = "clip_norm" },\n]\n'
    assert fedmodel.run(text).refused("clip_norm needs `bound`").marked == ("e.toml:21", "{")


# Files that cannot be read

BROKEN = {
    "a bracket": ("[model]", "[model", "e.toml:11", "expected ']'"),
    "no quotes": ('"sgd"', "sgd", "e.toml:15", "Text needs quotes"),
    "a table twice": ("[model]", "[data]", "e.toml:11", "cannot declare [data] twice"),
    "no end": ("learning_rate = 0.1\n", "learning_rate = [0.1\n", "e.toml:16", "not valid TOML"),
}


@pytest.mark.parametrize(("old", "new", "place", "problem"), BROKEN.values(), ids=[*BROKEN])
def test_broken_toml_is_shown_at_its_line(fedmodel, experiment, old, new, place, problem):
    said = fedmodel.run(changed(experiment, old, new)).refused("e.toml is not valid TOML", problem)
    assert said.marked[0] == place


def test_a_missing_file(fedmodel):
    fedmodel("run", fedmodel.file.parent / "no.toml").refused("no.toml does not exist", "(.toml)")


def test_a_folder_in_place_of_a_file(fedmodel):
    fedmodel("run", fedmodel.folder).refused("is a folder", "(.toml)")


def test_an_empty_file(fedmodel):
    fedmodel.run(" \n").refused("e.toml is empty", "`fedmodel run --help` shows one")


def test_a_file_that_is_no_text(fedmodel):
    fedmodel.file.write_bytes(b"\xff\xfe\x00PK")
    fedmodel("run", fedmodel.file).refused("e.toml is not a text in UTF-8")
