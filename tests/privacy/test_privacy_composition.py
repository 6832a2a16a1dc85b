"""What was released adds up by one accountant: against closed forms, Opacus, dp-accounting."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from fedmodel.errors import FedmodelError
from fedmodel.privacy import Figure, epsilon_of, epsilon_of_history
from fedmodel.privacy.budget import Budget, plan
from fedmodel.privacy.client_level import plan_clients
from fedmodel.privacy.composition import add_up, epsilon_of_tuning, release_table, sum_at
from fedmodel.privacy.gdp import gaussian_epsilon
from fedmodel.privacy.statement import statement

SCALES = ((6.0, 1.0, 1),)
COUNTS = ((5.0, 1.0, 4),)


def table(*, released=SCALES, evaluations=COUNTS, steps=(30, 0), noise=1.5):
    budget = Budget(noise_multiplier=noise, participations=10)
    plans = plan(budget, sizes=[40, 80], batch_size=20, epochs=1, released=released)
    return release_table(plans, steps, names=["a", "b"], evaluations=evaluations)


def of(records, *tables, **options):
    figures = add_up([t[t.records == records] for t in tables], delta=1e-5, **options)
    return {client: figure.epsilon for client, figure in figures.items()}


gaussians = st.lists(
    st.tuples(st.floats(2.0, 40.0), st.integers(1, 20)), min_size=1, max_size=4
)  # (noise, times)


@settings(max_examples=25, deadline=None)
@given(releases=gaussians, delta=st.sampled_from([1e-3, 1e-5, 1e-7]))
def test_gaussian_releases_compose_as_their_squares_add_up(releases, delta):
    """mu^2 = sum of n / z^2, and epsilon of mu exactly (Dong, Roth and Su 2022, Corollary 3.3)."""
    tables = [table(released=[(z, 1.0, n)], steps=(0, 0)) for z, n in releases]
    own = [t[t.records == "training"] for t in tables]
    exact = gaussian_epsilon(math.sqrt(sum(n / z**2 for z, n in releases)), delta=delta)
    tight = add_up(own, delta=delta)["a"].epsilon
    loose = add_up(own, delta=delta, accountant="rdp")["a"].epsilon
    assert exact <= tight + 1e-6 <= exact + 0.021
    assert loose >= exact - 1e-9


@pytest.mark.parametrize(
    ("accountant", "theirs", "close"), [("prv", PRVAccountant, 2e-3), ("rdp", RDPAccountant, 1e-6)]
)
def test_heterogeneous_runs_compose_as_in_opacus(accountant, theirs, close):
    ours = of("training", table(), table(noise=1.1, steps=(55, 7)), accountant=accountant)
    other = theirs()
    other.history = [(6.0, 1.0, 2), (1.5, 0.5, 30), (1.1, 0.5, 55)]
    assert ours["a"] == pytest.approx(other.get_epsilon(1e-5), abs=close)
    other.history = [(6.0, 1.0, 2), (1.1, 0.25, 7)]
    assert ours["b"] == pytest.approx(other.get_epsilon(1e-5), abs=close)


def test_heterogeneous_runs_compose_as_in_dp_accounting():
    dp_accounting = pytest.importorskip("dp_accounting")
    pld = pytest.importorskip("dp_accounting.pld.pld_privacy_accountant")
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    for noise, rate, steps in [(6.0, 1.0, 2), (1.5, 0.5, 30), (1.1, 0.5, 55)]:
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(event, steps)
    ours = of("training", table(), table(noise=1.1, steps=(55, 7)))["a"]
    assert ours == pytest.approx(accountant.get_epsilon(1e-5), abs=0.021)


def test_ledgers_of_training_and_evaluation_are_apart():
    found = table()
    assert of("evaluation", found)["a"] == of("evaluation", found)["b"]
    assert of("evaluation", found)["a"] == pytest.approx(epsilon_of(sample_rate=1.0, noise_multiplier=5.0, steps=4, delta=1e-5))  # fmt: skip
    assert of("training", found)["b"] == pytest.approx(epsilon_of(sample_rate=1.0, noise_multiplier=6.0, steps=1, delta=1e-5))  # fmt: skip
    together = add_up([found], delta=1e-5)["a"].epsilon
    parts = of("training", found)["a"], of("evaluation", found)["a"]
    assert max(parts) < together < sum(parts)


def test_whole_clients_are_charged_the_noise_over_their_sensitivity():
    plans = plan_clients(
        Budget(unit="client", mode="local", noise_multiplier=8.0, participations=5), num_clients=2
    )
    found = release_table(plans, [3, 0], names=["a", "b"])
    assert found.values.tolist() == [["a", "client", "training", 4.0, 1.0, 3]]


def test_the_sum_says_each_release_alone_and_all_together():
    told = sum_at(table(), "a", delta=1e-5)
    json.dumps(told.releases, allow_nan=False)
    alone = {r["what"]: r["epsilon_alone"] for r in told.releases}
    assert list(alone) == ["feature scales", "training", "evaluation counts"]
    together = epsilon_of_history([*SCALES, (1.5, 0.5, 30)], delta=1e-5).epsilon
    everything = epsilon_of_history([*SCALES, (1.5, 0.5, 30), *COUNTS], delta=1e-5).epsilon
    said = " ".join(told.sentences)
    assert f"together it is {together:.3g}" in said
    assert f"{alone['training']:.3g} for 30 steps of training" in said
    assert f"loses epsilon = {everything:.3g}" in said


def test_a_run_with_one_kind_of_release_has_nothing_to_add_up():
    assert sum_at(table(released=(), evaluations=()), "a", delta=1e-5).sentences == ()


def test_the_statement_adds_up_everything_released():
    budget = Budget(noise_multiplier=1.5, participations=10)
    plans = plan(budget, sizes=[40, 80], batch_size=20, epochs=1, released=SCALES)
    told = sum_at(table(), "a", delta=1e-5)
    stated = statement(plans, [Figure(9.0, "prv"), Figure(0.5, "prv")], declined=0, total=told)
    assert [release["what"] for release in stated["releases"]] == [
        "feature scales",
        "training",
        "evaluation counts",
    ]
    said = " ".join(stated["sentences"])
    assert all(sentence in said for sentence in told.sentences)
    assert "of 2 clients that told scales or trained" in said


HISTORY = [(2.0, 0.1, 100), (8.0, 1.0, 1)]


@pytest.mark.parametrize(("trials", "shape"), [(10, 1.0), (3, 1.0), (40, 0.0), (7.5, 0.5), (5, 3)])
def test_tuning_costs_what_dp_accounting_says(trials, shape):
    dp_accounting = pytest.importorskip("dp_accounting")
    from dp_accounting import dp_event, rdp

    one = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(
                dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(z)), n
            )
            for z, q, n in HISTORY
        ]
    )
    accountant = rdp.RdpAccountant(orders=[1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    accountant.compose(dp_event.RepeatAndSelectDpEvent(one, mean=trials, shape=shape))
    ours = epsilon_of_tuning(HISTORY, trials=trials, shape=shape, delta=1e-5)
    assert ours == pytest.approx(
        accountant.get_epsilon(1e-5), rel=3e-3
    )  # its broken orders are looser


def test_tuning_costs_more_than_one_run_and_less_than_many():
    one = epsilon_of_history(HISTORY, delta=1e-5, accountant="rdp").epsilon
    costs = [epsilon_of_tuning(HISTORY, trials=t, delta=1e-5) for t in (1, 2, 10, 100)]
    many = epsilon_of_history([(z, q, 100 * n) for z, q, n in HISTORY], delta=1e-5).epsilon
    assert one < costs[0] and costs == sorted(costs) and costs[-1] < many
    assert epsilon_of_tuning([], trials=5, delta=1e-5) == 0
    assert math.isinf(epsilon_of_tuning([(0.0, 0.1, 5)], trials=5, delta=1e-5))


@pytest.mark.parametrize(
    "wrong", [{"trials": 0.5}, {"trials": math.inf}, {"shape": -1.0}, {"delta": 0.0}]
)
def test_a_distribution_that_is_none_is_refused(wrong):
    with pytest.raises(FedmodelError) as error:
        epsilon_of_tuning(HISTORY, **{"trials": 5, "delta": 1e-5, **wrong})
    assert error.value.fix
