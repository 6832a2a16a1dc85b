"""The notebook runs from top to bottom, as Jupyter would run it: in its folder, one namespace."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "experiments" / "tour.ipynb"

# Each cell's last expression is shown, as a notebook shows it; an error ends it with that cell's id.
RUNNER = """
import ast, json, sys
names = {"__name__": "__main__"}
for cell in json.loads(sys.stdin.read())["cells"]:
    if cell["cell_type"] == "code":
        print("##", cell["id"], flush=True)
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell["id"], "exec"), names)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
            print(getattr(shown, "_repr_svg_", shown.__repr__)())
"""


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_it_is_kept_without_outputs_and_places(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert not re.search(r"/(home|root|work|Users|tmp)/", NOTEBOOK.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(notebook),
        cwd=NOTEBOOK.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    cells = [cell["id"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert re.findall(r"^## (.+)$", done.stdout, re.M) == cells
    assert "VA Long Beach" in done.stdout and "<svg" in done.stdout
    assert "probability_disease" in done.stdout
