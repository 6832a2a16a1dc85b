"""Quantiles from counts: the exact one of the pooled values always lies within the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.data.histogram import GRID, MOST_BINS, coarse, places, quantile

NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.integers(-20, 20).map(float), st.floats(-1e300, 1e300))
CLIENTS = st.lists(st.lists(NUMBERS, min_size=5, max_size=40), min_size=1, max_size=4)


@given(CLIENTS, st.floats(0.01, 1.0), st.integers(1, 5))
def test_the_exact_quantile_lies_within_the_limits(clients, share, minimum):
    told = [coarse(places(np.array(values)), minimum=minimum) for values in clients]
    low, high = quantile(told, share)
    exact = np.quantile(np.concatenate(clients), share, method="inverted_cdf")
    assert low <= exact < high


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.integers(1, 9))
def test_a_bin_holds_the_minimum_or_all(values, minimum):
    counts = coarse(places(np.array(values)), minimum=minimum).counts
    assert counts.sum() == len(values)
    assert counts.min() >= min(minimum, len(values))


@given(st.lists(NUMBERS, min_size=2, max_size=60))
def test_parts_of_a_file_add_up(values):
    whole = places(np.array(values))
    first, rest = places(np.array(values[:1])), places(np.array(values[1:]))
    assert whole == {k: first.get(k, 0) + rest.get(k, 0) for k in {*first, *rest}}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_quartiles_of_many_values_are_told_within_one_percent(scale):
    draw = np.random.default_rng(0)
    told = [coarse(places(scale * draw.normal(100, 15, 20_000)), minimum=5) for _ in range(3)]
    assert all(len(histogram.counts) <= MOST_BINS for histogram in told)
    for share in (0.25, 0.5, 0.75):
        low, high = quantile(told, share)
        assert high - low < 0.011 * high


def test_no_edge_tells_more_than_three_digits():
    assert (np.diff(GRID) > 0).all()
    assert all(float(f"{edge:.3g}") == pytest.approx(edge, rel=1e-12) for edge in GRID[::97])


def test_nothing_told_means_no_limits():
    assert quantile([], 0.5) == (-np.inf, np.inf)
    assert quantile([coarse(places(np.ones(4)), minimum=5)], 0.5) == (-np.inf, np.inf)
