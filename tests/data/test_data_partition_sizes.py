"""Partitioners by quantity, and groups of natural clients: sizes by formula, settings that work."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from flwr_datasets import partitioner as flower

from fedmodel.data.federate import federate
from fedmodel.data.flower import partition_rows
from fedmodel.data.partition import grouped_natural, iid
from fedmodel.data.partition_mix import inner_dirichlet, shard
from fedmodel.data.partition_sizes import exponential, linear, size, square
from fedmodel.data.records import Records
from fedmodel.errors import FedmodelError
from fedmodel.types import Card

LAWS = {linear: lambda n: n, square: lambda n: n**2, exponential: np.exp}


@pytest.mark.parametrize("law", LAWS)
def test_sizes_follow_the_law(make_records, law):
    records = make_records(5000)
    result = law(records, clients=6, seed=2)
    units = LAWS[law](np.arange(1.0, 7.0))
    exact = 5000 * units / units.sum()
    found = np.bincount(result.client)
    assert (np.abs(found - exact) < 6).all()  # rounded down; the largest has what is left
    label = records.label.cat.codes.to_numpy()
    assert (
        np.abs(np.bincount(result.client, weights=label)[3:] / found[3:] - label.mean()).max() < 0.1
    )


def test_sizes_are_those_that_were_given(make_records):
    result = size(make_records(60), sizes=[10, 30, 20], seed=0)
    assert np.bincount(result.client).tolist() == [10, 30, 20]
    assert (result.client != size(make_records(60), sizes=[10, 30, 20], seed=1).client).any()


@pytest.mark.parametrize("sizes", [[1, 2], [100, 200, 300], [1] * 59, [59] + [1] * 30, [5] * 30])
def test_sizes_that_do_not_add_up_and_what_does(make_records, sizes):
    with pytest.raises(FedmodelError, match="add up to") as error:
        size(make_records(60), sizes=sizes, seed=0)
    if last := re.search(r"last of them (\d+)", error.value.fix):
        meant = [*sizes[:-1], int(last[1])]
    elif listed := re.search(r"sizes = \[(.*)\]", error.value.fix):
        meant = list(map(int, listed[1].split(",")))
    else:
        assert "must add up to 60" in error.value.fix
        return
    assert size(make_records(60), sizes=meant, seed=0)


@pytest.mark.parametrize("sizes", [[], [60, 0]])
def test_sizes_that_are_none(make_records, sizes):
    with pytest.raises(FedmodelError) as error:
        size(make_records(60), sizes=sizes, seed=0)
    assert "[30, 30]" in error.value.fix


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("min_size", [1, 5])
def test_the_settings_that_an_error_names_work(make_records, law, min_size):
    records = make_records(400)
    with pytest.raises(FedmodelError) as error:
        law(records, clients=30, min_size=min_size, seed=0)
    ways = dict(re.findall(r"(\w+) = (\d+)", error.value.fix))
    assert "clients" in ways
    for option, value in ways.items():
        options = {"clients": 30, "min_size": min_size, option: int(value)}
        sizes = np.bincount(law(records, **options, seed=0).client)
        assert len(sizes) == options["clients"] and sizes.min() >= options["min_size"]
    with pytest.raises(FedmodelError):  # and no more clients do
        law(records, clients=int(ways["clients"]) + 1, min_size=min_size, seed=0)


def test_groups_of_natural_clients_are_flowers(make_records):
    ids = pd.Series([f"c{k % 7}" for k in range(70)])
    records = make_records(70, clients=ids)
    result = grouped_natural(records, group_size=3)
    assert result.names == ("c0 to c2", "c3 to c5", "c6")
    theirs = flower.GroupedNaturalIdPartitioner("id", 3, sort_unique_ids=True)
    rows = partition_rows(theirs, pd.DataFrame({"id": ids}))
    for number, group in enumerate(rows):
        assert (result.client[group] == number).all()
    bigger = grouped_natural(records, group_size=3, mode="allow-bigger")
    assert bigger.names == ("c0 to c3", "c4 to c6")


@pytest.mark.parametrize(
    "options",
    [
        {"group_size": 4},
        {"group_size": 2, "mode": "strict"},
        {"group_size": 1, "min_size": 25},
        {"group_size": 1, "min_size": 11},
    ],
)
def test_groups_that_do_not_fit_and_what_does(make_records, options):
    records = make_records(70, clients=pd.Series([f"c{k % 7}" for k in range(70)]))
    with pytest.raises(FedmodelError) as error:
        grouped_natural(records, **options)
    for option, value in re.findall(r"(\w+) = (\d+)", error.value.fix):
        assert grouped_natural(records, **{**options, option: int(value)})


@pytest.fixture(scope="module")
def population():
    """A million generated records: 20 features of 8 bytes."""
    draw = np.random.default_rng(0)
    number = 1_000_000
    return Records(
        card=Card(name="population", title="Generated", source="tests", licence="none"),
        label=pd.Series(draw.integers(0, 2, number)),
        features=pd.DataFrame(draw.standard_normal((number, 20))).add_prefix("x"),
        sensitive=pd.DataFrame({"sex": pd.Categorical.from_codes(draw.integers(0, 2, number), ["f", "m"])}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "options"),
    [
        (iid, {"clients": 100_000}),
        (shard, {"clients": 10_000}),
        (inner_dirichlet, {"clients": 10_000, "by": "sex"}),
    ],
)
def test_a_million_records_are_dealt_out_without_a_copy(population, draw, options):
    features = population.features.to_numpy()
    tracemalloc.start()
    result = draw(population, **options, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result.names) == options["clients"]
    assert len(np.unique(result.client)) == options["clients"]
    assert result.client.nbytes == 8_000_000
    assert peak < features.nbytes  # 160 MB


def test_a_clients_records_are_a_slice_of_one_tensor(population):
    dealt = shard(population, clients=10_000, seed=0)
    data = federate(population, dealt, encode="none", seed=0)
    whole = data.x.numpy()
    for client in (0, 1, 9_999):
        rows = data.rows(client, "train")
        assert np.shares_memory(data.x[rows].numpy(), whole)
        assert rows.stop - rows.start == round(0.8 * (dealt.client == client).sum())
