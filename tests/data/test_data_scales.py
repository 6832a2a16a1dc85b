"""Scales from noised sums: exact without noise, bounded in what a record moves, public where drowned."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from fedmodel.data.encode import fit_encoder
from fedmodel.data.scales import noised_scales
from fedmodel.errors import FedmodelError

LIMITS = {"a": (0.0, 10.0), "b": (-4.0, 4.0)}


class Kept:
    """Adds noise of one size, and keeps what it was given."""

    def __init__(self, deviation: float = 0.0) -> None:
        self.deviation, self.rng = deviation, np.random.default_rng(0)

    def __call__(self, sums, *, sensitivity):
        self.sums, self.sensitivity = sums, sensitivity
        return sums + self.rng.normal(0, self.deviation, sums.shape), self.deviation


def scales(features, client, release, num_clients=3):
    return noised_scales(features, client, LIMITS, num_clients=num_clients, release=release)


def test_without_noise_it_is_scikit_learns_scaling():
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"a": rng.uniform(1, 9, 200), "b": rng.normal(0, 1, 200).clip(-4, 4)})
    features.loc[::7, "b"] = np.nan
    numbers, drowned = scales(features, rng.integers(0, 3, 200), Kept())
    expected = StandardScaler().fit(features)
    assert [number.shift[0] for number in numbers] == pytest.approx(expected.mean_)
    assert [number.scale[0] for number in numbers] == pytest.approx(expected.scale_)
    assert drowned == []


values = st.one_of(st.just(float("nan")), st.floats(-1e3, 1e3))


@settings(max_examples=200, deadline=None)
@given(a=values, b=values)
def test_no_record_moves_the_sums_by_more_than_the_sensitivity(a, b):
    few = pd.DataFrame({"a": [1.0, 5.0], "b": [0.0, 2.0]})
    more = pd.concat([few, pd.DataFrame({"a": [a], "b": [b]})], ignore_index=True)
    without, with_it = Kept(), Kept()
    scales(few, np.array([0, 1]), without)
    scales(more, np.array([0, 1, 1]), with_it)
    moved = np.linalg.norm(with_it.sums - without.sums, axis=1)
    assert moved[[0, 2]].max() == 0
    assert moved[1] <= with_it.sensitivity + 1e-12
    assert with_it.sensitivity == pytest.approx(np.sqrt(5 * 2) / 2)


def test_the_bound_is_reached():
    few, most = pd.DataFrame({"a": [], "b": []}), pd.DataFrame({"a": [10.0], "b": [-4.0]})
    without, with_it = Kept(), Kept()
    scales(few, np.array([], dtype=int), without)
    scales(most, np.array([0]), with_it)
    moved = np.linalg.norm(with_it.sums - without.sums)
    assert moved == pytest.approx(with_it.sensitivity)


def test_where_noise_drowns_the_spread_limits_stay_public():
    features = pd.DataFrame({"a": np.linspace(4, 6, 60), "b": np.linspace(-4, 4, 60)})
    numbers, drowned = scales(features, np.arange(60) % 3, Kept(1e3))
    assert drowned == ["a", "b"]
    assert [(n.shift[0], n.scale[0]) for n in numbers] == [(5.0, 5.0), (0.0, 4.0)]
    assert scales(features, np.arange(60) % 3, Kept(0.1))[1] == []


def test_small_noise_moves_the_scale_a_little_and_more_records_less():
    def miss(n):
        rng = np.random.default_rng(2)
        features = pd.DataFrame({"a": rng.uniform(0, 10, n), "b": rng.uniform(-4, 4, n)})
        errors = []
        for _ in range(30):
            release = Kept(5.0)
            release.rng = rng
            numbers, _ = scales(features, np.arange(n) % 3, release)
            errors.append(abs(numbers[0].shift[0] - features["a"].mean()))
        return np.mean(errors)

    assert miss(20_000) < miss(500) / 10


def test_held_out_records_and_text_are_not_told(make_records, deal):
    records = make_records(60)
    ranges = {"age": [0, 100], "gain": [-100, 100], "job": ["clerk", "nurse"]}
    release = Kept()
    training = np.arange(60) % 4 > 0
    encoder, outside = fit_encoder(records, deal(records, 3), training=training, encode="private", ranges=ranges, release=release)  # fmt: skip
    assert outside == ()
    assert release.sums.shape == (3, 6)  # two numbers, three sums each
    mean = records.features["age"][training].clip(0, 100).mean()
    assert encoder.columns[0].shift[0] == pytest.approx(mean)
    assert encoder.names[:2] == ("age", "age is missing")


@pytest.mark.parametrize(
    ("features", "ranges", "problem"),
    [
        ({"a": [0.0, 1, 2, 3]}, {}, 'encode = "private" needs a public range of: a'),
        ({"a": [True, False] * 2}, {}, "finds no numeric column"),
    ],
)
def test_what_cannot_be_scaled_is_refused(make_records, deal, features, ranges, problem):
    records = make_records(4, features=pd.DataFrame(features), label=pd.Series([0, 1, 0, 1]))
    with pytest.raises(FedmodelError, match=problem) as error:
        fit_encoder(records, deal(records, 1), training=np.ones(4, bool), encode="private", ranges=ranges, release=Kept())  # fmt: skip
    assert error.value.fix
