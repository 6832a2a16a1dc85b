"""Noise on evaluation counts: what one record changes, what it costs, and that it is what was said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedmodel.errors import FedmodelError
from fedmodel.evaluation.counts import count, from_records, to_record
from fedmodel.privacy.counts import CountNoise, count_noise, evaluation_statement
from fedmodel.types import Counts

NOISE = CountNoise(noise_multiplier=3.0, delta=1e-5, seed=5)


def analytic_gaussian(noise: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism of sensitivity 1 (Balle and Wang, ICML 2018, Theorem 8)."""

    def excess(epsilon: float) -> float:
        a, b = 1 / (2 * noise), epsilon * noise
        return norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b) - delta

    return brentq(excess, 0, 200)


def counted(logits, y, cell, client, *, num_groups: int, num_clients: int) -> Counts:
    return count(
        torch.as_tensor(logits, dtype=torch.float64),
        torch.as_tensor(y),
        torch.as_tensor(cell),
        torch.as_tensor(client),
        num_clients=num_clients,
        num_groups=num_groups,
    )


@given(
    classes=st.integers(2, 4),
    num_groups=st.integers(1, 5),
    number=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_one_record_moves_what_leaves_a_client_by_one(classes, num_groups, number, seed):
    """Sensitivity by brute force: the counts with and without each record, all that is released."""
    draw = np.random.default_rng(seed)
    columns = {
        "logits": draw.normal(size=(number, classes)),
        "y": draw.integers(classes, size=number),
        "cell": draw.integers(num_groups, size=number),
        "client": draw.integers(3, size=number),
    }
    # so little noise that rounding takes it away: what is left is what the mechanism adds noise to
    bare = CountNoise(noise_multiplier=1e-9, delta=1e-5, seed=0)

    def released(keep):
        part = {name: column[keep] for name, column in columns.items()}
        sent = bare(
            counted(**part, num_groups=num_groups, num_clients=3),
            clients=[0, 1, 2],
            round=1,
            split="test",
        )
        assert sent.loss.isnan().all() and sent.histogram.numel() == 0
        return sent.confusion.double()

    everybody = np.ones(number, dtype=bool)
    for record in range(number):
        without = everybody.copy()
        without[record] = False
        difference = released(everybody) - released(without)
        assert torch.linalg.vector_norm(difference).item() == 1.0
        others = np.arange(3) != columns["client"][record]
        assert not difference[torch.from_numpy(others)].any()


def test_noise_has_the_deviation_that_is_claimed_and_no_bias():
    zero = Counts(
        confusion=torch.zeros(500, 4, 5, 5, dtype=torch.int64),
        loss=torch.zeros(500, dtype=torch.float64),
        histogram=torch.zeros(500, 5, 0, dtype=torch.int64),
    )
    sent = NOISE(zero, clients=np.arange(500), round=1, split="test")
    values = sent.confusion.double()
    assert values.std().item() == pytest.approx(sent.noise, rel=0.02)
    assert abs(values.mean().item()) < 4 * sent.noise / math.sqrt(values.numel())
    assert sent.noise >= NOISE.noise_multiplier
    assert sent.total().confusion.double().std().item() == pytest.approx(
        sent.total().noise, rel=0.2
    )


def test_each_client_round_and_split_has_noise_of_its_own():
    nobody = np.zeros(0, dtype=int)
    zero = counted(np.zeros((0, 2)), nobody, nobody, nobody, num_groups=20, num_clients=4)

    def sent(noise=NOISE, clients=(0, 1, 2, 3), round=1, split="test"):
        return noise(zero, clients=clients, round=round, split=split).confusion

    assert torch.equal(sent(), sent())
    assert torch.equal(sent(clients=[3, 1, 2, 0])[0], sent()[3])
    for other in (sent(round=2), sent(split="validation"), sent()[[1, 2, 3, 0]]):
        assert (other != sent()).double().mean() > 0.5
    secure = CountNoise(noise_multiplier=3.0, delta=1e-5, seed=5, noise="secure")
    assert not torch.equal(sent(secure), sent(secure))


@pytest.mark.parametrize("noise", [0.8, 2.0, 10.0])
@pytest.mark.parametrize("evaluations", [1, 4, 21])
def test_epsilon_is_the_analytic_gaussians_and_opacus(noise, evaluations):
    release = CountNoise(noise_multiplier=noise, delta=1e-5, seed=0)
    figure = release.spent(evaluations)
    # n releases with noise s are one with s / sqrt(n) (Dong, Roth and Su 2022, Corollary 3.3)
    exact = analytic_gaussian(noise / math.sqrt(evaluations), 1e-5)
    assert exact <= figure.epsilon <= exact + 0.03
    opacus = PRVAccountant()
    opacus.history = [(noise, 1.0, evaluations)]
    assert figure.epsilon == pytest.approx(opacus.get_epsilon(1e-5), abs=0.03)


@given(epsilon=st.floats(0.2, 10.0), evaluations=st.integers(1, 50))
def test_calibrated_noise_keeps_to_epsilon_and_wastes_little(epsilon, evaluations):
    made = count_noise(
        epsilon=epsilon, noise_multiplier=None, delta=1e-5, evaluations=evaluations, seed=0
    )
    exact = analytic_gaussian(made.noise_multiplier / math.sqrt(evaluations), 1e-5)
    assert exact <= epsilon
    assert exact >= 0.9 * epsilon - 0.03


def test_an_epsilon_that_no_noise_reaches_is_refused():
    with pytest.raises(FedmodelError, match="epsilon"):
        count_noise(epsilon=-1.0, noise_multiplier=None, delta=1e-5, evaluations=3, seed=0)


def test_noised_counts_survive_the_way_in_records():
    bare = counted([[2.0, 1.0]], [0], [0], [0], num_groups=2, num_clients=2)
    sent = NOISE(bare, clients=[0, 1], round=0, split="test")
    one = [
        Counts(
            confusion=sent.confusion[[k]],
            loss=sent.loss[[k]],
            histogram=sent.histogram[[k]],
            noise=sent.noise,
        )
        for k in range(2)
    ]
    records = [to_record(part) for part in one]
    assert all("loss" not in record and "histogram" not in record for record in records)
    back = from_records(records)
    assert torch.equal(back.confusion, sent.confusion) and back.noise == sent.noise
    assert back.loss.isnan().all()


def test_the_statement_says_what_was_spent():
    said = evaluation_statement(NOISE, evaluations=4, target=None)
    assert said["epsilon"] == NOISE.spent(4).epsilon
    assert said["evaluations"] == 4 and said["simulated"] is True
    assert any("4 evaluations spent epsilon" in sentence for sentence in said["sentences"])
