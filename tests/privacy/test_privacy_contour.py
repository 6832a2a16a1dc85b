"""PRV figures along a line in the complex plane: against the Fourier way, closed forms, dp-accounting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.privacy import accounting, epsilon_of, epsilon_of_clients, epsilon_of_history
from fedmodel.privacy.contour import contour_epsilons, log_moment
from fedmodel.privacy.gdp import gaussian_epsilon
from fedmodel.privacy.prv import EPSILON_ERROR

REFERENCES = [
    (0.2, 1.0, 100, 1e-5),
    (0.05, 0.8, 400, 1e-5),
    (0.01, 0.6, 3000, 1e-5),
    (0.25, 0.7, 20, 1e-3),
]


def contour(rate, noise, steps, delta) -> float:
    return contour_epsilons([(noise, rate)], np.array([[steps]]), delta=delta)[0]


@given(
    rate=st.floats(0.002, 1.0),
    noise=st.floats(0.5, 8.0),
    steps=st.integers(1, 3000),
    delta=st.sampled_from([1e-3, 1e-5, 1e-7]),
)
def test_it_is_the_fourier_figure_where_it_answers(rate, noise, steps, delta):
    found = contour(rate, noise, steps, delta)
    if math.isnan(found):
        return  # the next test says where that may be
    by_fourier, accountant = epsilon_of_history([(noise, rate, steps)], delta=delta)
    if accountant == "prv":
        assert max(found, 0) == pytest.approx(by_fourier, rel=2e-4, abs=0.003)
    else:
        assert found <= by_fourier


@given(rate=st.floats(0.002, 1.0), noise=st.floats(0.5, 8.0), epochs=st.integers(10, 200))
def test_it_answers_for_ten_passes_or_more(rate, noise, epochs):
    assert math.isfinite(contour(rate, noise, math.ceil(epochs / rate), 1e-5))


@pytest.mark.parametrize("mu", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_full_batches_are_the_gaussian_mechanism(mu, delta):
    found = contour(1.0, math.sqrt(40) / mu, 40, delta) - EPSILON_ERROR
    exact = gaussian_epsilon(mu, delta=delta)
    assert exact - 1e-6 <= found <= exact + 1e-3


def test_moments_are_those_of_a_plain_sum():
    rate, noise, z = 0.1, 0.7, 2.5 + 3j
    x = np.linspace(-12, 14, 400_001)
    density = np.exp(-((x / noise) ** 2) / 2) / (noise * math.sqrt(math.tau))
    ratio = 1 - rate + rate * np.exp((2 * x - 1) / (2 * noise**2))
    expected = np.log(np.sum(density * ratio ** (1 + z)) * (x[1] - x[0]))
    assert log_moment(noise, rate, np.array([2.5, z]))[1] == pytest.approx(expected, rel=1e-9)


def test_changing_settings_add_up():
    history = [(1.0, 0.1, 300), (1.5, 0.2, 50), (6.0, 1.0, 1)]
    found = contour_epsilons([h[:2] for h in history], np.array([[300, 50, 1]]), delta=1e-5)
    expected = epsilon_of_history(history, delta=1e-5).epsilon
    assert found[0] == pytest.approx(expected, abs=0.003)


def test_rows_together_are_each_row_alone():
    counts = np.arange(40, 2000, 40)[:, None]
    together = contour_epsilons([(0.9, 0.05)], counts, delta=1e-5)
    alone = [contour(0.05, 0.9, int(n), 1e-5) for (n,) in counts]
    assert together == pytest.approx(alone, abs=1e-3)


def test_the_figures_do_not_depend_on_the_company(monkeypatch):
    histories = [[(1.0, 0.001 + k / 500, 1 + 7 * k)] for k in range(60)]
    alone = epsilon_of_clients(histories, delta=1e-5)
    monkeypatch.setattr(accounting, "EXACT_SETTINGS", 10)
    together = epsilon_of_clients(histories, delta=1e-5)
    assert [f.accountant for f in together] == [f.accountant for f in alone]
    assert [f.epsilon for f in together] == pytest.approx([f.epsilon for f in alone], abs=0.003)


def test_many_distinct_clients_get_the_figure_of_one():
    sizes = range(20, 2020)
    histories = [[(1.1, min(1.0, 32 / n), 50 * math.ceil(n / 32))] for n in sizes]
    figures = epsilon_of_clients(histories, delta=1e-5)
    one = epsilon_of(sample_rate=0.016, noise_multiplier=1.1, steps=50 * 63, delta=1e-5)
    assert figures[1980].epsilon == pytest.approx(one, abs=0.003)


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), REFERENCES)
def test_both_ways_agree_with_dp_accounting(rate, noise, steps, delta):
    dp_accounting = pytest.importorskip("dp_accounting")
    pld = pytest.importorskip("dp_accounting.pld.pld_privacy_accountant")
    accountant = pld.PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(event, steps)
    expected = accountant.get_epsilon(delta)
    exact = contour(rate, noise, steps, delta) - EPSILON_ERROR
    assert exact == pytest.approx(expected, rel=3e-3, abs=2e-3)
    setting = {"sample_rate": rate, "noise_multiplier": noise, "steps": steps}
    assert epsilon_of(**setting, delta=delta) == pytest.approx(expected, rel=4e-3, abs=0.012)
