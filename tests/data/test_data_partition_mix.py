"""Partitioners by label, group and value: against Flower's, by hand, and by what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from flwr_datasets import partitioner as flower
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.data.flower import assignment_by, partition_rows
from fedmodel.data.partition_mix import continuous, dirichlet, inner_dirichlet, pathological, shard
from fedmodel.errors import FedmodelError
from fedmodel.randomness import SERVER, stream


def counts_of(assignment, codes) -> np.ndarray:
    """Records by client and level."""
    table = np.zeros((len(assignment.names), codes.max() + 1), int)
    np.add.at(table, (assignment.client, codes), 1)
    return table


def distance(table: np.ndarray) -> float:
    """Mean over clients of the total variation to the pooled shares."""
    shares = table / table.sum(1, keepdims=True)
    return np.abs(shares - table.sum(0) / table.sum()).sum(1).mean() / 2


@pytest.fixture(scope="module")
def many(make_records):
    """Records of ten classes."""
    label = pd.Series(np.random.default_rng(1).choice(list("abcdefghij"), 3000))
    return make_records(3000, label=label)


@given(
    clients=st.integers(1, 60),
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_inner_dirichlet_gives_equal_sizes_whatever_alpha(make_records, clients, alpha, seed):
    result = inner_dirichlet(make_records(60), clients=clients, alpha=alpha, seed=seed)
    sizes = np.bincount(result.client, minlength=clients)
    assert sizes.sum() == 60 and sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_inner_dirichlet_is_as_uneven_as_flowers(many, alpha):
    codes = many.label.cat.codes.to_numpy()
    ours = [
        distance(counts_of(inner_dirichlet(many, clients=60, alpha=alpha, seed=s), codes))
        for s in range(6)
    ]
    theirs = []
    for seed in range(3):
        partitioner = flower.InnerDirichletPartitioner([50] * 60, "label", alpha, seed=seed)
        rows = partition_rows(partitioner, pd.DataFrame({"label": codes}))
        theirs.append(distance(np.array([np.bincount(codes[r], minlength=10) for r in rows])))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.08)


def test_shards_are_flowers_where_none_is_left_over(many):
    partitioner = flower.ShardPartitioner(30, "label", num_shards_per_partition=2, shuffle=False)
    partitioner._rng = stream(4, SERVER, 0, "partition")  # the generator that ours draws from
    theirs = assignment_by(partitioner, many)
    codes = many.label.cat.codes.to_numpy()
    ours = shard(many, clients=30, shards=2, seed=4)
    np.testing.assert_array_equal(counts_of(ours, codes), counts_of(theirs, codes))


@given(clients=st.integers(1, 20), shards=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_shards_cover_all_and_hold_few_classes(make_records, clients, shards, seed):
    records = make_records(60)
    result = shard(records, clients=clients, shards=shards, seed=seed)
    sizes = np.bincount(result.client, minlength=clients)
    assert sizes.sum() == 60 and sizes.max() - sizes.min() <= shards
    held = (counts_of(result, records.label.cat.codes.to_numpy()) > 0).sum(1)
    assert (held <= shards + 1).all()  # one shard at most spans the border of two classes


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_pathological_clients_have_so_many_classes(many, classes):
    result = pathological(many, clients=25, classes=classes, seed=0)
    table = counts_of(result, many.label.cat.codes.to_numpy())
    assert ((table > 0).sum(1) == classes).all()
    assert table.sum() == 3000
    for column in table.T:  # each class is divided equally among those that have it
        held = column[column > 0]
        assert held.max() - held.min() <= 1


def test_fewer_clients_than_classes_still_hold_all_records(many):
    result = pathological(many, clients=4, classes=7, seed=0)
    assert np.bincount(result.client).sum() == 3000
    with pytest.raises(FedmodelError, match="to nobody") as error:
        pathological(many, clients=4, classes=6, seed=0)
    assert error.value.fix == "Choose classes = 7 or clients = 10."
    assert pathological(many, clients=10, classes=6, seed=0)


def test_each_group_has_clients_of_its_own(make_records):
    records = make_records(400)
    result = pathological(records, clients=6, by="sex", seed=0)
    table = counts_of(result, records.sensitive["sex"].cat.codes.to_numpy())
    assert ((table > 0).sum(1) == 1).all() and (table > 0).any(0).all()


@pytest.mark.parametrize("draw", [dirichlet, inner_dirichlet])
def test_the_mix_of_a_group_is_skewed_and_the_labels_are_not(make_records, draw):
    records = make_records(4000)
    result = draw(records, clients=20, alpha=0.2, by="sex", seed=3)
    by_group = counts_of(result, records.sensitive["sex"].cat.codes.to_numpy())
    by_label = counts_of(result, records.label.cat.codes.to_numpy())
    assert distance(by_group) > 0.2 > 0.1 > distance(by_label)


def test_a_group_may_be_another_column_and_missing_values_are_a_level(make_records):
    records = make_records(400)
    result = pathological(records, clients=4, by="job", seed=0)
    job = records.features["job"].fillna("?").to_numpy()
    assert [len(set(job[result.client == k])) for k in range(4)] == [1, 1, 1, 1]


def test_continuous_sorts_as_strictly_as_asked(make_records):
    records = make_records(2000)
    age = records.features["age"].to_numpy()

    def spread(strictness: float) -> float:
        result = continuous(records, column="age", clients=10, strictness=strictness, seed=0)
        means = np.bincount(result.client, weights=age) / np.bincount(result.client)
        return float(means.std())

    expected = np.mean([part.mean() for part in np.array_split(np.sort(age), 10)][-1:])
    strict = continuous(records, column="age", clients=10, strictness=1.0, seed=0)
    assert age[strict.client == 9].mean() == pytest.approx(expected)
    assert spread(0.0) < 2 < spread(0.5) < spread(1.0)


def test_the_settings_that_an_error_names_work(many):
    with pytest.raises(FedmodelError, match="the smallest of 100 clients") as error:
        pathological(many, clients=100, min_size=100, seed=0)
    size, clients = map(int, (word.strip(".") for word in error.value.fix.split()[3::4]))
    for options in ({"clients": 100, "min_size": size}, {"clients": clients, "min_size": 100}):
        result = pathological(many, **options, seed=0)
        assert np.bincount(result.client).min() >= options["min_size"]


def test_a_class_too_rare_for_so_many_clients(make_records):
    label = pd.Series(["rare"] * 3 + ["common"] * 57)
    with pytest.raises(FedmodelError, match="40 clients are too many") as error:
        pathological(make_records(60, label=label), clients=40, seed=0)
    assert error.value.fix == "Choose clients = 7."
    assert pathological(make_records(60, label=label), clients=7, seed=0)


@pytest.mark.parametrize(
    ("draw", "options", "problem", "fix"),
    [
        (dirichlet, {"by": "sx"}, "no column 'sx'", "`sex`"),
        (dirichlet, {"by": "gain"}, "too many for a mix", "continuous"),
        (inner_dirichlet, {"alpha": 0.0}, "alpha is 0", "alpha > 0"),
        (inner_dirichlet, {"clients": 401}, "401 clients", "<= 400"),
        (pathological, {"classes": 3}, "3 classes of 2", "<= 2"),
        (shard, {"shards": 80}, "need 480 shards", "<= 66, or clients = 5"),
        (continuous, {"column": "gain"}, "lacks values", "age"),
        (continuous, {"column": "ag"}, "cannot be sorted", "`age`"),
        (continuous, {"column": "age", "strictness": 2.0}, "strictness", "<= 1"),
    ],
)
def test_options_out_of_range(make_records, draw, options, problem, fix):
    with pytest.raises(FedmodelError, match=problem) as error:
        draw(make_records(400), **{"clients": 6, **options}, seed=0)
    assert fix in error.value.fix
    assert error.value.where.startswith("[partition]")
