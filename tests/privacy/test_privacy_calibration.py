"""Noise for a budget: enough, hardly more than enough, and the same whoever asks."""

from __future__ import annotations

import math
from inspect import unwrap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.privacy import (
    accounting,
    calibration,
    epsilon_of,
    epsilon_of_clients,
    noise_for,
    noise_for_clients,
)
from fedmodel.privacy.calibration import HIGHEST, LOWEST, lowest_rung

ACCOUNTANTS = st.sampled_from(["prv", "rdp", "gdp"])


@settings(max_examples=40, deadline=None)
@given(
    epsilon=st.floats(0.1, 20),
    rate=st.floats(0.01, 1),
    steps=st.integers(1, 500),
    accountant=ACCOUNTANTS,
)
@example(epsilon=0.1, rate=0.01171875, steps=2, accountant="rdp")  # the best order is 67
def test_the_noise_keeps_to_the_budget_and_wastes_little(epsilon, rate, steps, accountant):
    setting = {"sample_rate": rate, "steps": steps, "delta": 1e-5, "accountant": accountant}
    noise = noise_for(epsilon=epsilon, **setting)
    spent = epsilon_of(noise_multiplier=noise, **setting)
    assert 0.995 * epsilon <= spent <= epsilon
    assert epsilon_of(noise_multiplier=noise / 1.001, **setting) > epsilon


@settings(max_examples=15, deadline=None)
@given(
    epsilon=st.floats(0.1, 20),
    rate=st.floats(0.01, 0.9),
    steps=st.integers(1, 500),
    accountant=ACCOUNTANTS,
)
def test_more_to_protect_never_gets_less_noise(epsilon, rate, steps, accountant):
    def noise(epsilon, rate, steps):
        return noise_for(
            epsilon=epsilon, sample_rate=rate, steps=steps, delta=1e-5, accountant=accountant
        )

    here = noise(epsilon, rate, steps)
    assert noise(epsilon * 0.999, rate, steps) >= here
    assert noise(epsilon, rate * 1.001, steps) >= here
    assert noise(epsilon, rate, steps + 1) >= here


@given(root=st.integers(LOWEST, HIGHEST), start=st.integers(LOWEST, HIGHEST))
def test_the_search_finds_the_same_rung_from_anywhere(root, start):
    def falls(rung):  # with a kink, and hopeless far below
        return math.inf if rung < root - 3000 else math.exp((root - rung) / 700) + (rung < root)

    assert lowest_rung(falls, 1.0, start=start, slope=-1.5) == root


@pytest.mark.parametrize(("level", "found"), [(0.5, LOWEST), (2.0, HIGHEST + 1)])
def test_the_search_ends_where_everything_or_nothing_is_enough(level, found):
    assert lowest_rung(lambda rung: level, 1.0, start=0, slope=-1.5) == found


def test_full_batches_have_noise():
    noise = noise_for(epsilon=1.0, sample_rate=1.0, steps=1, delta=1e-5)
    assert noise == pytest.approx(3.73, rel=0.02)  # analytic Gaussian mechanism, less 0.01


def test_no_steps_need_no_noise():
    assert noise_for(epsilon=1.0, sample_rate=0.1, steps=0, delta=1e-5) == 0


def clients(sizes):
    return [min(1.0, 32 / n) for n in sizes], [math.ceil(n / 32) * 50 for n in sizes]


def test_few_distinct_clients_get_their_own_noise():
    rates, steps = clients([20, 100, 300, 100])
    noise = noise_for_clients(epsilon=3.0, sample_rates=rates, steps=steps, delta=1e-5)
    for got, rate, count in zip(noise, rates, steps, strict=True):
        assert got == noise_for(epsilon=3.0, sample_rate=rate, steps=count, delta=1e-5)
    assert noise[1] == noise[3]


def test_many_distinct_clients_get_enough_and_little_more(monkeypatch):
    sizes = range(20, 800, 13)
    rates, steps = clients(sizes)
    exact = noise_for_clients(epsilon=3.0, sample_rates=rates, steps=steps, delta=1e-5)
    monkeypatch.setattr(calibration, "EXACT_SETTINGS", 16)
    noise = noise_for_clients(epsilon=3.0, sample_rates=rates, steps=steps, delta=1e-5)
    assert len(set(noise)) < len(set(exact))
    for got, least in zip(noise, exact, strict=True):
        assert least <= got < 1.05 * least
    histories = [[(a, b, c)] for a, b, c in zip(noise, rates, steps, strict=True)]
    spent = [figure.epsilon for figure in epsilon_of_clients(histories, delta=1e-5)]
    assert max(spent) <= 3.0
    assert min(spent) > 3.0 * 0.9


@given(rate=st.floats(1e-6, 1), steps=st.integers(1, 10**6))
def test_the_grid_is_on_the_safe_side(rate, steps):
    epsilon, coarse_rate, coarse_steps = calibration.on_grid(3.0, rate, steps, grid=1.03, own=True)
    assert 3.0 / 1.0301 <= epsilon <= 3.0
    assert rate <= coarse_rate <= min(1, rate * 1.0301)
    assert steps <= coarse_steps < steps * 1.03 + 1


def test_each_client_may_have_its_own_epsilon(monkeypatch):
    sizes = [40 + 7 * k for k in range(60)]
    rates, steps = clients(sizes)
    targets = [1.0 + k % 12 / 2 for k in range(60)]
    setting = {"sample_rates": rates, "steps": steps, "delta": 1e-5}
    exact = noise_for_clients(epsilon=targets, **setting)
    assert exact[3] == noise_for(epsilon=2.5, sample_rate=rates[3], steps=steps[3], delta=1e-5)
    monkeypatch.setattr(calibration, "EXACT_SETTINGS", 20)
    monkeypatch.setattr(calibration, "MOST_SETTINGS", 45)
    noise = noise_for_clients(epsilon=targets, **setting)
    assert len(set(noise)) <= 45
    assert all(least <= got < 2 * least for got, least in zip(noise, exact, strict=True))
    histories = [[(a, b, c)] for a, b, c in zip(noise, rates, steps, strict=True)]
    for figure, target in zip(epsilon_of_clients(histories, delta=1e-5), targets, strict=True):
        assert figure.epsilon <= target


def test_a_client_without_records_is_no_obstacle(monkeypatch):
    monkeypatch.setattr(calibration, "EXACT_SETTINGS", 1)
    noise = noise_for_clients(epsilon=3.0, sample_rates=[1.0, 0.1], steps=[0, 10], delta=1e-5)
    assert noise[0] == 0 < noise[1]


def test_calibration_takes_a_handful_of_figures(monkeypatch):
    calls = []
    figure = accounting.prv_epsilons

    def counted(*arguments, **options):
        calls.append(arguments)
        return figure(*arguments, **options)

    monkeypatch.setattr(accounting, "prv_epsilons", counted)
    calibration.calibrate.cache_clear()
    rates, steps = clients(range(33, 800, 97))
    noise_for_clients(epsilon=2.0, sample_rates=rates, steps=steps, delta=1e-5)
    assert len(calls) <= 4 * len(rates)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_of_nothing_is_refused(epsilon):
    with pytest.raises(FedmodelError, match="epsilon="):
        noise_for(epsilon=epsilon, sample_rate=0.1, steps=10, delta=1e-5)


def test_a_budget_below_the_accountants_own_error_is_refused_with_a_way_out():
    with pytest.raises(FedmodelError, match="no noise keeps") as error:
        noise_for(epsilon=0.005, sample_rate=0.1, steps=10, delta=1e-5)
    assert '"rdp"' in error.value.fix
    assert noise_for(epsilon=0.005, sample_rate=0.1, steps=10, delta=1e-5, accountant="rdp") > 1


@pytest.mark.parametrize("accountant", ["prv", "rdp", "gdp"])
def test_more_steps_than_noise_can_be_computed_for_are_refused(accountant):
    with pytest.raises(FedmodelError, match="no noise keeps"):
        noise_for(epsilon=3.0, sample_rate=0.1, steps=10**18, delta=1e-5, accountant=accountant)


def test_what_was_released_beyond_the_budget_is_named():
    with pytest.raises(FedmodelError, match=r"which alone costs 4\.39") as error:
        noise_for(epsilon=3.0, sample_rate=0.1, steps=10, delta=1e-5, released=[(1.0, 1.0, 1)])
    assert "error bound" not in error.value.fix
    assert "more noise for what is released" in error.value.fix


def test_what_was_released_may_be_lists():
    setting = {"epsilon": 3.0, "delta": 1e-5, "accountant": "rdp"}
    beside = [(20.0, 1.0, 1)]
    one = noise_for(sample_rate=0.1, steps=10, released=beside, **setting)
    several = unwrap(noise_for_clients)(
        sample_rates=[0.1], steps=[10], released=[list(entry) for entry in beside], **setting
    )
    assert several == [one]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": [10.5]}, "steps=10.5"),
        ({"steps": [10, 20]}, "2 numbers of steps"),
        ({"epsilon": [1.0, 2.0]}, "2 epsilons"),
    ],
)
def test_settings_of_clients_that_do_not_fit_are_refused(wrong, said):
    right = {"epsilon": 1.0, "sample_rates": [0.1], "steps": [10], "delta": 1e-5}
    with pytest.raises(FedmodelError, match=said):
        unwrap(noise_for_clients)(**(right | wrong))  # past the check of annotations


@pytest.mark.parametrize(
    "wrong", [{"delta": 0.0}, {"sample_rate": 0.0}, {"steps": -1}, {"accountant": "moments"}]
)
def test_a_setting_out_of_range_is_refused(wrong):
    right = {"epsilon": 1.0, "sample_rate": 0.1, "steps": 10, "delta": 1e-5}
    with pytest.raises(FedmodelError):
        noise_for(**(right | wrong))
