from pathlib import Path

import pytest

from fedmodel.catalogue import KINDS
from fedmodel.contracts import check_component, check_plugin, plausible_options
from fedmodel.rules import RULES

# Options without a default, where the plausible ones do not do.
OPTIONS: dict[str, dict | None] = {
    "continuous": {"column": "age"},
    "size": {"sizes": [500, 300, 120]},
    **dict.fromkeys(("csv", "files", "hf", "parquet", "reuters_r8")),  # need a file: see tests/data
}
CASES = [
    (kind, name)
    for kind, catalogue in KINDS.items()
    for name in catalogue.names()
    if OPTIONS.get(name, {}) is not None
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_component_keeps_to_the_rules_of_its_kind(kind, name):
    catalogue = KINDS[kind]
    given = OPTIONS.get(name) or {}
    needed = plausible_options(catalogue.schema(catalogue.find(name, base=Path.cwd())), given)
    findings = check_component(catalogue.bind({"name": name, **needed, **given}, base=Path.cwd()))
    assert len(findings) == len(RULES[kind]) + 1
    assert [(f.what, f.detail) for f in findings if not f.passed] == []


BROKEN = {
    "first_client": "def first_client(delta):\n    '''Takes one.'''\n    return delta[0]\n",
    "squares": "def squares(delta):\n    '''No scale.'''\n    return (delta ** 2).mean(0)\n",
    "in_place": "def in_place(delta):\n    '''Changes its input.'''\n    return delta.mul_(2).mean(0) / 2\n",
    "raises": "def raises(delta):\n    '''Fails.'''\n    if len(delta) > 1:\n        raise ValueError('no')\n    return delta[0]\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_aggregator_is_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BROKEN[name])
    _, findings = check_plugin(f"mine.py:{name}", kind="aggregator")
    assert not all(finding.passed for finding in findings)


def test_the_line_of_a_fault_in_a_plugin_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BROKEN["raises"])
    _, findings = check_plugin("mine.py:raises", kind="aggregator")
    assert any("mine.py:4" in finding.detail for finding in findings)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def f(delta):\n    '''x'''\n    return delta.mean(0)\n", "aggregator"),
        ("def f(delta):\n    '''x'''\n    return delta\n", "transform"),
        ("def f(reports):\n    '''x'''\n    return reports['num_records'] ** 0.5\n", "weighting"),
        ("def f(own):\n    '''x'''\n    return -own\n", "attack"),
        ("def f(confusion):\n    '''x'''\n    return float(confusion.sum())\n", "metric"),
    ],
)
def test_the_signature_tells_the_kind(source, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{kind}.py").write_text(source)
    found, findings = check_plugin(f"{kind}.py:f")
    assert found == kind
    assert all(finding.passed for finding in findings), findings
