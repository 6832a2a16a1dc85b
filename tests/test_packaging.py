"""The wheel is whole: installed in an empty folder, far from the repository, the command works."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CONFIG = """
rounds = 2
[data]
name = "heart_disease"
encode = "public"
[model]
name = "logistic"
[client]
name = "dp_sgd"
learning_rate = 0.3
[privacy]
epsilon = 5.0
delta = 1e-3
[strategy]
name = "compose"
combine = "mine.py:middle"
"""

PLUGIN = '''
def middle(delta):
    """The median of each coordinate."""
    return delta.quantile(0.5, dim=0)
'''


NEW = """age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal
63,Male,asymptomatic,145,233,,normal,150,,2.3,,,
"""

SHIPPED = sorted((ROOT / "fedmodel/data/files").glob("*.*[!y]"))  # tables and their provenance

TEMPLATE = [file for file in (ROOT / "fedmodel/template").iterdir() if file.is_file()]


def packages_on_disk():
    found = set()
    for folder in ("fedmodel", "fedmodel/clients", "fedmodel/strategies"):
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(init.parent.relative_to(ROOT).parts))
    return found


def test_the_package_list_is_what_is_on_disk():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    assert set(declared) == packages_on_disk()


def test_shipped_data_are_small_and_their_provenance_is_told():
    told = (ROOT / "fedmodel/data/files/PROVENANCE.md").read_text(encoding="utf-8")
    tables = [file for file in SHIPPED if file.suffix == ".parquet"]
    assert sum(file.stat().st_size for file in tables) < 2_000_000
    assert {f"## {file.name}" for file in tables} == {
        line for line in told.splitlines() if line.startswith("## ") and "parquet" in line
    }
    assert not any("reuters" in file.name for file in tables)


def test_modules_stay_small():
    for folder in ("fedmodel", "clients", "strategies"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 400, file


def test_importing_the_package_is_light():
    code = "import sys, fedmodel; print([m for m in ('torch', 'flwr', 'ray', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_an_installed_wheel_works_in_an_empty_folder(tmp_path):
    """Built from the committed layout, installed beside the libraries of this environment."""
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "clients/sgd.py",
        "strategies/robust.py",
        *(f"data/files/{file.name}" for file in SHIPPED),
        "runs/page.css",
        "tested_versions.txt",
        *(f"template/{file.name}" for file in TEMPLATE),
    ):
        assert f"fedmodel/{needed}" in names
    # Its own environment, which sees the libraries of this one but not the checkout.
    target = tmp_path / "site"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(target),
            str(wheel),
        ],
        check=True,
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "mine.toml").write_text(CONFIG)
    (empty / "mine.py").write_text(PLUGIN)
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}

    def fedmodel(*arguments):
        command = [sys.executable, "-m", "fedmodel.cli", *arguments]
        return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)

    where = subprocess.run(
        [sys.executable, "-c", "import fedmodel; print(fedmodel.__file__)"],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(target) in where.stdout
    for arguments in (["check", "mine.py:middle"], ["validate", "mine.toml"], ["list", "dataset"]):
        done = fedmodel(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    for engine in ("inline", "ray"):
        done = fedmodel("run", "mine.toml", "--engine", engine, "--out", engine)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (empty / engine / "report.html").is_file()
    assert fedmodel("show", "ray").returncode == 0
    assert fedmodel("init", "begun").returncode == 0
    for arguments in (
        ["check", "begun/mine.py:length_limited"],
        ["check", "begun/mine.py:fading_sgd"],
        ["validate", "begun/experiment.toml"],
        ["run", "begun/experiment.toml", "--set", "rounds=2", "--out", "out"],
        ["doctor"],
    ):
        done = fedmodel(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout  # the doctor's lines
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "begun"]
    done = subprocess.run(tests, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (empty / "begun" / "new.csv").write_text(NEW)
    done = fedmodel("predict", "out", "begun/new.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((empty / "begun" / "new-predictions.csv").read_text().splitlines()) == 2
