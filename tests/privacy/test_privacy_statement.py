"""The statement says what was spent, by whom, against whom, and what is left out."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from fedmodel.privacy import Figure
from fedmodel.privacy.budget import Budget, plan
from fedmodel.privacy.promise import ALWAYS_OUTSIDE
from fedmodel.privacy.statement import statement

PLANS = plan(
    Budget(noise_multiplier=1.5, clip=0.5, participations=10),
    sizes=[20, 100, 500, 0],
    batch_size=10,
    epochs=1,
)
FIGURES = [Figure(1.0, "prv"), Figure(4.0, "rdp"), Figure(2.5, "prv"), Figure(0.0, "prv")]


def with_budget(**changes):
    return replace(PLANS, budget=replace(PLANS.budget, **changes))


def text(stated) -> str:
    return " ".join(stated["sentences"])


def test_the_numbers_of_a_run():
    stated = statement(PLANS, FIGURES, declined=2, outside=("Scales were fitted on records.",))
    assert stated["epsilon"] == {
        "min": 1.0,
        "median": 2.5,
        "max": 4.0,
        "clients": 3,
        "never_trained": 1,
    }
    assert stated["accountants_used"] == {"prv": 2, "rdp": 1}
    assert stated["noise_multiplier"] == {"min": 1.5, "max": 1.5}
    assert stated["outside"] == [*ALWAYS_OUTSIDE, "Scales were fitted on records."]
    assert (stated["delta"], stated["clip"], stated["declined"]) == (1e-5, 0.5, 2)


def test_the_sentences_name_all_that_a_guarantee_needs():
    said = text(statement(PLANS, FIGURES, declined=1))
    for part in (
        "one training record of one client",
        "added or removed",
        "the server",
        "not counted as protection",
        "Poisson sampling",
        "norm 0.5",
        "delta = 1e-05",
        "epsilon is 4 at the client that spent most",
        "3 clients that trained",
        "1 client never trained",
        "Accounted by PRV",
        "For 1 client it had no answer",
        "1 client had spent the budget",
    ):
        assert part in said


def test_seeded_noise_is_called_simulated_and_secure_noise_is_not():
    seeded = statement(PLANS, FIGURES, declined=0)
    secure = statement(with_budget(noise="secure"), FIGURES, declined=0)
    assert seeded["simulated"] and "can subtract it" in text(seeded)
    assert not secure["simulated"] and "Simulated" not in text(secure)


def test_gdp_is_called_an_approximation():
    figures = [Figure(1.0, "gdp")]
    assert "understate" in text(statement(with_budget(accountant="gdp"), figures, declined=0))
    assert "understate" not in text(statement(PLANS, FIGURES, declined=0))


def test_no_guarantee_is_said_plainly_and_fits_json():
    stated = statement(PLANS, [Figure(math.inf, "rdp"), Figure(1.0, "prv")], declined=0)
    assert "no guarantee for 1 client" in text(stated)
    assert stated["epsilon"]["max"] is None
    json.dumps(stated, allow_nan=False)


@pytest.mark.parametrize("figures", [[], [Figure(0.0, "prv")]])
def test_a_run_without_training_spent_nothing(figures):
    stated = statement(PLANS, figures, declined=0)
    assert "nothing was spent" in text(stated)
    json.dumps(stated, allow_nan=False)


def test_own_targets_are_told_with_their_spread_and_named_as_public():
    budget = Budget(epsilon=8.0, participations=2)
    plans = plan(budget, sizes=[40, 80, 90], batch_size=10, epochs=1, targets=[2.0, 8.0, 3.0])
    stated = statement(plans, FIGURES[:3], declined=0)
    assert stated["targets"] == {"min": 2.0, "median": 3.0, "max": 8.0}
    assert "from 2 to 8, 3 at the median" in text(stated)
    assert any("own target of epsilon is public" in line for line in stated["outside"])
    same = statement(plan(budget, sizes=[40, 80], batch_size=10, epochs=1), FIGURES[:2], declined=0)
    assert "calibrated for epsilon = 8 at each client" in text(same)
    assert not any("own target" in line for line in same["outside"])
    assert statement(PLANS, FIGURES, declined=0)["targets"] is None
