"""What several runs release together, against Opacus's accountant."""

from __future__ import annotations

import pytest
from opacus.accountants import RDPAccountant

from fedmodel.privacy import epsilon_of
from fedmodel.privacy.repeated import composed_epsilon

SMALL, LARGE = (1.1, 0.5, 20), (1.1, 0.1, 100)


def of(history, delta=1e-5):
    accountant = RDPAccountant()
    accountant.history = history
    return accountant.get_epsilon(delta)


def test_one_client_in_several_runs_is_one_long_history():
    found = composed_epsilon([[SMALL_RUN := [SMALL]], [[LARGE]], [SMALL_RUN]], delta=1e-5)
    assert found == pytest.approx(of([SMALL, LARGE, SMALL]), rel=0.01)


def test_the_worst_client_of_each_run_counts():
    """A record may be at the one client in the first run and at the other one in the second."""
    both = [[SMALL], [LARGE]]
    found = composed_epsilon([both, both], delta=1e-5)
    for first in (SMALL, LARGE):
        for second in (SMALL, LARGE):
            assert found >= of([first, second]) * 0.99
    assert found == pytest.approx(of([SMALL, SMALL]), rel=0.01)  # it is the worst at every order


def test_two_runs_cost_more_than_one_and_less_than_twice_as_much():
    one = epsilon_of(sample_rate=0.5, noise_multiplier=1.1, steps=20, delta=1e-5, accountant="rdp")
    two = composed_epsilon([[[SMALL]], [[SMALL]]], delta=1e-5)
    assert one < two < 2 * one


def test_nothing_spent_and_no_noise():
    assert composed_epsilon([], delta=1e-5) == 0
    assert composed_epsilon([[[]], [[(1.0, 0.1, 0)]]], delta=1e-5) == 0
    assert composed_epsilon([[[(0.0, 0.1, 5)]]], delta=1e-5) == float("inf")
