"""Intervals over seeds and of differences, against scipy and a paper's worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.evaluation.repeated import newcombe, paired, t_interval, welch

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=8).map(np.array)


@given(VALUES)
def test_the_t_interval_is_scipys(values):
    found = t_interval(values)
    if values.std() > 1e-9:
        expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert found[1:] == pytest.approx((expected.low, expected.high), abs=1e-7)
    assert found.value == pytest.approx(values.mean(), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).map(np.array))
def test_an_interval_of_shares_is_what_of_the_whole_one_lies_in_the_shares(values):
    """So it misses no truth that the whole one holds."""
    cut, whole = t_interval(values, limits=(0.0, 1.0)), t_interval(values)
    assert cut.value == whole.value
    assert (cut.low, cut.high) == (max(whole.low, 0.0), min(whole.high, 1.0))
    assert cut.low - 1e-9 <= cut.value <= cut.high + 1e-9


def test_a_difference_of_shares_lies_between_minus_one_and_one():
    first, second = np.array([0.0, 0.4]), np.array([0.9, 0.5])
    assert paired(first, second).high > 1
    assert paired(first, second, limits=(0.0, 1.0))[1:] == (-1.0, 1.0)
    assert welch(second, first, limits=(0.0, 1.0)).low == -1.0
    assert welch(first, second, limits=(0.0, math.inf)) == welch(first, second)


def test_one_value_has_no_interval():
    found = t_interval(np.array([0.8]))
    assert found.value == 0.8
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_paired_and_welch_are_scipys():
    draw = np.random.default_rng(0)
    first, second, more = draw.normal(size=6), draw.normal(1, 2, size=6), draw.normal(size=9)
    expected = scipy.stats.ttest_rel(second, first).confidence_interval(0.95)
    assert paired(first, second)[1:] == pytest.approx((expected.low, expected.high))
    expected = scipy.stats.ttest_ind(more, second, equal_var=False).confidence_interval(0.95)
    assert welch(second, more)[1:] == pytest.approx((expected.low, expected.high))


def test_pairing_helps_where_seeds_move_both_runs():
    easy = np.array([0.70, 0.80, 0.90])
    narrow, wide = paired(easy, easy + np.array([0.01, 0.02, 0.015])), welch(easy, easy + 0.015)
    assert narrow.high - narrow.low < 0.1 * (wide.high - wide.low)


@pytest.mark.parametrize(
    ("first", "of", "second", "of_second", "low", "high"),
    [  # Newcombe 1998, Table II, method 10
        (48, 80, 56, 70, 0.0524, 0.3339),
        (3, 10, 9, 10, 0.1705, 0.8090),
        (2, 7, 6, 7, 0.0582, 0.8062),
        (0, 29, 5, 56, -0.0381, 0.1926),
        (0, 20, 0, 10, -0.1611, 0.2775),
        (0, 20, 10, 10, 0.6791, 1.0),
    ],
)
def test_the_papers_worked_examples(first, of, second, of_second, low, high):
    found = newcombe(first / of, second / of_second, first_of=of, second_of=of_second)
    assert found[1:] == pytest.approx((low, high), abs=6e-5)


def test_a_share_of_all_or_none_has_an_interval():
    found = newcombe(0.0, 1.0, first_of=20, second_of=20)
    assert found.high == 1.0
    assert 0.7 < found.low < 0.9
