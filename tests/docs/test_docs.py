"""The documentation is true: its Python runs, its TOML is accepted, its commands and links exist.

In the Markdown files ```python is run and ```toml is read as a part of an experiment. With
`file=NAME` behind it a block is written to that file first; a whole experiment carries such a name.
"""

import os
import pkgutil
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import typer
from typer.testing import CliRunner

import fedmodel
from fedmodel import config
from fedmodel.catalogue import KINDS
from fedmodel.cli import app
from fedmodel.contracts import check_plugin

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]

# Files of a run, and keys of the TOML, that look like names in the code.
FILE_OR_KEY = r"\.(toml|parquet|jsonl|py|dropout|encode|on_failure)$"
# What the docs' parts of experiments are parts of: small, and quick to run.
BASE = {
    "rounds": 1,
    "data": {"name": "heart_disease"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.1},
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    file: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(page, *languages):
    """The fenced blocks of a page in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^ *```(\w*)([^\n]*)\n(.*?)^ *```$", text, re.M | re.S):
        if found[1] in languages:
            file = re.search(r"file=(\S+)", found[2])
            line = text[: found.start()].count("\n") + 1
            if "pyproject" not in found[2]:
                yield Block(page, line, found[1], file[1] if file else "", dedent(found[3]))


PYTHON = [block for page in PAGES for block in blocks(page, "python")]
TOML = [block for page in PAGES for block in blocks(page, "toml")]
USED = {a for b in TOML for a in re.findall(r'"(\w+\.py:\w+)"', b.text)}
PLUGINS = sorted(
    f"{b.file}:{name}"
    for b in PYTHON
    if b.file
    for name in re.findall(r"^(?:def|class) (\w+)", b.text, re.M)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all files that the docs tell their reader to write."""
    path = tmp_path_factory.mktemp("reader")
    for block in (*PYTHON, *TOML):
        if block.file:
            (path / block.file).write_text(block.text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _there(request, monkeypatch):
    if "folder" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("folder"))


def whole(block):
    """The experiment that a block is, or is a part of."""
    part = tomllib.loads(block.text)
    if block.file:
        return part
    experiment = {**BASE, **part}
    if "privacy" in part and "client" not in part:
        experiment["client"] = {**BASE["client"], "name": "dp_sgd"}
    if "data" in part and "partition" not in part and part["data"]["name"] != "heart_disease":
        experiment["partition"] = {"name": "iid", "clients": 4}
    experiment["engine"] = {"name": "inline"}
    return experiment


def tree(group=None, *above):
    """Every command by what one types, with what typer knows of it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from tree(command, *above, name)
        else:
            yield " ".join((*above, name)), command


COMMANDS = dict(tree())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section_with_all_its_options(command):
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = re.search(rf"^### fedmodel {command}\b.*?\n(.*?)(?=^#|\Z)", page, re.M | re.S)
    assert section, f"docs/commands.md needs a section `### fedmodel {command} ...`"
    options = {
        option
        for parameter in COMMANDS[command].params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    assert set(re.findall(r"`(--[\w-]+)", section[1])) == options


def test_no_other_command_is_in_the_docs():
    first = {command.split()[0] for command in COMMANDS}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # In code, `fedmodel word` is a command; the prose may say what fedmodel does.
        named = set(re.findall(r"(?:`|\$ |^### |\.venv/bin/)fedmodel ([a-z]+)", text, re.M))
        assert named <= first, page


def typed(page):
    """What the page shows after `$ fedmodel`, as words, without comments."""
    for block in blocks(page, "console", "bash"):
        for line in re.findall(r"^(?:\$ )?fedmodel (.*)$", block.text, re.M):
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", [p for p in PAGES if list(typed(p))], ids=lambda p: p.name)
def test_options_that_are_shown_exist(page):
    for words in typed(page):
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, words


def test_the_quick_start_works_from_top_to_bottom(folder):
    page = ROOT / "docs" / "quickstart.md"
    for block in blocks(page, "python", "console"):
        if block.language == "python":
            exec(compile(block.text, str(page), "exec"), {"__name__": "__main__"})
            continue
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            assert words[:2] == ["$", "fedmodel"]
            result = CliRunner().invoke(app, words[2:])
            assert result.exit_code == 0, (line, result.output, result.exception)


def test_every_page_is_one_click_away():
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):
        assert page.name == "README.md" or f"]({page.name})" in listed, page


def test_every_key_of_an_experiment_is_in_the_docs():
    everything = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    sections = [part for part in vars(config).values() if isinstance(part, type)]
    keys = {
        key for part in sections if issubclass(part, config.Section) for key in part.model_fields
    }
    assert len(keys) > 50
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", everything)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_that_ships_is_in_the_docs(kind):
    everything = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in KINDS[kind].names() if not re.search(rf"\b{name}\b", everything)] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", to.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, target


@pytest.mark.parametrize("block", TOML, ids=str)
def test_toml_is_accepted(block, folder):
    fedmodel.Experiment.read({**whole(block), "engine": {"name": "inline"}})
    if block.file:
        fedmodel.Experiment.read(folder / block.file)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugins_are_sound(plugin, folder):
    _, findings = check_plugin(plugin)
    assert [(finding.what, finding.detail) for finding in findings if not finding.passed] == []


def test_every_example_has_its_line_of_toml():
    page = ROOT / "docs" / "extending.md"
    files = {b.file for b in PYTHON if b.page == page and b.file}
    assert {plugin for plugin in PLUGINS if plugin.split(":")[0] in files} == USED


def test_architecture_names_every_layer_and_every_file_of_a_run(tmp_path, folder):
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8")
    for module in re.findall(r"fedmodel\.(\w+)", contract.split("ignore_imports")[0]):
        assert f"`{module}`" in text, module
    config = {**BASE, "data": {"name": "heart_disease", "validation": 0.1}}
    run = fedmodel.run(
        {**config, "strategy": {"name": "compose", "combine": "mine.py:centre"}},
        out=tmp_path / "run",
    )
    for file in run.path.iterdir():
        assert f"`{file.name}{'/' * file.is_dir()}`" in text, file


def test_names_in_the_architecture_exist():
    """What stands as `module.name` is there, in the module that the page says."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = {part.stem for part in (ROOT / "fedmodel").iterdir()}
    for dotted in re.findall(r"`(?:fedmodel\.)?([A-Za-z_]+(?:\.\w+)+)`", text):
        if dotted.split(".")[0] in modules and not re.search(FILE_OR_KEY, dotted):
            assert pkgutil.resolve_name(f"fedmodel.{dotted}"), dotted


@pytest.mark.parametrize(
    "block", [b for b in TOML if b.page.name == "extending.md" and not b.file], ids=str
)
def test_extensions_run(block, folder, tmp_path):
    # Every client, so that attackers are among them; one round, so that it is quick.
    run = fedmodel.run(whole(block), out=tmp_path / "run")
    assert run.manifest["finished"]
    assert run.last("num_records") > 0


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if list(blocks(p, "python")) and p.name != "quickstart.md"],
    ids=lambda p: p.name,
)
def test_python_runs(page, folder):
    """A page from top to bottom, as its reader would type it."""
    namespace = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if not block.file:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)


def test_the_readme_shows_what_the_check_prints(folder):
    kind, findings = check_plugin("mine.py:centre")
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert kind == "aggregator"
    for finding in findings:
        assert f"  ok   {finding.what}\n" in shown


def test_the_readme_shows_the_columns_of_a_summary(tmp_path, folder):
    from rich.console import Console

    from fedmodel.display.results import summary

    config = {**BASE, "data": {"name": "heart_disease", "sensitive": ["sex"]}}
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(summary(fedmodel.run(config, out=tmp_path / "run")))
    header = next(line for line in console.export_text().splitlines() if "accuracy" in line)
    names = re.split(r" {2,}", header.strip())
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    title = next(line for line in shown.splitlines() if line.startswith(" model  "))
    assert names == re.split(r" {2,}", title.strip())
