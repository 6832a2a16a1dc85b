"""The federation holds every record once, at its client, in its split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from flwr_datasets.partitioner import LinearPartitioner

from fedmodel.data.describe import partition_table, summary_of
from fedmodel.data.federate import federate
from fedmodel.data.financial import adult
from fedmodel.data.partition import iid, natural
from fedmodel.data.partition_mix import dirichlet
from fedmodel.data.records import Assignment
from fedmodel.errors import FedmodelError
from fedmodel.types import SPLITS


@pytest.fixture
def numbered(make_records):
    """Records with their number as the one feature, so that each can be found again."""
    return make_records(97, features=pd.DataFrame({"number": range(97)}))


@pytest.fixture
def data(numbered):
    assignment = iid(numbered, clients=5, seed=1)
    return federate(numbered, assignment, encode="none", test=0.3, validation=0.2, seed=1)


def test_every_record_is_there_once_with_its_label_and_group(numbered, data):
    number = data.x[:, 0].long()
    assert sorted(number.tolist()) == list(range(97))
    assert data.y.tolist() == numbered.label.cat.codes[number.numpy()].tolist()
    assert data.group[:, 0].tolist() == numbered.sensitive["sex"].cat.codes[number.numpy()].tolist()
    assert data.x.dtype == torch.float32 and data.y.dtype == data.group.dtype == torch.int64
    assert (data.classes, data.attributes) == (("no", "yes"), {"sex": ("f", "m")})
    assert (data.features, data.vocabulary, data.outside) == (("number",), 0, ())


def test_rows_lie_by_client_and_split_in_their_order(numbered, data):
    assignment = iid(numbered, clients=5, seed=1)
    number = data.x[:, 0].long().numpy()
    end = 0
    for client in range(5):
        for part in SPLITS:
            rows = data.rows(client, part)
            assert rows.start == end and rows.stop > rows.start
            assert (assignment.client[number[rows]] == client).all()
            assert (np.diff(number[rows]) > 0).all()
            end = rows.stop
    assert end == 97
    assert data.sizes("test").sum() == pytest.approx(0.3 * 97, abs=3)


def test_the_scale_comes_from_training_rows_alone(make_records, deal):
    records = make_records(60)
    data = federate(records, deal(records, 4), seed=2)
    train = torch.cat([data.x[data.rows(k, "train")] for k in range(4)])
    age = data.features.index("age")
    assert train[:, age].mean().item() == pytest.approx(0, abs=1e-6)
    assert train[:, age].std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert len(data.outside) == 3


def test_the_same_seed_gives_the_same_federation(make_records, deal):
    records = make_records(60)
    first, again, other = (federate(records, deal(records, 4), seed=s) for s in (3, 3, 4))
    assert torch.equal(first.x, again.x) and torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x)


def test_a_split_column_of_natural_clients(make_records):
    split = pd.Series(["train", "train", "test"] * 20)
    clients = pd.Series(["b"] * 30 + ["a"] * 30)
    records = make_records(60, split=split, clients=clients)
    data = federate(records, natural(records), seed=0)
    assert data.clients == ("a", "b")
    assert data.bounds.tolist() == [[0, 20, 20, 30], [30, 50, 50, 60]]


def test_texts_are_hashed_and_inside(make_records, deal):
    texts = pd.Series(["good day", "bad"] * 30)
    records = make_records(60, features=None, text=texts, max_tokens=3, buckets=20)
    data = federate(records, deal(records, 2), seed=0)
    assert data.x.dtype == torch.int64 and data.x.shape == (60, 3)
    assert (data.vocabulary, data.features, data.outside) == (20, (), ())
    assert set(map(tuple, data.encoder.transform(texts).tolist())) == set(
        map(tuple, data.x.tolist())
    )
    with pytest.raises(FedmodelError, match="no effect on texts"):
        federate(records, deal(records, 2), ranges={"text": [0, 1]}, seed=0)


def test_the_encoder_of_the_federation_reads_further_records(make_records, deal):
    records = make_records(60)
    data = federate(records, deal(records, 2), seed=0)
    rows = {tuple(row) for row in data.encoder.transform(records.features).tolist()}
    assert rows == {tuple(row) for row in data.x.tolist()}


def test_a_partitioner_of_flower_in_place_of_an_assignment(make_records):
    data = federate(make_records(60), LinearPartitioner(4), seed=0)
    assert (data.bounds[:, 3] - data.bounds[:, 0]).tolist() == [6, 12, 18, 24]


@pytest.mark.parametrize(
    ("client", "names", "problem"),
    [
        ([0, 1], ("a", "b"), "2 records of 60|\\(2,\\) records of 60"),
        ([0, 2] * 30, ("a", "b"), "2 names, and client numbers 0 to 2"),
        ([0, 1] * 30, ("a", "a"), "same name"),
        ([0, 1] * 30, ("a", "b", "c"), "1 of 3 clients without"),
    ],
)
def test_partitions_that_do_not_fit_are_refused(make_records, client, names, problem):
    with pytest.raises(FedmodelError, match=problem):
        federate(make_records(60), Assignment(client=np.array(client), names=names), seed=0)


def test_the_partition_table_counts_every_record(make_records, deal):
    records = make_records(60)
    data = federate(records, deal(records, 4), validation=0.2, seed=0)
    table = partition_table(data)
    assert list(table.columns) == ["client", "split", "class", "sex", "count"]
    assert table["count"].sum() == 60 and (table["count"] > 0).all()
    for row in table.itertuples():
        rows = data.rows(data.clients.index(row.client), row.split)
        expected = (data.y[rows] == data.classes.index(row[3])) & (
            data.group[rows, 0] == data.attributes["sex"].index(row.sex)
        )
        assert row.count == expected.sum()


def test_attributes_that_have_the_name_of_a_column_of_the_table(make_records, deal):
    sensitive = pd.DataFrame({"split": ["x", "y"] * 30})
    records = make_records(60, sensitive=sensitive)
    table = partition_table(federate(records, deal(records, 2), seed=0))
    assert set(table["split"]) == {"train", "test"} and set(table["sensitive split"]) == {"x", "y"}


def test_two_hundred_clients_of_adult():
    records = adult()
    data = federate(records, dirichlet(records, clients=200, alpha=0.3, seed=7), seed=7)
    assert data.num_clients == 200 and len(data.y) == 32_561
    assert (data.sizes("train") >= 1).all()


def test_a_summary_counts_what_the_records_hold(make_records):
    records = make_records(70, clients=pd.Series(["b", "a"] * 35))
    lines = summary_of(records)
    assert lines["records"] == "70"
    yes = int((records.label == "yes").sum())
    assert f"yes {yes} ({yes / 70:.1%})" in lines["classes"]
    assert lines["features"] == "3: age, gain, job"
    assert lines["missing"] == "in 2 features: gain 14.3%, job 14.3%"
    women = int((records.sensitive["sex"] == "f").sum())
    assert lines["by sex"].startswith(f"f {women} (")
    assert lines["clients"].startswith("2, of 35 to 35 records, median 35:")
    assert "median" not in summary_of(make_records())["clients"]
