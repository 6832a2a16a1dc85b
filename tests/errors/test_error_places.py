"""Where keys stand in TOML, against tomllib and tomli_w; and the one voice of all errors."""

from __future__ import annotations

import ast
import pickle
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

import fedmodel
from fedmodel.errors import FedmodelError, RunFailed, marked_line, nearest, plugin_fault, wanted
from fedmodel.source import Source, places

KEYS = st.text(st.sampled_from("ab.=[]{}#\"'\\ \n-é"), max_size=4)
LEAVES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(st.sampled_from("ab=[]{}#\"'\\\n,")),
    st.datetimes(),
    st.floats(allow_nan=False),
)
VALUES = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=12,
)


def paths(value: object, above: tuple = ()) -> Iterator[tuple]:
    """Every key and item of a parsed document."""
    if above:
        yield above
    if isinstance(value, dict):
        for key, below in value.items():
            yield from paths(below, (*above, key))
    if isinstance(value, list):
        for number, below in enumerate(value):
            yield from paths(below, (*above, number))


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_every_key_is_found_where_it_is_written(document, several_lines):
    text = tomli_w.dumps(document, multiline_strings=several_lines)
    found = places(text)
    assert set(found) == set(paths(tomllib.loads(text)))
    for path, (begin, width) in found.items():
        if isinstance(path[-1], str):
            assert tomllib.loads(f"{text[begin : begin + width]} = 1") == {path[-1]: 1}


@pytest.mark.parametrize(
    ("text", "path", "marked"),
    [
        ("a.b.c = 1", ("a", "b"), (2, 1)),
        ("[a]\nx = 1\n[a.b]\nx = 2", ("a", "b", "x"), (16, 1)),
        ("[[a]]\nx = 1\n[[a]]\nx = 2", ("a", 1, "x"), (18, 1)),
        ("[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\nx = 1", ("a", 1, "b", 0, "x"), (28, 1)),
        ("a = 1979-05-27 07:32:00 # a = 2\nb = 3", ("b",), (32, 1)),
        ("a = '''\nb = 1'''\nb = 2", ("b",), (17, 1)),
        ('"a b".c = 1', ("a b",), (0, 5)),
        ("a = [[1, 2], [3]] ", ("a", 1, 0), (14, 1)),
    ],
)
def test_places_by_hand(text, path, marked):
    assert places(text)[path] == marked


def test_a_key_that_is_not_written_is_placed_at_its_table():
    source = Source(Path("e.toml"), "rounds = 1\n\n[data]\nname = 'x'\n")
    assert source.where("data", "path").splitlines()[0] == "  e.toml:3   [data]"
    assert source.where("engine", "name") == "  e.toml"
    assert source.place("[data] name = natural").startswith("  e.toml:4")
    assert source.place("client 3, round 2") == "client 3, round 2"


def test_a_line_too_long_for_the_screen_is_cut_around_the_mark():
    line = "x" * 300 + " key = 1 " + "y" * 300
    shown, mark = marked_line("e.toml", 7, line, 301, 3).splitlines()
    assert max(len(shown), len(mark)) <= 120
    assert shown[mark.index("^") : len(mark)] == "key"


def test_a_tab_does_not_move_the_mark():
    shown, mark = marked_line("e.toml", 7, "\tkey = 1", 1, 3).splitlines()
    assert shown[mark.index("^") : len(mark)] == "key"


def test_the_nearest_name_whatever_its_case():
    assert nearest("MLP", ["mlp", "logistic"], what="it has") == (
        "Did you mean `mlp`? It has: logistic, mlp."
    )
    assert nearest("x", map(str, range(30)), what="it has").endswith("and 10 more.")


def test_what_is_wanted_is_said_once():
    assert wanted(["Input should be 'a'", "Input should be 'a'"]) == 'It should be "a".'


@pytest.mark.parametrize("kind", [FedmodelError, RunFailed])
def test_an_error_arrives_whole_from_another_process(kind):
    sent = kind("it broke", where="[client]", fix="Mend it.")
    arrived = pickle.loads(pickle.dumps(sent))
    assert type(arrived) is kind
    assert str(arrived) == str(sent) == "it broke\n\n  [client]\n\n  Mend it."


def test_a_fault_is_placed_in_the_users_code_not_in_a_library():
    def mine():
        return tomllib.loads("a = ")

    with pytest.raises(tomllib.TOMLDecodeError) as raised:
        mine()
    line = mine.__code__.co_firstlineno + 1
    assert plugin_fault(raised.value).endswith(f"{Path(__file__).name}:{line} in mine")


# One voice


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Every place in the package that makes one of our errors."""
    root = Path(fedmodel.__file__).parent
    for file in sorted(
        [*root.rglob("*.py"), *(root / "clients").glob("*.py"), *(root / "strategies").glob("*.py")]
    ):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = (
                node.func.id
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                else ""
            )
            if name in ("FedmodelError", "RunFailed"):
                yield f"{file.relative_to(root)}:{node.lineno}", node


def ends(node: ast.expr) -> tuple[str, str]:
    """How a text begins and ends, as far as it is written out."""
    if isinstance(node, ast.JoinedStr):
        return ends(node.values[0])[0], ends(node.values[-1])[1]
    if isinstance(node, ast.BinOp):
        return ends(node.left)[0], ends(node.right)[1]
    if isinstance(node, ast.IfExp):
        return ends(node.body)
    text = str(node.value) if isinstance(node, ast.Constant) else ""
    return text, text


NAMES = ("PRV", "RDP", "GDP", "Ray", "Flower", "Opacus")


def test_every_error_says_what_is_wrong_in_lower_case_and_what_to_do_in_a_sentence():
    wrong = []
    for place, call in raised():
        begin, end = ends(call.args[0]) if call.args else ("", "")
        if (begin[:1].isupper() and not begin.startswith(NAMES)) or end.endswith("."):
            wrong.append(f"{place}: problem {begin!r}")
        fix = next((keyword.value for keyword in call.keywords if keyword.arg == "fix"), None)
        if fix is None:
            wrong.append(f"{place}: no fix")
            continue
        begin, end = ends(fix)
        if begin[:1].islower() or (end and end[-1] not in ".?"):
            wrong.append(f"{place}: fix {begin!r} ... {end!r}")
    assert not wrong, "\n".join(wrong)
