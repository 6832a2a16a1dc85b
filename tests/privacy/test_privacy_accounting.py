"""Epsilon against Opacus' accountants, against closed forms, and against itself."""

from __future__ import annotations

import warnings
from inspect import unwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import create_accountant
from scipy.stats import norm

from fedmodel.errors import FedmodelError
from fedmodel.privacy import (
    Figure,
    accounting,
    epsilon_curve,
    epsilon_of,
    epsilon_of_clients,
    epsilon_of_history,
)
from fedmodel.privacy.accounting import merge
from fedmodel.privacy.gdp import gaussian_epsilon
from fedmodel.privacy.rdp import ORDERS, renyi

rates = st.floats(0.005, 1.0)
noises = st.floats(0.5, 8.0)
deltas = st.sampled_from([1e-3, 1e-5, 1e-6])


def opacus(history, *, delta: float, accountant: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = create_accountant(accountant)
        reference.history = list(history)
        return float(reference.get_epsilon(delta))


def delta_of_gaussian(mu: float, epsilon: float) -> float:
    """Balle and Wang 2018, Theorem 8."""
    return norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "epsilon"),
    [
        (0.2, 1.0, 100, 1e-5, 14.54),
        (0.05, 0.8, 400, 1e-5, 10.74),
        (0.01, 0.6, 3000, 1e-5, 12.06),
        (0.25, 0.7, 20, 1e-3, 10.46),
    ],
)
def test_known_figures(rate, noise, steps, delta, epsilon):
    found = epsilon_of(sample_rate=rate, noise_multiplier=noise, steps=steps, delta=delta)
    assert round(found, 2) == epsilon


@settings(max_examples=15, deadline=None)  # Opacus takes up to a second, more for large epsilon
@given(rate=st.floats(0.005, 0.4), noise=noises, steps=st.integers(1, 200), delta=deltas)
def test_prv_is_opacus_figure_and_never_below_it(rate, noise, steps, delta):
    history = [(noise, rate, steps)]
    found, accountant = epsilon_of_history(history, delta=delta)
    expected = opacus(history, delta=delta, accountant="prv")
    assert accountant == "prv"
    assert expected * (1 - 1e-4) - 1e-5 <= found <= max(expected, 0.0) * (1 + 1e-4) + 1e-5


@settings(max_examples=6, deadline=None)
@given(
    history=st.lists(
        st.tuples(noises, st.floats(0.01, 0.4), st.integers(1, 60)), min_size=2, max_size=3
    ),
    delta=deltas,
)
def test_prv_composes_changing_settings_like_opacus(history, delta):
    found = epsilon_of_history(history, delta=delta)
    expected = opacus(history, delta=delta, accountant="prv")
    assert found.epsilon == pytest.approx(expected, rel=1e-3, abs=1e-4)


@settings(max_examples=12, deadline=None)
@given(rate=rates, noise=noises, steps=st.integers(1, 400), delta=deltas)
def test_rdp_is_opacus_figure_or_tighter_at_further_orders(rate, noise, steps, delta):
    history = [(noise, rate, steps), (2 * noise, rate, 3)]
    found = epsilon_of_history(history, delta=delta, accountant="rdp").epsilon
    expected = opacus(history, delta=delta, accountant="rdp")
    assert found <= expected * (1 + 1e-9)
    prices = np.log1p(-1 / ORDERS) - (np.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    spent = steps * renyi(noise, rate, ORDERS) + 3 * renyi(2 * noise, rate, ORDERS)
    if 0 < (spent + prices).argmin() < len(ORDERS) - 1:
        assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("noise", "rate"), [(0.3, 0.3), (0.7, 1e-4), (5.0, 0.9)])
def test_renyi_divergence_at_order_two_in_closed_form(noise, rate):
    expected = np.log1p(rate**2 * np.expm1(noise**-2))
    assert renyi(noise, rate, np.array([2.0]))[0] == pytest.approx(expected, rel=1e-6, abs=1e-14)


def test_rdp_looks_further_where_opacus_stops_at_its_last_order():
    history = [(100.0, 0.01, 10)]
    assert opacus(history, delta=1e-5, accountant="rdp") > 0.1
    assert epsilon_of_history(history, delta=1e-5, accountant="rdp").epsilon < 0.003


@settings(max_examples=20, deadline=None)
@given(rate=rates, noise=noises, steps=st.integers(1, 400), delta=deltas)
def test_gdp_is_opacus_figure(rate, noise, steps, delta):
    history = [(noise, rate, steps)]
    found = epsilon_of_history(history, delta=delta, accountant="gdp").epsilon
    mu = rate * np.sqrt(steps * np.expm1(noise**-2))
    if delta_of_gaussian(mu, 0.0) < delta:
        assert found == 0
    elif found < 400:  # Opacus searches from 0 to 500
        assert found == pytest.approx(opacus(history, delta=delta, accountant="gdp"), rel=1e-6)


def test_gdp_composes_changing_settings():
    split = [(1.0, 0.1, 40), (2.0, 0.1, 1), (1.0, 0.1, 60)]
    mu = 0.1 * np.sqrt(100 * np.expm1(1.0) + np.expm1(0.25))
    found = epsilon_of_history(split, delta=1e-5, accountant="gdp").epsilon
    assert found == pytest.approx(gaussian_epsilon(mu, delta=1e-5))


@pytest.mark.parametrize("mu", [0.01, 1.0, 30.0, 1e5])
def test_gaussian_epsilon_has_the_delta_asked_for(mu):
    epsilon = gaussian_epsilon(mu, delta=1e-6)
    if mu < 30:
        assert delta_of_gaussian(mu, epsilon) == pytest.approx(1e-6, rel=1e-6)
    assert epsilon == pytest.approx(mu**2 / 2 + 4.75 * mu, rel=0.3) or mu < 1


@pytest.mark.parametrize(("mu", "steps"), [(0.2, 1), (1.0, 100), (3.0, 7)])
def test_full_batches_are_the_gaussian_mechanism(mu, steps):
    noise = np.sqrt(steps) / mu  # composes to telling N(0, 1) from N(mu, 1)
    found = epsilon_of(sample_rate=1.0, noise_multiplier=noise, steps=steps, delta=1e-5)
    exact = gaussian_epsilon(mu, delta=1e-5)
    assert exact <= found <= exact + 0.011  # PRV's error bound is 0.01, delta's a thousandth
    assert delta_of_gaussian(mu, found) < 1e-5 < delta_of_gaussian(mu, found - 0.011)


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(0.002, 0.9),
    noise=noises,
    steps=st.integers(1, 300),
    accountant=st.sampled_from(["prv", "rdp", "gdp"]),
)
def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise(rate, noise, steps, accountant):
    def at(rate, noise, steps):
        return epsilon_of(
            sample_rate=rate,
            noise_multiplier=noise,
            steps=steps,
            delta=1e-5,
            accountant=accountant,
        )

    here = at(rate, noise, steps)
    assert at(rate, noise, steps + 10) >= here - 1e-5
    assert at(rate * 1.1, noise, steps) >= here - 1e-5
    assert at(rate, noise * 1.1, steps) <= here + 1e-5


def test_prv_is_tighter_than_rdp():
    setting = {"sample_rate": 0.05, "noise_multiplier": 0.8, "steps": 400, "delta": 1e-5}
    assert epsilon_of(**setting) < 0.95 * epsilon_of(**setting, accountant="rdp")


def test_order_and_splits_of_a_history_are_no_matter():
    whole = epsilon_of_history([(1.0, 0.1, 30), (1.5, 0.2, 5)], delta=1e-5)
    parts = [(1.5, 0.2, 3), (1.0, 0.1, 30), (1.5, 0.2, 2), (9.0, 0.5, 0)]
    assert epsilon_of_history(parts, delta=1e-5) == whole


def test_a_curve_is_each_count_by_itself():
    counts = [0, 1, 10, 100, 1000, 10]
    setting = {"noise_multiplier": 1.0, "sample_rate": 0.05}
    curve = epsilon_curve(steps=counts, delta=1e-5, **setting)
    for steps, figure in zip(counts, curve, strict=True):
        alone = epsilon_of(steps=steps, delta=1e-5, **setting)
        assert figure.epsilon == pytest.approx(alone, rel=1e-4, abs=1e-5)
    assert curve[2] == curve[5]


def test_equal_clients_share_the_work(monkeypatch):
    calls = []

    def counted(settings, counts, *, delta):
        calls.append(counts.shape)
        return [1.0] * len(counts)

    monkeypatch.setattr(accounting, "prv_epsilons", counted)
    clients = [[(1.0, 0.1, 10)], [(1.0, 0.1, 20)], [(1.0, 0.2, 10)], [(1.0, 0.1, 10)], []]
    figures = epsilon_of_clients(clients, delta=1e-5)
    assert [figure.epsilon for figure in figures] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert sorted(calls) == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("history", "delta"),
    [([(0.02, 0.5, 10)], 1e-5), ([(1.0, 0.1, 100)], 1e-13), ([(1.0, 0.1, 3_000_000)], 1e-5)],
)
def test_rdp_answers_where_prv_cannot_and_says_so(history, delta):
    figure = epsilon_of_history(history, delta=delta)
    assert figure == epsilon_of_history(history, delta=delta, accountant="rdp")
    assert figure.accountant == "rdp"
    assert 0 < figure.epsilon < np.inf


def test_a_step_too_far_leaves_the_others_their_tight_figures():
    counts = [100, 3_000_000]
    curve = epsilon_curve(noise_multiplier=1.0, sample_rate=0.1, steps=counts, delta=1e-5)
    assert [figure.accountant for figure in curve] == ["prv", "rdp"]


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(1e-6, 1.0),
    noise=st.floats(0.01, 1e6),
    steps=st.integers(0, 2000),
    delta=st.floats(1e-15, 0.999),
)
def test_every_setting_has_a_figure_and_none_warns(rate, noise, steps, delta):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tight = epsilon_of_history([(noise, rate, steps)], delta=delta)
        loose = epsilon_of_history([(noise, rate, steps)], delta=delta, accountant="rdp")
    assert 0 <= tight.epsilon <= loose.epsilon + 0.02


def test_no_steps_cost_nothing_and_no_noise_protects_nothing():
    assert epsilon_of(sample_rate=0.1, noise_multiplier=1.0, steps=0, delta=1e-5) == 0
    assert epsilon_of(sample_rate=0.1, noise_multiplier=0.0, steps=0, delta=1e-5) == 0
    assert epsilon_of(sample_rate=0.1, noise_multiplier=0.0, steps=1, delta=1e-5) == np.inf
    assert epsilon_of_history([], delta=1e-5) == Figure(0.0, "prv")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"delta": 0.0}, "delta=0.0"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"delta": float("nan")}, "delta=nan"),
        ({"sample_rate": 0.0}, "sample_rate=0.0"),
        ({"sample_rate": 1.01}, "sample_rate=1.01"),
        ({"steps": -1}, "steps=-1"),
        ({"noise_multiplier": -0.1}, "noise_multiplier=-0.1"),
        ({"noise_multiplier": float("inf")}, "noise_multiplier=inf"),
        ({"accountant": "moments"}, "'moments'"),
    ],
)
def test_a_value_out_of_range_is_named(wrong, said):
    right = {"sample_rate": 0.1, "noise_multiplier": 1.0, "steps": 10, "delta": 1e-5}
    with pytest.raises(FedmodelError) as error:
        epsilon_of(**(right | wrong))
    assert said in error.value.problem
    assert error.value.fix


def test_an_unknown_accountant_is_answered_with_the_list():
    with pytest.raises(FedmodelError) as error:
        epsilon_of_clients([], delta=1e-5, accountant="PRV")
    assert all(f'"{name}"' in error.value.fix for name in ("prv", "rdp", "gdp"))


def test_what_is_no_history_is_named():
    with pytest.raises(FedmodelError, match="no entry of a history"):
        unwrap(merge)([(1.0, 0.1)])  # past the check of annotations, which only the tests have


@pytest.mark.parametrize("accountant", ["prv", "rdp", "gdp"])
def test_noise_beyond_all_measure_costs_no_more_than_less_of_it(accountant):
    def epsilon(noise):
        return epsilon_of(
            sample_rate=0.1, noise_multiplier=noise, steps=10, delta=1e-5, accountant=accountant
        )

    assert epsilon(1e300) == epsilon(1e12) <= epsilon(1e6)


@given(noise=st.floats(1, 1e8), rate=st.floats(1e-6, 0.9))
def test_a_step_of_much_noise_is_not_rounded_to_less_than_it_costs(noise, rate):
    """Of order 2 the divergence has a closed form that loses nothing: log(1 + q^2 (e^(1/s^2) - 1))."""
    exact = np.log1p(rate**2 * np.expm1(noise**-2))
    found = renyi(noise, rate, np.array([2.0]))[0]
    assert exact <= found <= exact + 1e-14
