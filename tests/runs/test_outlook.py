"""The privacy plan: its figures against the accountant, its page, and how it is asked for."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from fedmodel.errors import FedmodelError
from fedmodel.privacy import epsilon_of
from fedmodel.privacy.budget import Budget, plan
from fedmodel.privacy.client_level import plan_clients
from fedmodel.privacy.counts import CountNoise
from fedmodel.runs.outlook import LEVELS, outlook, write_outlook


def look(sizes, *, rounds=20, sample=0.5, targets=None, **budget):
    sizes = np.array(sizes)
    budget = Budget(**{"delta": 1e-4, "participations": 12, "epsilon": 4.0, **budget})
    plans = plan(budget, sizes=sizes, batch_size=16, epochs=1, targets=targets)
    names = [f"c{k}" for k in range(len(sizes))]
    return plans, outlook(plans, sizes=sizes, names=names, rounds=rounds, sample=sample)


def test_every_figure_is_the_accountants():
    plans, found = look([40, 200, 90])
    assert found.table["clients"].tolist() == ["c0", "c2", "c1"]  # by size
    for client in range(3):
        course = found.spread[found.spread.series == f"c{client}"].set_index("round").value
        assert course[0] == 0
        assert course.index.max() == 12
        for mark in (1, 5, 12):
            expected = epsilon_of(
                sample_rate=float(plans.sample_rate[client]),
                noise_multiplier=float(plans.noise_multiplier[client]),
                steps=mark * int(plans.steps[client]),
                delta=1e-4,
            )
            assert course[mark] == pytest.approx(expected, abs=0.003)
    assert (found.spread.value <= 4.0).all()


def test_more_noise_costs_less_and_the_planned_one_keeps_to_the_target():
    _, found = look([40, 200, 90])
    ends = [course.value.iloc[-1] for _, course in found.levels.groupby("series", sort=False)]
    assert len(ends) == len(LEVELS)
    assert sorted(ends, reverse=True) == ends
    assert ends[LEVELS.index(1.0)] == pytest.approx(4.0, abs=0.02)
    assert found.middle == "c2 with 90 records"


def test_the_share_that_declines_is_told():
    _, found = look([50, 60], rounds=50, sample=0.25, participations=13)
    assert "36.3% of the clients are expected to decline" in found.sentences[1]


def test_own_targets_span_their_group():
    rng = np.random.default_rng(0)
    targets = rng.uniform(1, 8, 400)
    _, found = look(rng.integers(20, 900, 400), epsilon=targets.max(), targets=targets)
    assert len(found.table) == 5
    low, high = found.table.iloc[0]["ε 12"].split(" - ")
    assert float(low) < 2 < 6 < float(high)


def test_thousands_of_clients_are_planned_by_groups():
    _, found = look(np.arange(20, 1_520), rounds=50, participations=50)
    assert found.table["clients"].tolist() == ["300"] * 5


def test_the_page_needs_nothing_but_a_browser(tmp_path):
    _, found = look([40, 200, 90])
    text = write_outlook(found, "tiny", tmp_path / "new" / "plan.html").read_text()
    assert "What the clients will spend" in text
    assert "Epsilon for several noise levels" in text
    specs = re.findall(r'\{"[^<]*"layer"[^<]*', text)
    assert specs
    assert json.dumps("noise 0.5")[:6] in text
    assert not re.search(r'(src|href)="https?:', text)


def test_without_privacy_there_is_nothing_to_plan():
    with pytest.raises(FedmodelError, match="no \\[privacy\\]"):
        outlook(None, sizes=np.array([3]), names=["a"], rounds=1, sample=1.0)


def test_the_command_prints_the_table_and_where_the_page_is(tmp_path):
    from typer.testing import CliRunner

    from fedmodel.cli import app

    (tmp_path / "e.toml").write_text(
        'rounds = 4\n[data]\nname = "heart_disease"\nencode = "public"\n[model]\nname = "logistic"\n'
        '[client]\nname = "dp_sgd"\nlearning_rate = 0.1\n[privacy]\nepsilon = 3.0\ndelta = 1e-3\n'
    )
    page = tmp_path / "plan.html"
    said = CliRunner().invoke(
        app,
        ["privacy", "plan", str(tmp_path / "e.toml"), "--set", "rounds=6", "--out", str(page)],
    )
    assert said.exit_code == 0, said.output
    assert "Switzerland" in said.output
    assert "6 are planned for" in " ".join(said.output.split())
    assert page.is_file()
    wrong = CliRunner().invoke(
        app, ["privacy", "plan", str(tmp_path / "e.toml"), "--set", "privacy.epsilon=-1"]
    )
    assert isinstance(wrong.exception, FedmodelError)


def test_noise_of_whole_clients_is_charged_over_their_sensitivity():
    budget = Budget(
        unit="client", mode="local", noise_multiplier=8.0, delta=1e-4, participations=12
    )
    plans = plan_clients(budget, num_clients=3)
    found = outlook(plans, sizes=np.array([9, 9, 9]), names=list("abc"), rounds=12, sample=1.0)
    spent = epsilon_of(sample_rate=1.0, noise_multiplier=4.0, steps=12, delta=1e-4)
    assert found.spread.value.max() == pytest.approx(spent, abs=0.003)


def test_what_is_released_beside_training_has_its_lines(tmp_path):
    before, counts = ((6.0, 1.0, 1),), CountNoise(noise_multiplier=5.0, delta=1e-5, seed=0)
    sizes, names = np.array([40, 90]), ["a", "b"]
    budget = Budget(delta=1e-4, participations=12, epsilon=4.0)
    plans = plan(budget, sizes=sizes, batch_size=16, epochs=1, released=before)
    found = outlook(plans, sizes=sizes, names=names, rounds=12, sample=1.0, counts=counts, evaluations=7)  # fmt: skip
    assert found.others["times"].tolist() == ["1", "7"]
    first = epsilon_of(sample_rate=1.0, noise_multiplier=6.0, steps=1, delta=1e-4)
    course = found.spread[found.spread.series == "a"].set_index("round").value
    assert course[0] == pytest.approx(first)
    assert 3.95 < course[12] <= 4.0
    assert any("Scales of features cost" in line for line in found.sentences)
    spent = epsilon_of(sample_rate=1.0, noise_multiplier=5.0, steps=7, delta=1e-5)
    assert any(f"{spent:.3g}"[:3] in line for line in found.sentences if "7 evaluations" in line)
    page = write_outlook(found, "x", tmp_path / "plan.html").read_text(encoding="utf-8")
    assert "What is released beside training" in page
