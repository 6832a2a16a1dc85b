"""The canary audit catches a mechanism that is broken, and does not accuse one that is right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from audits.conftest import federation, workload
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.audits.canaries import canaries
from fedmodel.audits.guessing import SHARES, best_bound, standardised
from fedmodel.audits.record_canaries import black_box, white_box
from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.clients.opacus import opacus_dp_sgd
from fedmodel.clients.sgd import sgd
from fedmodel.cohort import clipped_gradient_sum
from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.experiment import Experiment
from fedmodel.privacy import epsilon_of, noise_for
from fedmodel.privacy.audit import epsilon_lower_bound

ROUNDS, STEPS, RATE, DELTA = 10, 2, 0.5, 1e-5
SEEDS = range(20)


class a_third_of_the_noise(dp_sgd):  # noqa: N801
    """DP-SGD as it should be, but for the noise."""

    def train(self, cohort, start):
        local = start.repeat(cohort.size, 1)
        for step in cohort.steps:
            batch = cohort.poisson_batch(step)
            gradient = clipped_gradient_sum(cohort, local, batch, clip=cohort.clip)
            scale = cohort.clip * cohort.noise_multiplier[:, None] / 3
            gradient += scale * cohort.normal(step, gradient)
            local -= self.learning_rate * gradient / cohort.expected_batch_size[:, None]
        return local - start


@pytest.fixture(scope="module")
def wide():
    """One client whose model has room for 10,000 canaries."""
    data = federation(((64, 0, 1),), features=5000)
    return replace(data, x=data.x / 70)


def shown(data, *, noise, seed, behaviour=dp_sgd, rounds=ROUNDS):
    """The lower bound of one audit."""
    work = workload(
        data,
        noise=noise,
        steps=STEPS,
        batch_size=32,
        seed=seed,
        behaviour=behaviour(learning_rate=0.1, batch_size=32),
    )
    found = white_box(work, rounds=rounds, number=10_000)
    return best_bound(found.score, found.inside, delta=DELTA, significance=0.05).epsilon


def noise(rounds):
    return noise_for(epsilon=1.0, sample_rate=RATE, steps=rounds * STEPS, delta=DELTA)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_claimed_is_epsilon_1(seed, wide):
    right = shown(wide, noise=noise(ROUNDS), seed=seed)
    assert 0 < right <= 1
    assert shown(wide, noise=noise(ROUNDS), seed=seed, behaviour=a_third_of_the_noise) > 1
    # An accountant that is reset each round calibrates noise for one and charges for one.
    assert shown(wide, noise=noise(1), seed=seed) > 1


def test_a_third_of_the_noise_is_caught(wide):
    level = noise_for(
        epsilon=1.0, sample_rate=RATE, steps=ROUNDS * STEPS, delta=DELTA, accountant="rdp"
    )
    assert shown(wide, noise=level, seed=100) <= 1
    assert shown(wide, noise=level, seed=100, behaviour=a_third_of_the_noise) > 1


def test_what_is_charged_is_what_the_accountant_says():
    work = workload(federation(), noise=2.0, steps=3)
    found = white_box(work, rounds=4, number=5)
    expected = max(
        epsilon_of(sample_rate=4 / n, noise_multiplier=2.0, steps=12, delta=DELTA) for n in (6, 9)
    )
    assert found.epsilon(DELTA, "prv") == pytest.approx(expected)
    assert len(found.score) == 10
    charged = black_box(work, rounds=4, share=0.5, most=9).epsilon(DELTA, "prv")
    assert charged < expected  # with canaries each client has more records


def test_canaries_that_are_not_taken_up_are_noticed():
    behaviour = opacus_dp_sgd(learning_rate=0.5, batch_size=4)
    work = workload(federation(), noise=1.0, behaviour=behaviour)
    assert white_box(work, rounds=1, number=5) is None


def test_memorised_records_are_seen_in_the_final_model():
    # More dimensions than records: without noise a linear model learns any labels by heart.
    data = federation(((60, 0, 60),), features=300)
    behaviour = sgd(learning_rate=0.5, batch_size=60)
    work = workload(data, noise=0.0, steps=20, behaviour=behaviour, private=False, batch_size=60)
    found = black_box(work, rounds=3, share=0.9, most=1000)
    assert best_bound(found.score, found.inside, delta=0.0, significance=0.05).epsilon > 1
    assert math.isinf(found.epsilon(DELTA, "prv"))


def test_no_room_for_a_canary_is_an_error():
    with pytest.raises(FedmodelError, match="no client has 100 training records"):
        black_box(workload(federation(), noise=1.0), rounds=1, share=0.01, most=9)


@given(st.integers(20, 300), st.floats(0, 3), st.integers(0, 99))
def test_the_best_bound_is_one_of_those_tried_at_an_equal_part(number, gap, seed):
    draw = np.random.default_rng(seed)
    inside = draw.random(number) < 0.5
    score = draw.normal(gap * inside)
    found = best_bound(score, inside, delta=1e-5, significance=0.05)
    order, tried = np.argsort(-score), []
    for share in SHARES:
        guesses = max(1, round(share * number))
        last = guesses // 2
        right = inside[order[: guesses - last]].sum() + (~inside[order[number - last :]]).sum()
        tried.append(
            epsilon_lower_bound(
                canaries=number, guesses=guesses, correct=int(right), delta=1e-5, significance=0.01
            )
        )
    assert found.epsilon == max(tried)


def test_standardised_scores_compare_over_clients():
    score = np.array([1.0, 2.0, 3.0, 100.0, 300.0, 5.0])
    found = standardised(score, np.array([0, 0, 0, 1, 1, 2]))
    root = math.sqrt(1.5)
    np.testing.assert_allclose(found, [-root, 0, root, -1, 1, 0])


CONFIG = {
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.3},
    "privacy": {"noise_multiplier": 0.4, "delta": 1e-3, "accountant": "rdp"},
}


def test_a_claim_that_is_too_small_is_refuted_and_the_page_says_so():
    found = canaries(Experiment.read(CONFIG), claimed=0.5, delta=1e-5)
    assert found.figures["epsilon_lower"] > 0.5
    assert found.figures["refuted"] == 1
    assert found.figures["epsilon_lower"] <= found.figures["epsilon_upper"]
    assert "refuted" in found.notes[0]
    assert any("The audit refutes the claim of" in str(block) for block in found.section.blocks)
    again = canaries(Experiment.read(CONFIG), claimed=0.5, delta=1e-5)
    assert again.figures == found.figures


def test_a_claim_holds_at_the_experiments_delta():
    assert canaries(Experiment.read(CONFIG), claimed=9.0).figures["delta"] == 1e-3
    assert canaries(Experiment.read(CONFIG)).figures["delta"] == 1e-5


def test_without_noise_everything_is_seen_and_nothing_is_claimed():
    config = {**CONFIG, "model": {"name": "mlp"}, "client": {"name": "sgd", "learning_rate": 0.3}}
    del config["privacy"]
    found = canaries(Experiment.read(config))
    assert found.figures["epsilon_lower_white_box"] > 2
    assert math.isinf(found.figures["epsilon_upper"])
    assert found.figures["refuted"] == 0
    assert any("Nothing was claimed" in str(block) for block in found.section.blocks)


def test_a_client_that_fails_ends_the_audit():
    work = workload(federation(), noise=1.0, behaviour=dp_sgd(learning_rate=1e39, batch_size=4))
    with pytest.raises(RunFailed, match="failed in round 1") as raised:
        white_box(work, rounds=3, number=5)
    assert raised.value.where.startswith("client a: ")
