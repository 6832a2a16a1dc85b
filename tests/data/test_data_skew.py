"""Measures of skew: by hand, against SciPy, by brute force, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from fedmodel.data.partition import iid
from fedmodel.data.partition_mix import continuous, dirichlet
from fedmodel.data.records import Assignment
from fedmodel.data.skew import gini, mix_distance, skew_of, value_distance


def test_label_distance_by_hand(make_records):
    label = pd.Series(["a"] * 6 + ["b"] * 2 + ["c"] * 2)
    records = make_records(10, features=pd.DataFrame({"x": range(10)}), label=label)
    client = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    skew = skew_of(records, Assignment(client=client, names=("p", "q")), seed=0)
    assert skew.sizes.tolist() == [5, 5]
    assert skew.classes.tolist() == [[5, 0, 0], [1, 2, 2]]
    # Pooled .6 .2 .2; p has 1 0 0 and q has .2 .4 .4.
    np.testing.assert_allclose(skew.label, [0.4, 0.4])
    np.testing.assert_allclose(skew.features["x"], [0.5, 0.5])  # p has the lower half


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_mix_distance_is_half_the_sum_of_differences(pairs):
    client, level = np.array(pairs).T
    client = np.unique(client, return_inverse=True)[1]
    found = mix_distance(level, client, int(client.max()) + 1)
    pooled = np.bincount(level, minlength=4) / len(level)
    for k, distance in enumerate(found):
        own = np.bincount(level[client == k], minlength=4) / (client == k).sum()
        assert distance == pytest.approx(np.abs(own - pooled).sum() / 2)


VALUES = st.one_of(st.integers(-3, 3).map(float), st.just(float("nan")), st.floats(-1e9, 1e9))


@given(st.lists(st.tuples(st.integers(0, 4), VALUES), min_size=1, max_size=40))
def test_value_distance_is_scipys_statistic(pairs):
    client = np.unique([k for k, _ in pairs], return_inverse=True)[1]
    values = np.array([value for _, value in pairs])
    found = value_distance(values, client, int(client.max()) + 1)
    lowest = np.where(np.isnan(values), -1e300, values)
    for k, distance in enumerate(found):
        expected = ks_2samp(lowest[client == k], lowest, method="asymp").statistic
        assert distance == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_gini_is_half_the_relative_mean_difference(sizes):
    array = np.array(sizes)
    expected = np.abs(array[:, None] - array).mean() / (2 * array.mean())
    assert gini(array) == pytest.approx(expected, abs=1e-12)


def test_an_iid_partition_differs_as_much_as_chance_alone(make_records):
    records = make_records(4000)
    skew = skew_of(records, iid(records, clients=50, seed=1), seed=0)
    assert skew.label.mean() == pytest.approx(skew.by_chance["label"], rel=0.25)
    # Two classes: mean |share - p| of n of N records is sqrt(2 p (1 - p) / (pi n)), nearly.
    share = (records.label == "yes").mean()
    expected = np.sqrt(2 * share * (1 - share) / (np.pi * 80))
    assert skew.by_chance["label"] == pytest.approx(expected, rel=0.1)
    for name in ("age", "gain", "job"):
        chance = skew.by_chance[f"feature {name}"]
        assert skew.features[name].mean() == pytest.approx(chance, rel=0.25)


def test_the_skewed_part_is_the_one_that_is_found(make_records):
    records = make_records(4000)
    by_age = skew_of(
        records, continuous(records, column="age", clients=20, strictness=0.9, seed=0), seed=0
    )
    assert max(by_age.features, key=lambda name: by_age.features[name].mean()) == "age"
    by_sex = skew_of(records, dirichlet(records, clients=20, alpha=0.1, by="sex", seed=0), seed=0)
    assert by_sex.groups["sex"].mean() > 0.2 > 0.1 > by_sex.label.mean()


def test_texts_are_compared_by_their_length(make_records):
    text = pd.Series(["one"] * 30 + ["one two three"] * 30)
    records = make_records(60, features=None, text=text)
    halves = Assignment(client=np.arange(60) // 30, names=("short", "long"))
    skew = skew_of(records, halves, seed=0)
    np.testing.assert_allclose(skew.features["number of words"], [0.5, 0.5])
