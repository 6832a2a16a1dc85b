"""The arithmetic of the reproduced experiments."""

from __future__ import annotations

import math

import pytest
from opacus.accountants import PRVAccountant

from experiments.reproductions.four_hospitals import CONFIG, SIZES, audit


def opacus(rate, noise, steps) -> float:
    accountant = PRVAccountant()
    accountant.history = [(noise, rate, steps)]
    return accountant.get_epsilon(1e-3)


@pytest.mark.parametrize(
    ("hospital", "planned", "spent"),
    [
        ("Cleveland", 750, 1.49),
        ("Hungary", 645, 1.63),
        ("Switzerland", 120, 4.53),
        ("VA Long Beach", 330, 2.43),
    ],
)
def test_what_the_four_hospitals_spend(hospital, planned, spent):
    row = audit(SIZES[hospital])
    assert row.planned == planned == 15 * math.ceil(row.records / 4)
    assert round(row.spent, 2) == spent
    assert opacus(row.sample_rate, row.noise, planned) == pytest.approx(1.0, rel=0.01)
    assert opacus(row.sample_rate, row.noise, 1500) == pytest.approx(row.spent, rel=1e-3)
    assert opacus(row.sample_rate, row.enough, 1500) <= 1.0 + 1e-6


def test_the_budget_that_holds_is_for_all_steps_that_are_run():
    assert CONFIG["rounds"] * CONFIG["client"]["steps"] == 1500
    assert "participations" not in CONFIG["privacy"]
