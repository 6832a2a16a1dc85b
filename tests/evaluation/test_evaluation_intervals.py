"""Intervals of noised counts: against closed forms of others, and how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, tukey_hsd

from fedmodel.evaluation.intervals import gap_intervals, rate_intervals, simultaneous_factor
from fedmodel.evaluation.performance import TELLING, accuracy_score, balanced_accuracy_score
from fedmodel.evaluation.tables import metric_rows
from fedmodel.types import Card, Counts, FederatedData

DRAWS = 4000
# Of 4,000 tries with a chance of 95 %, fewer than 94 % succeed once in 500. More than 95 % where a rate
# is so near 0 that the lower bound, which would be negative, never misses it.
LEAST, MOST = 0.94, 0.99


def drawn(sizes, chances, *, noise: float, seed: int) -> torch.Tensor:
    """Noised counts [draws, G, 2, 2] of G groups: P(true 1), P(predicted 1 | true 0), (... | true 1)."""
    draw = np.random.default_rng(seed)
    cells = []
    for size, (positive, false, true) in zip(sizes, chances):
        share = np.array([[1 - positive], [positive]]) * np.array(
            [[1 - false, false], [1 - true, true]]
        )
        cells.append(draw.multinomial(size, share.flatten(), DRAWS).reshape(DRAWS, 2, 2))
    counts = np.stack(cells, 1)
    return torch.from_numpy(np.rint(counts + noise * draw.normal(size=counts.shape)).astype(int))


def coverage(bounds, truth: float) -> float:
    low, high = bounds
    return ((low <= truth) & (truth <= high)).double().mean().item()


@pytest.mark.parametrize("noise", [0.0, 4.0, 15.0])
@pytest.mark.parametrize("chances", [(0.3, 0.1, 0.7), (0.5, 0.02, 0.95)])
def test_intervals_of_rates_hold_the_truth_as_often_as_they_say(noise, chances):
    positive, false, true = chances
    confusion = drawn([800], [chances], noise=noise, seed=1)[:, 0]
    bounds = rate_intervals(confusion, noise=noise)
    right = positive * true + (1 - positive) * (1 - false)
    selected = positive * true + (1 - positive) * false
    for name, truth in (
        ("accuracy", right),
        ("selection_rate", selected),
        ("true_positive_rate", true),
        ("false_positive_rate", false),
    ):
        assert LEAST <= coverage(bounds[name], truth) <= MOST, name


@pytest.mark.parametrize("noise", [0.0, 8.0])
@pytest.mark.parametrize(
    "chances",
    {
        "equal": [(0.3, 0.1, 0.7)] * 2,
        "apart": [(0.3, 0.1, 0.7), (0.3, 0.3, 0.9)],
        "three equal": [(0.3, 0.1, 0.7)] * 3,
        "three": [(0.3, 0.1, 0.7), (0.4, 0.2, 0.7), (0.2, 0.1, 0.6)],
    }.items(),
    ids=lambda item: item[0],
)
def test_intervals_of_gaps_hold_the_truth_at_least_as_often_as_they_say(noise, chances):
    groups = chances[1]
    confusion = drawn([900, 500, 700][: len(groups)], groups, noise=noise, seed=2)
    bounds = gap_intervals(confusion, noise=noise)
    selected = [p * true + (1 - p) * false for p, false, true in groups]
    right = [p * true + (1 - p) * (1 - false) for p, false, true in groups]
    odds = max(np.ptp([g[1] for g in groups]), np.ptp([g[2] for g in groups]))
    assert coverage(bounds["demographic_parity_difference"], np.ptp(selected)) >= LEAST
    assert coverage(bounds["accuracy_difference"], np.ptp(right)) >= LEAST
    assert coverage(bounds["equalized_odds_difference"], odds) >= LEAST


def test_leaving_the_noise_out_would_miss_the_truth():
    confusion = drawn([800], [(0.3, 0.1, 0.7)], noise=15.0, seed=1)[:, 0]
    assert coverage(rate_intervals(confusion, noise=0.0)["true_positive_rate"], 0.7) < 0.8


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_differences_are_tukey_and_kramers(groups):
    """The factor against scipy's Tukey test with so many records that t is normal."""
    draw = np.random.default_rng(3)
    samples = [draw.normal(size=20_000 + 5_000 * g) for g in range(groups)]
    interval = tukey_hsd(*samples).confidence_interval(0.95)
    pooled = math.sqrt(
        sum(s.var(ddof=1) * (len(s) - 1) for s in samples) / sum(len(s) - 1 for s in samples)
    )
    error = pooled * math.sqrt(1 / len(samples[0]) + 1 / len(samples[1]))
    width = (interval.high[0, 1] - interval.low[0, 1]) / 2
    assert simultaneous_factor(groups, 0.95) * error == pytest.approx(width, rel=2e-3)


def test_two_groups_have_the_usual_interval_of_a_difference():
    confusion = torch.tensor([[[6000, 4000], [0, 0]], [[5000, 5000], [0, 0]]])
    low, high = gap_intervals(confusion, noise=0.0)["demographic_parity_difference"]
    error = math.sqrt(0.4 * 0.6 / 1e4 + 0.25 / 1e4)
    assert low.item() == pytest.approx(0.1 - norm.ppf(0.975) * error, abs=1e-5)
    assert high.item() == pytest.approx(0.1 + norm.ppf(0.975) * error, abs=1e-5)


def test_a_group_that_may_be_empty_leaves_the_gap_open():
    confusion = torch.tensor([[[600, 400], [0, 0]], [[500, 500], [0, 0]], [[3, -2], [1, 0]]])
    low, high = gap_intervals(confusion, noise=2.0)["demographic_parity_difference"]
    assert 0 < low < 0.1 and high == 1
    assert gap_intervals(confusion[2:], noise=2.0)["accuracy_difference"][0].isnan()
    no_positives = torch.tensor([[[600, 400], [2, 1]], [[500, 500], [0, 3]]])
    assert gap_intervals(no_positives, noise=2.0)["equalized_odds_difference"][1] == 1
    assert gap_intervals(no_positives, noise=2.0)["demographic_parity_difference"][1] < 0.2
    exact = torch.tensor([[[600, 400], [0, 0]], [[500, 500], [0, 0]], [[0, 0], [0, 0]]])
    assert gap_intervals(exact, noise=0.0)["demographic_parity_difference"][1] < 0.2


@given(
    cells=st.lists(st.integers(-300, 3000), min_size=8, max_size=8),
    noise=st.floats(0.5, 100.0),
)
def test_whatever_the_noise_bounds_are_in_order_and_shares(cells, noise):
    confusion = torch.tensor(cells).reshape(2, 2, 2)
    found = {**rate_intervals(confusion, noise=noise), **gap_intervals(confusion, noise=noise)}
    for name, (low, high) in found.items():
        known = ~low.isnan()
        assert torch.equal(known, ~high.isnan()), name
        assert (low[known] >= 0).all() and (low[known] <= high[known]).all(), name
        assert (high[known] <= 1).all(), name
    accuracy = accuracy_score(confusion, noise=noise)
    low, high = found["accuracy"]
    known = ~accuracy.isnan()
    assert (low[known] <= accuracy[known]).all() and (accuracy[known] <= high[known]).all()


def test_a_rate_over_as_good_as_nobody_is_not_defined():
    confusion = torch.tensor([[10, 10], [10, 10]])
    just = 40 / (2 * TELLING)  # the sum of four counts has twice the deviation of one
    assert accuracy_score(confusion, noise=just) == 0.5
    assert accuracy_score(confusion, noise=just * 1.01).isnan()
    one_class = torch.tensor([[900, 100], [0, 0]])
    assert balanced_accuracy_score(one_class).item() == 0.9
    assert balanced_accuracy_score(one_class, noise=2.0).isnan()


def test_the_table_has_the_bounds_of_noised_counts_only():
    attributes = {"sex": ("Female", "Male"), "age": ("young", "old")}
    data = FederatedData(
        x=torch.zeros(0, 1),
        y=torch.zeros(0, dtype=torch.int64),
        group=torch.zeros(0, 2, dtype=torch.int64),
        bounds=torch.zeros(2, 4, dtype=torch.int64),
        clients=("a", "b"),
        classes=("no", "yes"),
        attributes=attributes,
        features=("nothing",),
        card=Card(name="made", title="Made up", source="this test", licence="none"),
    )
    confusion = torch.full((2, 4, 2, 2), 200)
    confusion[:, 0, :, 1] += 150
    exact = Counts(
        confusion=confusion,
        loss=torch.full((2,), torch.nan, dtype=torch.float64),
        histogram=torch.zeros(2, 2, 0, dtype=torch.int64),
    )
    noised = Counts(confusion=confusion, loss=exact.loss, histogram=exact.histogram, noise=3.0)

    def value(table, metric, *, scope, key):
        rows = table[(table.metric == metric) & (table.scope == scope) & (table.key == key)]
        return rows.value.item()

    place = {"data": data, "round": 1, "split": "test", "model": "global"}
    plain, table = metric_rows(exact, **place), metric_rows(noised, **place)
    assert not plain.metric.str.endswith(("_low", "_high")).any()
    for scope, key, metric, summed, cells in (  # clients times combinations in each count
        ("global", "", "accuracy", confusion.sum((0, 1)), 8),
        ("group", "sex=Female", "selection_rate", confusion[:, :2].sum((0, 1)), 4),
        ("group", "sex=Male, age=old", "true_positive_rate", confusion[:, 3].sum(0), 2),
    ):
        low, high = rate_intervals(summed, noise=3.0 * math.sqrt(cells))[metric]
        assert value(table, f"{metric}_low", scope=scope, key=key) == pytest.approx(low.item())
        assert value(table, f"{metric}_high", scope=scope, key=key) == pytest.approx(high.item())
        assert value(table, metric, scope=scope, key=key) == value(
            plain, metric, scope=scope, key=key
        )
    for scope, key in (("global", ""), ("group", "sex"), ("group", "age")):
        for metric in ("demographic_parity_difference", "equalized_odds_difference"):
            gap = value(table, metric, scope=scope, key=key)
            low = value(table, f"{metric}_low", scope=scope, key=key)
            assert low <= gap <= value(table, f"{metric}_high", scope=scope, key=key)
