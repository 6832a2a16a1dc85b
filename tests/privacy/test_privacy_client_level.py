"""Plans, noise and statements of whole clients, against closed forms, Opacus and brute force."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedmodel.errors import FedmodelError
from fedmodel.privacy import Figure, epsilon_of_history
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.client_level import plan_clients, split_noise
from fedmodel.privacy.ledger import Ledger
from fedmodel.privacy.statement import statement
from fedmodel.privacy.updates import LocalRelease, clip_rows, local_release


def budget(mode="central", **changes):
    terms = {"epsilon": 2.0, "delta": 1e-3, "participations": 30, **changes}
    return Budget(unit="client", mode=mode, **terms)


def gaussian_epsilon(noise, releases, delta):
    """Of the Gaussian mechanism, exactly: Balle and Wang (ICML 2018), Theorem 8, composed."""
    mu = math.sqrt(releases) / noise

    def excess(epsilon):
        a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return norm.cdf(a) - math.exp(epsilon) * norm.cdf(b) - delta

    return brentq(excess, 0, 100)


@pytest.mark.parametrize(("rate", "rounds"), [(0.1, 60), (0.5, 20), (1.0, 5)])
def test_central_noise_spends_the_budget_by_opacus(rate, rounds):
    plans = plan_clients(budget(participations=rounds), num_clients=4, sample_rate=rate)
    assert (plans.noise_multiplier == plans.noise_multiplier[0]).all()
    accountant = PRVAccountant()
    accountant.history = [(float(plans.noise_multiplier[0]), rate, rounds)]
    assert 1.98 < accountant.get_epsilon(1e-3) < 2.005


def test_central_noise_by_rdp_spends_the_budget_by_opacus_rdp():
    plans = plan_clients(budget(accountant="rdp"), num_clients=4, sample_rate=0.2)
    accountant = RDPAccountant()
    accountant.history = [(float(plans.noise_multiplier[0]), 0.2, 30)]
    assert 1.98 < accountant.get_epsilon(1e-3) <= 2.0


@pytest.mark.parametrize("participations", [1, 12])
def test_local_noise_spends_the_budget_by_the_exact_formula(participations):
    plans = plan_clients(budget("local", participations=participations), num_clients=3)
    release = local_release(plans, seed=0)
    ledger = Ledger()
    while ledger.can_afford(1, int(plans.max_steps[0])):
        ledger = ledger.charge(release.charged, 1.0, 1)
    assert ledger.rounds == participations
    # The noise in units of what one client can move: twice the clipping bound.
    exact = gaussian_epsilon(release.noise_multiplier / 2, participations, 1e-3)
    assert 1.97 < exact <= 2.001
    spent = epsilon_of_history(ledger.entries, delta=1e-3).epsilon
    assert spent == pytest.approx(exact, rel=0.01)


def test_noise_given_by_hand_is_taken_as_it_is():
    terms = {"epsilon": None, "noise_multiplier": 1.3}
    for mode in ("central", "local"):
        plans = plan_clients(budget(mode, **terms), num_clients=2, sample_rate=1.0)
        assert plans.noise_multiplier.tolist() == [1.3, 1.3]


def test_a_delta_that_could_publish_a_client_is_warned_of():
    (warning,) = plan_clients(budget(delta=0.01), num_clients=100).warnings
    assert "1 / 100" in warning
    assert plan_clients(budget(delta=0.001), num_clients=100).warnings == ()


@given(noise=st.floats(0.05, 20), more=st.floats(1.001, 50))
def test_the_split_noise_costs_what_the_whole_does(noise, more):
    count_noise = noise / 2 * more  # two Gaussian releases add up in squared signal to noise
    split = split_noise(noise, count_noise)
    assert split > noise
    assert 1 / split**2 + 0.5**2 / count_noise**2 == pytest.approx(1 / noise**2)


def test_a_count_that_costs_more_than_everything_is_refused():
    with pytest.raises(FedmodelError, match="leaves no privacy") as error:
        split_noise(1.0, 0.5)
    assert "well above 0.5" in error.value.fix


VECTORS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3)


@given(first=VECTORS, second=VECTORS, clip=st.floats(0.01, 100))
def test_another_data_set_moves_a_clients_release_by_at_most_twice_the_clip(first, second, clip):
    release = LocalRelease(clip=clip, noise_multiplier=0.5, seed=1)
    one, other = (
        release(torch.tensor([v]), clients=[4], round=2)  # the same stream: the noise cancels
        for v in (first, second)
    )
    assert (one - other).norm() <= 2 * clip * (1 + 1e-5)


def test_twice_the_clip_is_reached():
    release = LocalRelease(clip=0.5, noise_multiplier=1e-3, seed=1)
    far = torch.tensor([[9.0, 0.0]])
    moved = release(far, clients=[0], round=1) - release(-far, clients=[0], round=1)
    assert moved.norm() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("noise", ["seeded", "secure"])
def test_a_clients_noise_has_its_size_and_belongs_to_it_alone(noise):
    release = LocalRelease(clip=0.5, noise_multiplier=3.0, seed=1, noise=noise)
    sent = release(torch.zeros(2, 20_000), clients=[3, 8], round=1)
    assert sent.std(1).tolist() == pytest.approx([1.5, 1.5], rel=0.03)
    assert abs(float(np.corrcoef(sent.numpy())[0, 1])) < 0.03
    again = release(torch.zeros(1, 20_000), clients=[8], round=1)
    later = release(torch.zeros(1, 20_000), clients=[8], round=2)
    assert torch.equal(again[0], sent[1]) == (noise == "seeded")
    assert not torch.equal(later[0], sent[1])


@given(st.floats(0.01, 10), st.integers(0, 99))
def test_clipping_keeps_directions_and_short_updates(bound, seed):
    delta = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    clipped = clip_rows(delta, bound=bound)
    for row, was in zip(clipped, delta):
        expected = was if was.norm() <= bound else was / was.norm() * bound
        torch.testing.assert_close(row, expected)


def said(mode, *, rate=1.0, figures=(2.0, 2.0), **changes):
    plans = plan_clients(budget(mode), num_clients=len(figures), sample_rate=rate)
    stated = statement(
        plans, [Figure(e, "prv") for e in figures], declined=1, outside=("Scales.",), **changes
    )
    json.dumps(stated, allow_nan=False)
    return stated, " ".join(stated["sentences"])


def test_the_central_statement_trusts_the_server_and_wants_a_secret_sample():
    stated, text = said("central", rate=0.2)
    for part in (
        "one client with all its records",
        "takes part or does not",
        "not against the server",
        "only while who took part in which round stays secret",
        "moves the sum by at most 1",
        "epsilon is 2: the same for every client",
        "Accounted by PRV, over all rounds, each at sampling rate 0.2",
    ):
        assert part in text
    assert (stated["sensitivity"], stated["sample_rate"]) == (1.0, 0.2)
    assert "stays secret" not in said("central")[1]
    assert "noised count" in said("central", adaptive=True)[1]


def test_the_local_statement_needs_no_trust_and_counts_no_sampling():
    stated, text = said("local", figures=(2.0, 0.5, 0.0))
    for part in (
        "replaced by any others",
        "Against the server",
        "not counted as protection",
        "moves its own by at most 2;",
        "epsilon is 2 at the client that spent most",
        "1 client never trained",
        "1 client had spent the budget",
    ):
        assert part in text
    assert stated["sensitivity"] == 2.0
    assert stated["outside"][-1] == "Scales."
    assert any("sent in the clear" in item for item in stated["outside"])


def test_no_guarantee_and_no_round_are_said_plainly():
    assert "There is no guarantee" in said("central", figures=(math.inf, math.inf))[1]
    assert "nothing was spent" in said("central", figures=(0.0, 0.0))[1]
