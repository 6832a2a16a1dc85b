"""The server's noise: sensitivity by brute force, its size, the adaptive bound, Poisson samples."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, lognorm

from fedmodel._flower import Layout, arrays_of, identify, vector_of
from fedmodel.catalogue import Component
from fedmodel.config import AdaptiveClip
from fedmodel.errors import FedmodelError
from fedmodel.grids.local import LocalGrid
from fedmodel.messages import Replies
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.client_level import split_noise
from fedmodel.strategies.averaging import mean
from fedmodel.strategies.client_privacy import CentralPrivacy, protect
from fedmodel.strategies.compose import compose
from fedmodel.strategies.robust import coordinate_median
from fedmodel.strategies.transforms import clip_norm
from fedmodel.strategies.weighting import by_records, equal

LAYOUT = Layout(("w", "b"), ((2, 2), (1,)))


class Nodes(LocalGrid):
    def send_and_receive(self, messages, *, timeout=None):
        return []


def central(**changes):
    terms = {"noise_multiplier": 0.8, "clip": 0.5, "sample_rate": 0.2, "seed": 3, **changes}
    return CentralPrivacy(**terms)


UPDATES = st.lists(
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=6
)


@given(updates=UPDATES, bound=st.floats(0.01, 10), num_clients=st.integers(5, 1000))
def test_a_client_moves_the_mean_by_at_most_the_clip_over_the_expected_number(
    updates, bound, num_clients
):
    delta = torch.tensor(updates)
    whole = central().release(delta, bound=bound, num_clients=num_clients, round=1)
    for left_out in range(len(delta)):
        others = delta[torch.arange(len(delta)) != left_out]
        without = central().release(others, bound=bound, num_clients=num_clients, round=1)
        moved = (whole.step - without.step).norm()  # the same stream: the noise cancels
        assert moved <= bound / (0.2 * num_clients) * (1 + 1e-3) + 1e-6


@given(updates=UPDATES, noise=st.floats(0.1, 3), count_noise=st.floats(1.6, 9))
def test_sum_and_count_together_move_by_at_most_one_over_the_noise(updates, noise, count_noise):
    """Theorem 1 of Andrew et al. 2021: in units of their noises, squares added."""
    delta, bound, expected = torch.tensor(updates), 0.5, 0.2 * 50
    adaptive = AdaptiveClip(count_noise=count_noise)
    privacy = central(adaptive=adaptive, noise_multiplier=noise)
    parts = (delta, delta[1:])
    with_it, without = (
        privacy.release(part, bound=bound, num_clients=50, round=1) for part in parts
    )
    moved = float((with_it.step - without.step).norm()) * expected
    count = abs(with_it.clipped - without.clipped) * expected
    assert count == pytest.approx(0.5)
    distance = (moved / (split_noise(noise, count_noise) * bound)) ** 2 + (count / count_noise) ** 2
    assert distance <= 1 / noise**2 * (1 + 1e-3) + 1e-6


@pytest.mark.parametrize("noise", ["seeded", "secure"])
@pytest.mark.parametrize("clients", [0, 7])
def test_the_noise_is_drawn_once_whoever_answered(clients, noise):
    delta = torch.randn(clients, 20_000)
    privacy = central(noise=noise)
    place = {"bound": 0.5, "num_clients": 40}
    found = privacy.release(delta, **place, round=1).step - privacy.mean(delta, **place)
    assert found.std().item() == pytest.approx(0.8 * 0.5 / (0.2 * 40), rel=0.03)
    again = privacy.release(delta, **place, round=1).step - privacy.mean(delta, **place)
    later = privacy.release(delta, **place, round=2).step - privacy.mean(delta, **place)
    assert torch.equal(found, again) == (noise == "seeded")
    assert not torch.equal(found, later)


def test_with_an_adaptive_bound_the_sum_gets_the_rest_of_the_noise():
    privacy = central(adaptive=AdaptiveClip(count_noise=0.6))
    delta, place = torch.randn(7, 20_000), {"bound": 0.5, "num_clients": 40}
    found = privacy.release(delta, **place, round=1).step - privacy.mean(delta, **place)
    expected = (0.8**-2 - 1.2**-2) ** -0.5 * 0.5 / (0.2 * 40)
    assert found.std().item() == pytest.approx(expected, rel=0.03)


def test_the_noise_of_the_count_has_its_size():
    privacy = central(adaptive=AdaptiveClip(count_noise=2.0))
    nobody = torch.zeros(0, 1)
    shares = [
        privacy.release(nobody, bound=1.0, num_clients=50, round=number).clipped
        for number in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * 0.2 / np.sqrt(2000))
    assert np.std(shares) == pytest.approx(2.0 / 10, rel=0.07)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_the_bound_finds_the_quantile_of_the_norms(quantile):
    """Updates of lognormal norms; a bound that starts a factor 50 away; noise as in a run."""
    adaptive = AdaptiveClip(initial=50.0, quantile=quantile)
    privacy = central(adaptive=adaptive, clip=50.0, sample_rate=0.5, noise_multiplier=1.0)
    norms, bound, bounds = np.random.default_rng(1), 50.0, []
    for number in range(1, 301):
        size = norms.binomial(400, 0.5)
        delta = torch.from_numpy(np.exp(norms.normal(0, 1, (size, 1)))).float()
        bound = privacy.release(delta, bound=bound, num_clients=400, round=number).bound
        bounds.append(bound)
    target = lognorm.ppf(quantile, 1)
    assert np.exp(np.mean(np.log(bounds[-150:]))) == pytest.approx(target, rel=0.1)
    assert bounds[0] < 50  # most updates are shorter: the bound falls at once


def test_the_bound_follows_the_papers_update_step_by_step():
    """Algorithm 1 of Andrew et al. 2021 written out, with next to no noise."""
    adaptive = AdaptiveClip(initial=0.1, quantile=0.7, learning_rate=0.3, count_noise=1e-3)
    privacy = central(adaptive=adaptive, sample_rate=1.0, noise_multiplier=1e-4)
    delta = torch.randn(40, 6)
    ours = theirs = 0.1
    for number in range(1, 60):
        ours = privacy.release(delta, bound=ours, num_clients=40, round=number).bound
        within = np.mean(np.linalg.norm(delta.numpy(), axis=1) <= theirs)
        theirs *= np.exp(-0.3 * (within - 0.7))
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_of_few_clients_the_count_keeps_enough_noise():
    privacy = central(adaptive=AdaptiveClip(), noise_multiplier=2.0)
    assert privacy.count_noise(200.0) == 10.0  # the paper's twentieth
    assert privacy.count_noise(5.0) == 2.0
    assert split_noise(2.0, 2.0) == pytest.approx(2.0 * 1.1547, rel=1e-4)


def test_a_count_noise_that_leaves_nothing_is_refused_at_once():
    with pytest.raises(FedmodelError, match="leaves no privacy"):
        central(adaptive=AdaptiveClip(count_noise=0.4))


# Poisson samples


def test_the_size_of_a_poisson_sample_is_binomial_and_may_be_zero():
    strategy, nodes = compose(sample=0.15, sampling="poisson", seed=5), Nodes(10).nodes
    sizes = [len(strategy.sampled(number, nodes)) for number in range(3000)]
    found = np.bincount(np.minimum(sizes, 5), minlength=6)
    law = binom.pmf(np.arange(5), 10, 0.15)
    assert chisquare(found, 3000 * np.append(law, 1 - law.sum())).pvalue > 1e-3
    assert found[0] > 0


def test_clients_are_asked_independently_and_whoever_else_there_is():
    strategy = compose(sample=0.4, sampling="poisson", seed=5)
    few, many = Nodes(4).nodes, Nodes(9).nodes
    asked = np.array(
        [np.isin(many, strategy.sampled(number, many)) for number in range(4000)], dtype=float
    )
    assert abs(np.corrcoef(asked.T) - np.eye(9)).max() < 4.5 / np.sqrt(4000)
    for number in range(50):
        chosen = strategy.sampled(number, many)
        assert strategy.sampled(number, few) == [node for node in chosen if node in few]


def test_everybody_is_asked_where_the_share_is_one():
    nodes = Nodes(6).nodes
    assert compose(sampling="poisson").sampled(3, nodes) == list(nodes)


# The strategy under `protect`


def protected(**options):
    strategy = compose(seed=3, **options)
    strategy.protect(central(sample_rate=strategy.sample))
    return strategy


def one_round(strategy, models, start, *, population):
    identify()
    nodes = Nodes(population)
    strategy.configure_train(1, arrays_of(start, LAYOUT), ConfigRecord(), nodes)
    replies = Replies(
        nodes.nodes[: len(models)],
        "train",
        LAYOUT if len(models) else Layout((), ()),
        models.clone() if len(models) else None,
        {"num-examples": np.arange(1, len(models) + 1), "train_loss": np.ones(len(models))},
    )
    arrays, metrics = strategy.aggregate_train(1, replies)
    return vector_of(arrays), dict(metrics)


@pytest.mark.parametrize("clients", [0, 3])
def test_a_round_steps_by_the_noised_sum_over_the_expected_number_and_tells_nothing_else(clients):
    start, models = torch.randn(5), torch.randn(clients, 5)
    strategy = protected(sample=0.2, learning_rate=0.5)
    found, metrics = one_round(strategy, models, start, population=30)
    step = central().release(models - start, bound=0.5, num_clients=30, round=1).step
    torch.testing.assert_close(found, start + 0.5 * step)
    assert metrics == {}


def test_the_bound_is_remembered_and_told():
    strategy = compose(sample=0.5, seed=3)
    strategy.protect(central(sample_rate=0.5, adaptive=AdaptiveClip(initial=0.5)))
    _, metrics = one_round(strategy, torch.randn(3, 5), torch.zeros(5), population=10)
    assert metrics["clip_bound"] == 0.5
    assert strategy.state() == {"clip_bound": strategy.clip_bound}
    assert strategy.clip_bound != 0.5


def test_the_mean_without_noise_tells_an_attackers_share():
    strategy, delta = protected(sample=0.2), torch.randn(3, 5)
    strategy.num_clients = 30
    found = strategy.aggregate_kept(delta, {}, torch.tensor([True, False, True]))
    torch.testing.assert_close(found, clip_norm(delta[[0, 2]], bound=0.5).sum(0) / 6)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"combine": coordinate_median}, "combine"),
        ({"before": [Component("transform", "clip_norm", clip_norm, {"bound": 1.0})]}, "before"),
        ({"weigh": by_records}, "weigh"),
        ({"sampling": "fixed", "sample": 0.5}, "sampling"),
    ],
)
def test_what_needs_single_updates_or_other_weights_is_refused(options, key):
    with pytest.raises(FedmodelError) as error:
        protected(**options)
    assert error.value.where == f"[strategy] {key}"
    assert 'mode = "local"' in error.value.fix


@pytest.mark.parametrize(
    "options", [{}, {"combine": mean}, {"weigh": equal}, {"sampling": "fixed"}]
)
def test_the_mean_of_equal_weights_is_protected(options):
    assert protected(**options).sampling == "poisson"


def test_a_strategy_that_only_knows_single_updates_is_refused():
    from flwr.serverapp.strategy import FedAdam

    budget = Budget(unit="client", mode="central", epsilon=1.0, participations=3)
    with pytest.raises(FedmodelError, match="FedAdam aggregates single updates"):
        protect(FedAdam(), budget, name="FedAdam")
