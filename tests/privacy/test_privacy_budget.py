"""The sampling convention and the plan of each client."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fedmodel.errors import FedmodelError
from fedmodel.privacy import epsilon_of_clients, noise_for
from fedmodel.privacy.budget import (
    Budget,
    plan,
    sample_rate,
    share_declining,
    steps_per_epoch,
    steps_per_round,
)
from fedmodel.privacy.ledger import Ledger

SIZES = torch.tensor([20, 32, 33, 800])


@pytest.mark.parametrize("n", [SIZES, SIZES.numpy(), SIZES.tolist()])
def test_a_tensor_an_array_or_a_list_of_sizes(n):
    assert sample_rate(n, 32).tolist() == [1.0, 1.0, 32 / 33, 0.04]
    assert steps_per_epoch(n, 32).tolist() == [1, 1, 2, 25]


@given(n=st.integers(0, 10**6), batch=st.integers(1, 1000), epochs=st.integers(1, 20))
def test_the_convention_record_by_record(n, batch, epochs):
    assert sample_rate([n], batch) == [min(1.0, batch / n) if n else 1.0]
    assert steps_per_epoch([n], batch) == [math.ceil(n / batch)]
    assert steps_per_round([n], batch, epochs=epochs) == [epochs * math.ceil(n / batch)]


def test_a_broken_number_of_epochs_is_rounded_up_once():
    assert steps_per_round([300, 301, 1, 0], 10, epochs=0.1).tolist() == [3, 4, 1, 0]
    assert steps_per_round([15], 10, epochs=1.5).tolist() == [3]
    assert steps_per_round([15], 10, epochs=2.0).tolist() == [4]  # whole ones: 2 epochs of 2


def test_steps_are_equal_for_all_but_a_client_without_records():
    assert steps_per_round([5, 0, 500], 10, steps=7).tolist() == [7, 0, 7]


@pytest.mark.parametrize(
    "choice",
    [{}, {"epochs": 1, "steps": 5}, {"epochs": 0}, {"epochs": -1.0}, {"steps": 0}],
)
def test_a_round_needs_epochs_or_steps(choice):
    with pytest.raises(FedmodelError) as error:
        steps_per_round([10], 5, **choice)
    assert error.value.fix


def test_a_batch_has_a_record():
    for function in (sample_rate, steps_per_epoch):
        with pytest.raises(FedmodelError, match="batch_size=0"):
            function([10], 0)


def test_each_client_is_planned_from_its_own_size():
    budget = Budget(epsilon=3.0, participations=10)
    plans = plan(budget, sizes=SIZES, batch_size=32, epochs=2)
    assert plans.steps.tolist() == [2, 2, 4, 50]
    assert plans.max_steps.tolist() == [20, 20, 40, 500]
    assert plans.expected_batch_size == pytest.approx([20, 32, 32, 32])
    for k in range(4):
        assert plans.noise_multiplier[k] == noise_for(
            epsilon=3.0,
            sample_rate=float(plans.sample_rate[k]),
            steps=int(plans.max_steps[k]),
            delta=1e-5,
        )
    assert plans.warnings == ()


def test_the_last_affordable_round_keeps_to_epsilon_and_the_next_is_declined():
    budget = Budget(epsilon=2.0, delta=1e-4, participations=3)
    plans = plan(budget, sizes=torch.tensor([50, 400]), batch_size=16, epochs=1)
    histories = []
    for k in range(2):
        ledger, steps, limit = Ledger(), int(plans.steps[k]), int(plans.max_steps[k])
        while ledger.can_afford(steps, limit):
            ledger = ledger.charge(plans.noise_multiplier[k], plans.sample_rate[k], steps)
        assert ledger.rounds == 3
        assert not ledger.can_afford(1, limit)
        histories.append(ledger.entries)
    for figure in epsilon_of_clients(histories, delta=1e-4):
        assert 1.99 < figure.epsilon <= 2.0


def test_one_noise_for_all_still_has_a_limit_of_steps():
    budget = Budget(noise_multiplier=1.1, participations=4)
    plans = plan(budget, sizes=np.array([10, 100]), batch_size=10, steps=5)
    assert plans.noise_multiplier.tolist() == [1.1, 1.1]
    assert plans.max_steps.tolist() == [20, 20]


def test_a_client_without_records_takes_no_step():
    plans = plan(Budget(epsilon=1.0, participations=2), sizes=[0, 40], batch_size=8, epochs=1)
    assert plans.steps.tolist() == [0, 5]
    assert plans.expected_batch_size.tolist() == [0, 8]
    assert plans.noise_multiplier[0] == 0 < plans.noise_multiplier[1]


def test_a_delta_that_could_publish_a_record_is_warned_of():
    budget = Budget(noise_multiplier=1.0, delta=0.01, participations=1)
    (warning,) = plan(budget, sizes=[20, 100, 500], batch_size=10, epochs=1).warnings
    assert "2 of 3 clients" in warning
    assert "n=500" in warning


def test_gdp_is_warned_of():
    budget = Budget(noise_multiplier=1.0, participations=1, accountant="gdp")
    (warning,) = plan(budget, sizes=[20], batch_size=10, epochs=1).warnings
    assert "understate" in warning


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"noise_multiplier": 1.0}, "needs one of the two"),
        ({"epsilon": None}, "needs one of the two"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": None, "noise_multiplier": 0.0}, "noise_multiplier=0.0"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"participations": 0}, "participations=0"),
        ({"accountant": "moments"}, "'moments'"),
        ({"noise": "random"}, "'random'"),
    ],
)
def test_a_budget_out_of_range_is_refused(wrong, said):
    with pytest.raises(FedmodelError) as error:
        Budget(**({"epsilon": 1.0, "participations": 5} | wrong))
    assert said in error.value.problem
    assert error.value.fix


@pytest.mark.parametrize("participations", [0, 5, 13, 50])
def test_the_share_that_declines_is_binomial(participations):
    found = share_declining(participations=participations, rounds=50, sample=0.25)
    assert found == pytest.approx(binom.sf(participations, 50, 0.25))


def test_who_is_always_asked_declines_only_beyond_the_plan():
    assert share_declining(participations=5, rounds=5, sample=1.0) == 0
    assert share_declining(participations=4, rounds=5, sample=1.0) == 1
