"""The comparison of no, weak and strong privacy: what it tells is what runs and audits found."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from experiments.privacy.page import against_epsilon
from experiments.privacy.results import COLUMNS, save, written
from experiments.privacy.tradeoff import Scale, compare, experiment_with
from fedmodel.audits.inversion import gradient_inversion
from fedmodel.runs.charts import specification

ROOT = Path(__file__).parents[2]
TINY = Scale(hidden=8, rounds=2, seeds=2, shadows=6, batches=2, iterations=60, inverted=(1e6, 1.0))


def test_settings_differ_in_privacy_alone():
    free, strict = (experiment_with(epsilon, TINY, seed=3).raw for epsilon in (None, 1.0))
    assert strict.pop("privacy")["epsilon"] == 1.0
    assert "privacy" not in free
    assert (free["client"].pop("name"), strict["client"].pop("name")) == ("sgd", "dp_sgd")
    assert free == strict


def test_a_rate_without_enough_false_alarms_is_not_measured():
    column = next(column for column in COLUMNS if column.name == "this_run_tpr_at_0.01")
    assert written({column.name: math.nan}, column) == "not measurable here"
    assert written({column.name: 0.25}, column) == "25.0%"


def test_the_axis_of_epsilon_is_logarithmic_and_bars_reach_from_low_to_high():
    frame = pd.DataFrame({"epsilon": [1.0, 10.0], "value": [0.7, 0.8]})
    spec = specification(against_epsilon(frame.assign(low=0.6, high=0.9), kind="percent", title=""))
    bars, line, _ = spec["layer"]
    assert line["encoding"]["x"]["scale"]["type"] == "log"
    assert (bars["encoding"]["y"]["field"], bars["encoding"]["y2"]["field"]) == ("low", "high")
    assert len(specification(against_epsilon(frame, kind="percent", title=""))["layer"]) == 2


@pytest.mark.slow
def test_the_comparison_tells_what_was_found(tmp_path):
    told = compare(TINY, tmp_path / "runs", settings={"no privacy": None, "strong": 1.0})
    free, strict = told.table.to_dict("records")
    assert math.isinf(free["epsilon_upper"]) and 0.9 < strict["epsilon_upper"] <= 1.0
    # A smaller delta takes a larger epsilon, and no attack contradicts it.
    assert strict["epsilon_upper"] < strict["epsilon_upper_small_delta"]
    assert strict["epsilon_lower"] <= strict["epsilon_upper_small_delta"]
    assert math.isnan(free["this_run_tpr_at_0.01"])  # 231 non-members
    assert free["inversion_rmse"] < 0.5 * free["inversion_rmse_of_guess"] < strict["inversion_rmse"]
    again = gradient_inversion(
        experiment_with(None, TINY, seed=7), batch_sizes=(1,), batches=2, iterations=60
    )
    assert free["inversion_rmse"] == pytest.approx(again.figures["inversion_rmse"], rel=1e-4)
    assert set(told.inversion.epsilon.dropna()) == {math.inf, 1e6, 1.0}

    paths = save(told, tmp_path / "results", page_in=tmp_path / "runs", command="test")
    page, table = (next(p for p in paths if p.suffix == end) for end in (".html", ".md"))
    pictures = re.findall(r"!\[.*\]\((.*)\)", table.read_text("utf-8"))
    assert sorted(pictures) == sorted(p.name for p in paths if p.suffix == ".svg")
    rows = [line for line in table.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| no privacy", "| strong"]
    assert page.read_text("utf-8").count('class="chart"') == 5
    kept = pd.read_csv(tmp_path / "results" / "tradeoff.csv")
    assert kept.accuracy.tolist() == pytest.approx(told.table.accuracy.tolist(), rel=1e-5)
    assert (tmp_path / "runs" / "1-strong" / "audit.html").is_file()


def test_the_readme_tells_the_figures_of_the_results():
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    told = re.search(r"Heart disease from no privacy to ε = 1: (.*?)\(\[table\]", readme)
    kept = (ROOT / "experiments/privacy/results/tradeoff.md").read_text("utf-8").splitlines()
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in kept if row[:1] == "|"}
    columns = [1 + [c.name for c in COLUMNS].index(name) for name in ("accuracy", "tpr_at_0.01")]
    expected = [rows[setting][column] for column in columns for setting in ("no privacy", "strong")]
    assert [f for f in re.findall(r"[\d.]+%", told[1]) if f != "1%"] == expected
