"""Canary clients: what they show of a mechanism is what its noise allows, and a broken one is caught."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
import torch
from audits.conftest import federation, workload
from flwr.serverapp.strategy import FedAvg

from fedmodel.audits.canaries import canaries
from fedmodel.audits.client_canaries import LONGER, central, distributed, local, room
from fedmodel.audits.guessing import best_bound
from fedmodel.audits.inference import attribute_inference, property_inference
from fedmodel.audits.inversion import gradient_inversion
from fedmodel.audits.membership import membership
from fedmodel.audits.planting import directions
from fedmodel.clients.sgd import sgd
from fedmodel.config import AdaptiveClip
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy import epsilon_of
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.client_level import plan_clients, split_noise
from fedmodel.privacy.updates import LocalRelease
from fedmodel.secure.answers import Plan
from fedmodel.secure.encoding import Encoding
from fedmodel.secure.noise import sum_noise
from fedmodel.strategies.client_privacy import CentralPrivacy
from fedmodel.strategies.compose import compose

DELTA = 1e-5
FEATURES = 49  # a linear model of two classes: 100 parameters
PARAMETERS = 2 * (FEATURES + 1)


def idle(seed, features=FEATURES):
    """Two clients whose training changes nothing: the mechanism alone is left."""
    return workload(
        federation(features=features), noise=0.0, steps=0, seed=seed, private=False,
        behaviour=sgd(learning_rate=0.5, batch_size=4),
    )  # fmt: skip


def plans_of(mode, *, rounds, rate=1.0, epsilon=None, noise=None):
    """The plan that the accountant holds the audit against."""
    budget = Budget(
        unit="client", mode=mode, epsilon=epsilon, noise_multiplier=noise, delta=DELTA,
        participations=rounds, accountant="rdp" if mode == "distributed" else "prv",
    )  # fmt: skip
    return plan_clients(budget, num_clients=2, sample_rate=rate)


def by_server(plans, *, seed, share=1.0, adaptive=None, number=10_000, work=None, kind=compose):
    """Canaries at a server that adds a `share` of the noise that was planned."""
    rate = float(plans.sample_rate.max())
    strategy = kind(sample=rate, sampling="poisson", seed=seed)
    noise = share * float(plans.noise_multiplier.max())
    strategy.protect(
        CentralPrivacy(noise_multiplier=noise, clip=0.5, sample_rate=rate, adaptive=adaptive, seed=seed)
    )  # fmt: skip
    return central(work or idle(seed), strategy, plans, number=number)


def by_clients(plans, *, seed, share=1.0, number=10_000):
    """Canaries that add a `share` of the noise that was planned, each to its own update."""
    noise = float(plans.noise_multiplier.max())
    release = LocalRelease(clip=0.5, noise_multiplier=share * noise, seed=seed)
    found = local(idle(seed, features=4), release, plans, number=number)
    return replace(found, histories=[[(noise / 2, 1.0, plans.budget.participations)]])


def by_all(plans, *, seed, share=1.0, number=10_000, features=FEATURES):
    """Canaries that add a `share` of their part of the noise that the sum was to have."""
    work, noise = idle(seed, features), float(plans.noise_multiplier.max())
    number = room(number, work, plans)
    added, bits = sum_noise(
        clip=0.5, noise_multiplier=share * noise, fewest=2 + number, size=work.model.size, seed=seed
    )
    encoding = Encoding(
        size=work.model.size, bound=0.5, bits=bits, num_clients=2 + number, max_weight=1, max_records=1,
        noise=added.scale,
    )  # fmt: skip
    plan = Plan(encoding=encoding, by_records=False, noise=added)
    found = distributed(work, plan, plans, number=number)
    return replace(found, histories=[[(noise / 2, 1.0, plans.budget.participations)]])


def shown(found):
    return best_bound(found.score, found.inside, delta=DELTA, significance=0.05).epsilon


def right(found):
    """The share of coins that the sign of the score tells."""
    return float(((found.score > 0) == found.inside).mean())


def expected(signal, noise, *, number):
    """The share of right guesses at two normal laws so far apart, and four standard deviations of it."""
    share = NormalDist().cdf(signal / noise / 2)
    return pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / number))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_guesses_at_a_noised_sum_are_as_right_as_two_normal_laws_allow(share):
    rounds, noise, number = 8, 4.0, 1000
    found = by_server(
        plans_of("central", rounds=rounds, noise=noise), seed=5, share=share, number=number
    )
    assert len(found.score) == 8 * PARAMETERS
    # A canary moves its score by 1 a round. Around it are the noise, and the canaries whose coins the
    # adversary does not know: a variance of 1/4 each, of which 1/d lies along its direction.
    around = math.sqrt(((share * noise) ** 2 + 800 / 4 / PARAMETERS) / rounds)
    assert right(found) == expected(1.0, around, number=800)


def test_with_a_clip_that_adapts_the_sum_has_the_noise_that_is_left_for_it():
    rounds, noise = 8, 4.0
    adaptive = AdaptiveClip(initial=0.5, learning_rate=0.2, count_noise=3.0)
    plans = plans_of("central", rounds=rounds, noise=noise)
    found = by_server(plans, seed=5, adaptive=adaptive)
    around = math.sqrt((split_noise(noise, 3.0) ** 2 + 800 / 4 / PARAMETERS) / rounds)
    assert right(found) == expected(1.0, around, number=800)


def test_guesses_at_single_updates_are_as_right_as_two_normal_laws_allow():
    found = by_clients(plans_of("local", rounds=3, noise=6.0), seed=5, number=4000)
    assert right(found) == expected(2.0, 6.0 / math.sqrt(3), number=4000)


def test_guesses_at_a_sum_with_parts_of_the_noise_are_as_right_as_two_normal_laws_allow():
    found = by_all(plans_of("distributed", rounds=4, noise=6.0), seed=5)
    around = math.sqrt((6.0**2 + 400 / PARAMETERS) / 4)
    assert len(found.score) == 400
    assert right(found) == expected(2.0, around, number=400)


def test_what_other_clients_send_does_not_stand_in_the_way():
    plans = plans_of("central", rounds=3, noise=1e-3)
    data = federation(((30, 0, 1),) * 8, features=FEATURES)
    work = workload(
        data, noise=0.0, steps=3, private=False, behaviour=sgd(learning_rate=5.0, batch_size=4)
    )
    found = by_server(plans, seed=2, number=40, work=work)
    assert right(found) == 1.0


def test_directions_are_of_length_one_new_each_round_and_the_same_in_any_company():
    found = directions(np.arange(500), 30, seed=3, round=1)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(500))
    inner = found @ found.T - torch.eye(500)
    assert float(inner.pow(2).mean()) == pytest.approx(1 / 30, rel=0.05)
    torch.testing.assert_close(directions(np.array([7, 3]), 30, seed=3, round=1), found[[7, 3]])
    other = directions(np.arange(500), 30, seed=3, round=2)
    assert abs(float((found * other).sum(1).mean())) < 4 / math.sqrt(500 * 30)


def test_a_third_of_the_noise_at_each_client_is_caught():
    plans = plans_of("local", rounds=5, epsilon=1.0)
    found = by_clients(plans, seed=3)
    assert found.epsilon(DELTA, "prv") == pytest.approx(1.0, abs=0.01)
    assert 0 < shown(found) <= 1
    assert shown(by_clients(plans, seed=3, share=1 / 3)) > 1


def test_updates_that_are_not_clipped_are_caught(monkeypatch):
    plans = plans_of("central", rounds=20, epsilon=1.0)
    assert shown(by_server(plans, seed=3)) <= 1
    monkeypatch.setattr("fedmodel.strategies.client_privacy.clip_rows", lambda delta, bound: delta)
    assert shown(by_server(plans, seed=3)) > 1
    assert LONGER > 1


class everybody(compose):  # noqa: N801
    """Asks all clients, whatever share of them it says."""

    def sampled(self, server_round, nodes):
        return list(nodes)


def test_a_sample_that_is_none_is_caught():
    plans = plans_of("central", rounds=40, rate=0.2, epsilon=1.0)
    assert shown(by_server(plans, seed=3)) <= 1
    assert shown(by_server(plans, seed=3, kind=everybody)) > 1


HEART = {
    "rounds": 3,
    "data": {"name": "heart_disease", "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.3},
}
CENTRAL = {"unit": "client", "mode": "central", "noise_multiplier": 0.5, "delta": 1e-2}
LOCAL = {**CENTRAL, "mode": "local"}
DISTRIBUTED = {**CENTRAL, "mode": "distributed", "accountant": "rdp", "noise_multiplier": 2.0}
EQUAL = {"name": "compose", "weigh": "equal"}


@pytest.mark.parametrize(
    ("changes", "rate", "noise", "sees", "against"),
    [
        (
            {"privacy": CENTRAL, "strategy": {"name": "compose", "sample": 0.5}},
            0.5, 0.5, "global models", "whoever sees the global models of all rounds",
        ),
        ({"privacy": LOCAL}, 1.0, 0.25, "single updates", "the server, which sees every update"),
        (
            {"privacy": DISTRIBUTED, "strategy": EQUAL, "secure_aggregation": {}},
            1.0, 1.0, "sums of updates", "the sum of each round's updates",
        ),
    ],
)  # fmt: skip
def test_each_mode_is_audited_and_the_page_says_against_whom(changes, rate, noise, sees, against):
    found = canaries(Experiment.read({**HEART, **changes}), clients=200)
    table, figures = found.tables["canaries"], found.figures
    assert set(table.audit) == {sees} and table.client.min() == 4  # after the four hospitals
    upper = epsilon_of(
        sample_rate=rate, noise_multiplier=noise, steps=3, delta=1e-5,
        accountant="rdp" if "secure_aggregation" in changes else "prv",
    )  # fmt: skip
    assert figures["epsilon_upper"] == pytest.approx(upper, rel=2e-3)
    assert 0 <= figures["epsilon_lower"] <= upper and figures["refuted"] == 0
    said = str(found.section.blocks)
    assert "one client with all its records" in said and against in said and sees in said
    few = any("There was room for" in note for note in found.notes)
    assert few == (len(table) < 200) == (sees != "single updates")


def test_an_optimiser_of_the_server_and_a_claim_that_is_too_small():
    config = {
        **HEART,
        "privacy": CENTRAL,
        "strategy": {"name": "compose", "optimiser": {"name": "adam"}},
    }
    found = canaries(Experiment.read(config), claimed=0.1, delta=1e-5)
    assert found.figures["refuted"] == 1 and "refuted" in found.notes[0]


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"privacy": CENTRAL}, {"gradients": 5}, "`gradients` has no effect"),
        ({"privacy": LOCAL}, {"records": 0.5}, "`records` has no effect"),
        ({}, {"clients": 5}, "`clients` has no effect"),
        ({"secure_aggregation": {}}, {}, "promises no epsilon"),
    ],
)
def test_what_cannot_be_audited_is_refused(changes, options, said):
    with pytest.raises(FedmodelError, match=said):
        canaries(Experiment.read({**HEART, **changes}), **options)


@pytest.mark.parametrize(
    "attack", [membership, gradient_inversion, property_inference, attribute_inference]
)
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"privacy": CENTRAL}, "protects whole clients"), ({"secure_aggregation": {}}, "sums only")],
)
def test_attacks_on_records_by_single_updates_refuse_what_they_do_not_model(attack, changes, said):
    with pytest.raises(FedmodelError, match=said):
        attack(Experiment.read({**HEART, **changes}))


def test_a_strategy_that_may_move_the_model_otherwise_is_refused():
    experiment = Experiment.read({**HEART, "privacy": CENTRAL})
    experiment.__dict__["built"] = replace(experiment.built, strategy=FedAvg())
    with pytest.raises(FedmodelError, match="FedAvg is not known to move the model"):
        canaries(experiment)


def test_of_a_sum_only_the_sum_is_scored():
    """Two of three clients make noise: at their canaries' coordinates the third one's show nothing."""
    config = {
        **HEART,
        "client": {"name": "dp_sgd", "learning_rate": 0.3},
        "privacy": {"noise_multiplier": 0.2, "delta": 1e-3, "accountant": "rdp"},
        "model": {"name": "mlp"},
    }
    alone = canaries(Experiment.read(config)).figures
    summed = canaries(Experiment.read({**config, "secure_aggregation": {"bound": 4.0}}))
    assert 0 < summed.figures["epsilon_lower_white_box"] < alone["epsilon_lower_white_box"]
    assert summed.figures["epsilon_upper"] == alone["epsilon_upper"]
    white = summed.tables["canaries"].query("audit == 'white-box'")
    assert len(white) == Experiment.read(config).built.model.size
    assert any("sees their sum" in note for note in summed.notes)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "seed"), [*product([1.0], range(20)), *product([0.25], range(5))])
def test_a_server_that_claims_epsilon_1(seed, rate):
    rounds = int(100 / rate)  # as many canaries as the bound has room for: 10,000
    plans = plans_of("central", rounds=rounds, rate=rate, epsilon=1.0)
    found = by_server(plans, seed=seed)
    assert len(found.score) == 10_000
    assert 0 < shown(found) <= 1
    assert shown(by_server(plans, seed=seed, share=1 / 3)) > 1
    # An accountant that starts anew each round calibrates noise for one.
    one = plans_of("central", rounds=1, rate=rate, epsilon=1.0).noise_multiplier.max()
    share = float(one / plans.noise_multiplier.max())
    assert shown(by_server(plans, seed=seed, share=share)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_clients_that_claim_epsilon_1(seed):
    plans = plans_of("local", rounds=10, epsilon=1.0)
    assert 0 < shown(by_clients(plans, seed=seed)) <= 1
    assert shown(by_clients(plans, seed=seed, share=1 / 3)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_all_together_claim_epsilon_1(seed):
    plans = plans_of("distributed", rounds=10, epsilon=1.0)
    assert 0 <= shown(by_all(plans, seed=seed, features=199)) <= 1
    assert shown(by_all(plans, seed=seed, features=199, share=1 / 3)) > 1
