"""What a user reads when an experiment file is wrong: problem, place, remedy, exit code 2, no run."""

from __future__ import annotations

import numpy as np
import pytest

STRATEGY = '\n[strategy]\nname = "compose"\n'
ENGINE = "\n[engine]\n"
PRIVACY = "\n[privacy]\nepsilon = 3.0\ndelta = 1e-3\n"


def changed(experiment: str, old: str, new: str) -> str:
    assert experiment.count(old) == 1
    return experiment.replace(old, new)


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


# Names that nobody has

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


# Tables of the user's own

TABLE = '[data]\nname = "csv"\npath = "t.csv"\nlabel = "ill"\nclient = "site"\n'


def table(*, site=lambda i: "ab"[i % 2], ill=lambda i: i % 3 == 0, split=lambda i: "train") -> str:
    draw = np.random.default_rng(0)
    rows = [f"{site(i)},{draw.normal():.2f},{int(ill(i))},{split(i)}" for i in range(40)]
    return "site,age,ill,part\n" + "\n".join(rows) + "\n"


def with_table(experiment: str, *lines: str) -> str:
    old = '[data]\nname = "heart_disease"\nencode = "public"\ntest = 0.25\n'
    return changed(experiment, old, TABLE + "".join(f"{line}\n" for line in lines))


def test_a_missing_table(fedmodel, experiment):
    said = fedmodel.run(with_table(experiment), files={"tt.csv": table()})
    said.refused(
        "there is no file t.csv", str(fedmodel.file.parent / "t.csv"), "Did you mean `tt.csv`?"
    )


def test_a_missing_table_is_not_the_experiment(fedmodel, experiment):
    said = fedmodel.run(changed(with_table(experiment), "t.csv", "e.csv"))
    said.refused("there is no file e.csv", "Check the path")


def test_a_missing_column(fedmodel, experiment):
    text = changed(with_table(experiment), '"ill"', '"il"')
    said = fedmodel.run(text, files={"t.csv": table()})
    said.refused("t.csv has no column 'il'", "Did you mean `ill`?", "age")
    assert said.marked == ("e.toml:6", "label")


def test_a_missing_column_in_a_list(fedmodel, experiment):
    text = with_table(experiment, 'sensitive = ["agee"]')
    said = fedmodel.run(text, files={"t.csv": table()}).refused("Did you mean `age`?")
    assert said.marked == ("e.toml:8", "sensitive")


def test_one_class_only(fedmodel, experiment):
    said = fedmodel.run(with_table(experiment), files={"t.csv": table(ill=lambda i: True)})
    said.refused("the label 'ill' is '1' in every record", "t.csv", "name another column")


def test_a_client_without_training_records(fedmodel, experiment):
    text = with_table(experiment, 'split = "part"')
    parts = table(split=lambda i: "test" if i % 2 or i % 10 == 0 else "train")
    said = fedmodel.run(text, files={"t.csv": parts})
    said.refused("no training record is left to 'b'", "Mark a record of each client as train")
    assert said.marked == ("e.toml:8", "split")


def test_no_records_to_test_with(fedmodel, experiment):
    said = fedmodel.run(changed(experiment, "0.25", "0.0")).refused("no client has test records")
    assert said.marked == ("e.toml:6", "test")


def test_more_clients_than_records(fedmodel, experiment):
    text = changed(experiment, '"natural"', '"iid"\nclients = 5000')
    said = fedmodel.run(text).refused("5000 clients for the 920 records", "clients <= 920")
    assert said.marked == ("e.toml:10", "clients")


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
