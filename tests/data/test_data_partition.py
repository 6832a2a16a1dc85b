"""Partitions cover the records exactly, can be drawn again, and are Flower's."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from flwr_datasets import partitioner as flower
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.data.flower import assignment_by
from fedmodel.data.partition import iid, natural
from fedmodel.data.partition_mix import dirichlet
from fedmodel.errors import FedmodelError
from fedmodel.randomness import SERVER, stream


def flowers(partitioner, **columns) -> np.ndarray:
    """The client of each record, through Flower Datasets' ordinary data sets."""
    size = len(next(iter(columns.values())))
    partitioner.dataset = Dataset.from_dict({"row": list(range(size)), **columns})
    client = np.full(size, -1)
    with contextlib.redirect_stderr(io.StringIO()):
        for number in range(partitioner.num_partitions):
            client[partitioner.load_partition(number)["row"][:]] = number
    return client


def test_natural_clients_are_flowers(make_records):
    ids = list(np.random.default_rng(0).choice(["b", "a", "c"], 60))
    result = natural(make_records(60, clients=pd.Series(ids)))
    assert result.names == ("a", "b", "c")
    expected = flowers(flower.NaturalIdPartitioner("id"), id=ids)
    np.testing.assert_array_equal(result.client, expected)


def test_numeric_clients_are_in_order_of_size(make_records):
    assert natural(make_records(4, clients=pd.Series([10, 9, 9, 10]), label=pd.Series([0, 1, 0, 1]))).names == ("9", "10")  # fmt: skip


def test_clients_by_a_column(make_records):
    records = make_records(60)
    result = natural(records, column="job")
    assert result.names == ("clerk", "cook", "nurse", "unknown")
    names = np.array(result.names)[result.client]
    assert (names == records.features["job"].fillna("unknown")).all()
    assert natural(records, column="sex").names == ("f", "m")


def test_natural_without_clients_says_what_works(make_records):
    with pytest.raises(FedmodelError, match="does not say which client") as error:
        natural(make_records())
    assert "dirichlet" in error.value.fix and "job" in error.value.fix
    with pytest.raises(FedmodelError, match="no column 'jb'") as error:
        natural(make_records(), column="jb")
    assert "`job`" in error.value.fix
    with pytest.raises(FedmodelError, match="only client"):
        natural(make_records(60, clients=pd.Series(["one"] * 60)))


def test_texts_without_clients_can_be_dealt_out(make_records):
    records = make_records(60, features=None, text=pd.Series(["word"] * 60))
    with pytest.raises(FedmodelError, match="does not say which client"):
        natural(records)
    assert len(iid(records, clients=3, seed=0).names) == 3


@settings(max_examples=25, deadline=None)
@given(clients=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_iid_parts_are_equal_and_flowers(make_records, clients, seed):
    records = make_records(60)
    result = iid(records, clients=clients, seed=seed)
    sizes = np.bincount(result.client, minlength=clients)
    assert sizes.sum() == 60 and sizes.max() - sizes.min() <= 1
    order = stream(seed, SERVER, 0, "partition").permutation(60)
    expected = flowers(flower.IidPartitioner(clients), shuffled=order.tolist())
    np.testing.assert_array_equal(result.client[order], expected)


@settings(max_examples=40, deadline=None)
@given(
    clients=st.integers(1, 30),
    alpha=st.sampled_from([0.01, 0.1, 0.5, 5.0]),
    min_size=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_dirichlet_gives_everybody_enough_and_nothing_twice(
    make_records, clients, alpha, min_size, seed
):
    records = make_records(200)
    result = dirichlet(records, clients=clients, alpha=alpha, min_size=min_size, seed=seed)
    sizes = np.bincount(result.client, minlength=clients)
    assert len(sizes) == clients and sizes.sum() == 200 and sizes.min() >= min_size
    assert result.names == tuple(map(str, range(clients)))


def test_dirichlet_is_flowers_where_its_draw_leaves_nobody_short(make_records):
    records = make_records(400)
    result = dirichlet(records, clients=4, alpha=1.0, min_size=1, seed=3)
    seed = int(stream(3, SERVER, 0, "partition").integers(2**32))
    theirs = flower.DirichletPartitioner(4, "label", 1.0, min_partition_size=1, seed=seed)
    expected = flowers(theirs, label=records.label.cat.codes.tolist())
    np.testing.assert_array_equal(result.client, expected)


@pytest.mark.parametrize(
    "draw", [lambda r, s: iid(r, clients=7, seed=s), lambda r, s: dirichlet(r, clients=7, seed=s)]
)
def test_the_same_seed_draws_the_same_partition(make_records, draw):
    records = make_records(300)
    np.testing.assert_array_equal(draw(records, 5).client, draw(records, 5).client)
    assert (draw(records, 5).client != draw(records, 6).client).any()


def test_skew_grows_as_alpha_falls(make_records):
    records = make_records(2000)
    label = records.label.cat.codes.to_numpy()

    def distance(alpha: float) -> float:
        """Mean over clients of the distance to the pooled share of class 1."""
        client = dirichlet(records, clients=10, alpha=alpha, min_size=1, seed=1).client
        shares = np.bincount(client, weights=label) / np.bincount(client)
        return np.abs(shares - label.mean()).mean()

    few, some, many = (distance(alpha) for alpha in (0.1, 1.0, 100.0))
    assert few > some + 0.05 > many + 0.1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"clients": 0}, "0 clients"),
        ({"clients": 61}, "61 clients for the 60 records"),
        ({"clients": 5, "alpha": 0.0}, "alpha is 0"),
        ({"clients": 5, "min_size": 0}, "min_size is 0"),
        ({"clients": 7}, "too few for 7 clients of 10"),
    ],
)
def test_dirichlet_options_out_of_range(make_records, options, problem):
    with pytest.raises(FedmodelError, match=problem):
        dirichlet(make_records(60), seed=0, **options)


def test_the_suggested_minimum_works(make_records):
    records = make_records(60)
    with pytest.raises(FedmodelError) as error:
        dirichlet(records, clients=7, seed=0)
    assert "min_size = 8" in error.value.fix and "clients = 6" in error.value.fix
    assert dirichlet(records, clients=7, min_size=8, seed=0)
    assert dirichlet(records, clients=6, seed=0)


def test_more_iid_clients_than_records(make_records):
    with pytest.raises(FedmodelError, match="61 clients"):
        iid(make_records(60), clients=61, seed=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: flower.PathologicalPartitioner(4, "label", 1, seed=1),
        lambda: flower.LinearPartitioner(5),
        lambda: flower.NaturalIdPartitioner("sex"),
        lambda: flower.NaturalIdPartitioner("client"),
    ],
)
def test_any_partitioner_of_flower_works_unchanged(make_records, make):
    records = make_records(60, clients=pd.Series(["x", "y", "z"] * 20))
    partitioner = make()
    result = assignment_by(partitioner, records)
    np.testing.assert_array_equal(assignment_by(partitioner, records).client, result.client)
    expected = flowers(
        make(),
        label=records.label.cat.codes.tolist(),
        sex=records.sensitive["sex"].tolist(),
        client=records.clients.tolist(),
    )
    np.testing.assert_array_equal(result.client, expected)


def test_partitioners_that_do_not_partition(make_records):
    records = make_records(60)
    with pytest.raises(FedmodelError, match="cannot be divided") as error:
        assignment_by(flower.NaturalIdPartitioner("jb"), records)
    assert "job" in error.value.fix
    with pytest.raises(FedmodelError, match="the partitioner returned object"):
        assignment_by(object(), records)
    with pytest.raises(FedmodelError, match="20 records are at no client"):
        assignment_by(flower.SizePartitioner([30, 10]), records)


def test_nothing_is_written_and_nobody_is_called(make_records, capfd, monkeypatch):
    def no_network(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", no_network)
    records = make_records(300, clients=pd.Series(["a", "b", "c"] * 100))
    dirichlet(records, clients=20, alpha=0.1, seed=0)
    assignment_by(flower.NaturalIdPartitioner("client"), records)
    assert capfd.readouterr() == ("", "")
