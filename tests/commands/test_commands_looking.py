"""What a look at an experiment says of its seeds, and the help of commands."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fedmodel.cli import app

EXPERIMENT = """
rounds = 1
seeds = [3, 4]
[data]
name = "heart_disease"
[model]
name = "logistic"
[client]
name = "sgd"
learning_rate = 0.1
"""


def test_a_preview_says_whose_figures_it_shows(tmp_path):
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    arguments = ["show", "data", str(tmp_path / "e.toml"), "--out", str(tmp_path / "p.html")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "figures of seed 3, the first of 2" in " ".join(found.output.split())


@pytest.mark.parametrize("command", ["compare", "export", "schema"])
def test_help_has_no_stray_backslash(command):
    found = CliRunner().invoke(app, [command, "--help"])
    assert "[default" in found.output
    assert "\\" not in found.output
