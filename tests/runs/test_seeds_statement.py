"""What the runs of several seeds release together."""

import math
from types import SimpleNamespace

import pytest

from fedmodel.privacy.gdp import gaussian_epsilon
from fedmodel.runs.seeds_statement import released_together


def test_evaluations_of_all_runs_compose_as_one_gaussian_mechanism():
    alone = {"noise_multiplier": 10.0, "evaluations": 4, "delta": 1e-5, "epsilon": 0.81}
    run = SimpleNamespace(manifest={"privacy": {"evaluation": alone}})
    runs = SimpleNamespace(runs={1: run, 2: run, 3: run}, composed_epsilon=lambda: None)
    together = released_together(runs, SimpleNamespace())
    exact = gaussian_epsilon(math.sqrt(12) / 10, delta=1e-5)
    assert together["evaluation"]["epsilon"] == pytest.approx(exact, abs=0.02)
    assert exact <= together["evaluation"]["epsilon"] < 3 * alone["epsilon"]
    assert any("by PRV" in sentence for sentence in together["sentences"])
