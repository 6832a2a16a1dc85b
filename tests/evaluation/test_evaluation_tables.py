from __future__ import annotations

import math
import warnings
from dataclasses import replace

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from fedmodel.errors import FedmodelError
from fedmodel.evaluation.counts import count
from fedmodel.evaluation.fairness import demographic_parity_difference
from fedmodel.evaluation.tables import metric_rows
from fedmodel.types import Card, Counts, FederatedData

CARD = Card(name="made", title="Made up", source="this test", licence="none")
SEX, RACE = ("Female", "Male"), ("Black", "White", "Other")


def federation(client, y, group, attributes, num_clients, classes=("no", "yes")) -> FederatedData:
    """Data of which evaluation needs the description alone: rows are named by `client`."""
    return FederatedData(
        x=torch.zeros(len(y), 1),
        y=torch.as_tensor(y, dtype=torch.int64),
        group=torch.as_tensor(group).reshape(len(y), len(attributes)),
        bounds=torch.zeros(num_clients, 4, dtype=torch.int64),
        clients=tuple(f"site-{k}" for k in range(num_clients)),
        classes=classes,
        attributes=attributes,
        features=("nothing",),
        card=CARD,
    )


def table_of(data: FederatedData, logits, client, **options) -> pd.DataFrame:
    counts = count(
        torch.as_tensor(logits, dtype=torch.float64),
        data.y,
        data.cell(),
        torch.as_tensor(client),
        num_clients=data.num_clients,
        num_groups=data.num_groups,
    )
    return metric_rows(counts, data=data, round=2, split="test", model="global", **options)


def value(table: pd.DataFrame, metric: str, *, scope: str = "global", key: str = "") -> float:
    found = table[(table.metric == metric) & (table.scope == scope) & (table.key == key)]
    assert len(found) == 1, f"{len(found)} rows of {metric} {scope} {key}"
    return found.value.item()


def near(expected: float):
    return pytest.approx(expected, abs=1e-9, nan_ok=True)


@st.composite
def two_attributes(draw, num_clients: int = 4):
    """A federation with two attributes, scores and owners; clients and groups may be empty."""
    one = st.tuples(
        st.integers(0, num_clients - 1),
        st.integers(0, 1),
        st.integers(0, len(SEX) - 1),
        st.integers(0, len(RACE) - 1),
        st.sampled_from([-3.0, -0.5, 0.0, 0.25, 2.0]) | st.floats(-20, 20),
    )
    sample = draw(st.lists(one, min_size=1, max_size=40)) * 2  # fairlearn cannot take one record
    client, y, sex, race, score = map(np.array, zip(*sample))
    group = np.stack([sex, race], 1)
    data = federation(client, y, group, {"sex": SEX, "race": RACE}, num_clients)
    return data, client, score


def logits_of(score) -> np.ndarray:
    return np.stack([np.zeros_like(score), score], 1)


@settings(max_examples=25, deadline=None)
@given(two_attributes())
def test_pooled_rows_are_what_scikit_learn_and_fairlearn_say_of_pooled_records(sample):
    data, client, score = sample
    true, predicted = data.y.numpy(), (score > 0).astype(int)
    table = table_of(data, logits_of(score), client)
    assert value(table, "num_records") == len(true)
    assert value(table, "accuracy") == near(sklearn.metrics.accuracy_score(true, predicted))
    probability = torch.tensor(logits_of(score)).softmax(1).numpy()
    assert value(table, "loss") == near(sklearn.metrics.log_loss(true, probability, labels=[0, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without records
        assert value(table, "balanced_accuracy") == near(
            sklearn.metrics.balanced_accuracy_score(true, predicted)
        )
    if 0 < true.sum() < len(true):
        exact = sklearn.metrics.roc_auc_score(true, expit(score))
        bound = value(table, "roc_auc_bound") + 1e-12
        assert value(table, "roc_auc") == pytest.approx(exact, abs=bound)
    frame = pd.DataFrame({"sex": data.group[:, 0], "race": data.group[:, 1]})
    for name in ("demographic_parity_difference", "demographic_parity_ratio"):
        metric = getattr(fairlearn.metrics, name)
        assert value(table, name) == near(metric(true, predicted, sensitive_features=frame))
        for attribute in data.attributes:
            theirs = metric(true, predicted, sensitive_features=frame[attribute])
            assert value(table, name, scope="group", key=attribute) == near(theirs)
    by_group = fairlearn.metrics.MetricFrame(
        metrics={
            "accuracy": sklearn.metrics.accuracy_score,
            "selection_rate": fairlearn.metrics.selection_rate,
            "num_records": fairlearn.metrics.count,
        },
        y_true=true,
        y_pred=predicted,
        sensitive_features=frame,
    )
    assert value(table, "accuracy_difference") == near(by_group.difference()["accuracy"])
    for (sex, race), expected in by_group.by_group.dropna().iterrows():
        key = f"sex={SEX[sex]}, race={RACE[race]}"
        for metric, theirs in expected.items():
            assert value(table, metric, scope="group", key=key) == near(theirs)


@settings(max_examples=15, deadline=None)
@given(two_attributes())
def test_equalized_odds_is_fairlearns_where_all_groups_have_both_labels(sample):
    data, client, score = sample
    cells = sorted(set(data.cell().tolist()))  # one positive and one negative more for each
    more = torch.tensor([[c // len(RACE), c % len(RACE)] for c in cells for _ in range(2)])
    data = replace(
        data,
        y=torch.cat([data.y, torch.tensor([0, 1] * len(cells))]),
        group=torch.cat([data.group, more]),
    )
    client = np.concatenate([client, np.zeros(len(more), dtype=int)])
    score = np.concatenate([score, np.full(len(more), 1.0)])
    true, predicted = data.y.numpy(), (score > 0).astype(int)
    table = table_of(data, logits_of(score), client)
    frame = pd.DataFrame({"sex": data.group[:, 0], "race": data.group[:, 1]})
    for name in ("equalized_odds_difference", "equalized_odds_ratio"):
        metric = getattr(fairlearn.metrics, name)
        assert value(table, name) == near(metric(true, predicted, sensitive_features=frame))
        for attribute in data.attributes:
            theirs = metric(true, predicted, sensitive_features=frame[attribute])
            assert value(table, name, scope="group", key=attribute) == near(theirs)
    for attribute, levels in data.attributes.items():
        for number in set(frame[attribute]):
            mine = frame[attribute] == number
            for name in ("true_positive_rate", "false_positive_rate"):
                theirs = getattr(fairlearn.metrics, name)(true[mine], predicted[mine])
                key = f"{attribute}={levels[number]}"
                assert value(table, name, scope="group", key=key) == near(theirs)


@settings(max_examples=15, deadline=None)
@given(two_attributes())
def test_a_clients_rows_are_its_own_records(sample):
    data, client, score = sample
    table = table_of(data, logits_of(score), client)
    for number, name in enumerate(data.clients):
        mine = client == number
        own = table[(table.scope == "client") & (table.key == name)]
        assert not own.value.isna().any()
        own = dict(zip(own.metric, own.value))
        assert own.pop("num_records") == mine.sum()
        if not mine.any():
            assert own == {}
            continue
        alone = replace(data, y=data.y[mine], group=data.group[mine], clients=("one",))
        pooled = table_of(alone, logits_of(score[mine]), client[mine] * 0)
        for metric, number in own.items():
            assert number == near(value(pooled, metric))
        compared = len(set(data.cell()[torch.as_tensor(mine)].tolist())) >= 2
        assert ("demographic_parity_difference" in own) == compared


@settings(max_examples=15, deadline=None)
@given(two_attributes(), st.randoms(use_true_random=False))
def test_any_partition_of_the_records_gives_the_same_pooled_rows(sample, random):
    data, client, score = sample
    other = np.array([random.randrange(4) for _ in client])
    left, right = (table_of(data, logits_of(score), owner) for owner in (client, other))
    about_records = [
        t[(t.scope != "client") & ~t.metric.str.match("accuracy_(mean|std|worst|jain|gini)")]
        for t in (left, right)
    ]
    pd.testing.assert_frame_equal(*about_records, rtol=1e-12)


def test_rows_by_hand():
    """Two clients that each favour one sex, so that the pooled model looks fair."""
    sex = [0, 0, 1, 1] * 2
    client = [0] * 4 + [1] * 4
    predicted = [1, 1, 0, 0, 0, 0, 1, 1]
    y = [1, 0, 1, 0] * 2
    data = federation(client, y, sex, {"sex": SEX}, num_clients=3)
    table = table_of(data, torch.eye(2)[predicted], client)
    assert list(table.columns) == ["round", "split", "model", "scope", "key", "metric", "value"]
    assert set(table["round"]) == {2} and set(table.split) == {"test"}
    assert set(table.model) == {"global"}
    assert value(table, "demographic_parity_difference") == 0
    for name in ("site-0", "site-1"):
        assert value(table, "demographic_parity_difference", scope="client", key=name) == 1
        assert value(table, "equalized_odds_difference", scope="client", key=name) == 1
    assert value(table, "selection_rate", scope="group", key="sex=Female") == 0.5
    assert value(table, "accuracy_mean") == value(table, "accuracy_worst_decile") == 0.5
    assert value(table, "accuracy_std") == 0 and value(table, "accuracy_jain") == 1
    empty = table[table.key == "site-2"]
    assert dict(zip(empty.metric, empty.value)) == {"num_records": 0}
    assert "sex" not in set(table.key)  # one attribute: the global rows say it


def test_an_undefined_rate_of_a_group_is_a_row():
    data = federation([0, 0], [0, 0], [0, 0], {"sex": SEX}, num_clients=1)
    table = table_of(data, torch.eye(2), [0, 0])
    assert math.isnan(value(table, "true_positive_rate", scope="group", key="sex=Female"))
    assert value(table, "false_positive_rate", scope="group", key="sex=Female") == 0.5
    assert math.isnan(value(table, "accuracy", scope="group", key="sex=Male"))
    assert value(table, "num_records", scope="group", key="sex=Male") == 0
    assert value(table, "demographic_parity_difference") == 0  # as in fairlearn
    alone = table[table.scope == "client"].metric
    assert not alone.str.contains("parity|odds").any()  # there is nothing to compare


def test_three_attributes_are_summed_over_the_right_ones():
    attributes = {"a": ("0", "1"), "b": ("0", "1", "2"), "c": ("0", "1")}
    generator = np.random.default_rng(0)
    group = np.stack([generator.integers(0, len(v), 200) for v in attributes.values()], 1)
    y, predicted = generator.integers(0, 2, (2, 200))
    data = federation([0] * 200, y, group, attributes, num_clients=1)
    table = table_of(data, torch.eye(2)[predicted], [0] * 200)
    for column, (name, levels) in enumerate(attributes.items()):
        for number, level in enumerate(levels):
            rate = predicted[group[:, column] == number].mean()
            key = f"{name}={level}"
            assert value(table, "selection_rate", scope="group", key=key) == near(rate)
    mine = (group == [1, 2, 0]).all(1)
    key = "a=1, b=2, c=0"
    assert value(table, "num_records", scope="group", key=key) == mine.sum()
    assert value(table, "accuracy", scope="group", key=key) == near((y == predicted)[mine].mean())


def test_more_than_two_classes():
    y, predicted = [0, 1, 2, 2, 1, 0], [0, 1, 1, 2, 0, 0]
    data = federation([0] * 6, y, [0, 0, 0, 1, 1, 1], {"sex": SEX}, 1, classes=("a", "b", "c"))
    table = table_of(data, torch.eye(3)[predicted], [0] * 6)
    assert value(table, "accuracy") == near(4 / 6)
    assert value(table, "balanced_accuracy") == near(
        sklearn.metrics.balanced_accuracy_score(y, predicted)
    )
    assert value(table, "accuracy", scope="group", key="sex=Male") == near(2 / 3)
    assert value(table, "accuracy_difference") == near(0)
    assert not table.metric.str.contains("parity|odds|selection|positive|roc").any()


def test_without_sensitive_attributes_nothing_is_said_of_groups():
    data = federation([0, 1], [0, 1], np.zeros((2, 0), dtype=int), {}, num_clients=2)
    table = table_of(data, torch.eye(2), [0, 1])
    assert set(table.scope) == {"global", "client"}
    assert not table.metric.str.contains("parity|odds|difference|ratio|selection|positive").any()


def test_a_split_without_records_has_rows_without_values():
    data = federation([], [], np.zeros((0, 1), dtype=int), {"sex": SEX}, num_clients=2)
    table = table_of(data, np.zeros((0, 2)), torch.zeros(0, dtype=torch.int64))
    pooled = table[table.scope == "global"]
    assert pooled[pooled.metric != "num_records"].value.isna().all()
    assert value(table, "num_records") == 0


def small() -> tuple[FederatedData, torch.Tensor, list[int]]:
    data = federation([0, 0, 1], [0, 1, 1], [0, 1, 1], {"sex": SEX}, num_clients=3)
    return data, torch.eye(2)[[0, 1, 0]], [0, 0, 1]


def test_a_metric_of_the_users_gets_counts_by_group():
    def share_of_women(confusion) -> float:
        women = float(confusion[0].sum().double() / confusion.sum())
        confusion.zero_()  # its own copy
        return women

    extra = {"share_of_women": share_of_women, "parity": demographic_parity_difference}
    table = table_of(*small(), extra=extra)
    assert value(table, "share_of_women") == near(1 / 3)
    assert value(table, "share_of_women", scope="client", key="site-0") == 0.5
    assert value(table, "share_of_women", scope="client", key="site-1") == 0
    assert "share_of_women" not in set(table[table.key == "site-2"].metric)  # no records
    assert value(table, "parity") == value(table, "demographic_parity_difference")
    assert value(table, "num_records", scope="client", key="site-0") == 2


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [(lambda confusion: 1 / 0, "ZeroDivisionError"), (lambda confusion: "high", "ValueError")],
)
def test_a_metric_that_fails_is_named(wrong, problem):
    with pytest.raises(FedmodelError, match=f"mine failed for all clients: {problem}"):
        table_of(*small(), extra={"mine": wrong})


def test_a_metric_that_fails_at_one_client_names_the_client():
    def fails_without_women(confusion) -> float:
        if not confusion[0].sum():
            raise ValueError("no women")
        return 0.0

    with pytest.raises(FedmodelError, match="failed for site-1: ValueError: no women") as failure:
        table_of(*small(), extra={"mine": fails_without_women})
    assert failure.value.where.endswith("in fails_without_women")


def test_a_taken_name_is_refused():
    with pytest.raises(FedmodelError, match="'accuracy' already"):
        table_of(*small(), extra={"accuracy": lambda confusion: 0.0})


def test_counts_of_other_data_are_refused():
    data, logits, _ = small()
    zero = torch.zeros(3, dtype=torch.int64)
    counts = count(logits, data.y, data.cell(), zero, num_clients=1, num_groups=2)
    with pytest.raises(FedmodelError, match=r"\(1, 2, 2, 2\) do not fit this data: \(3, 2, 2, 2\)"):
        metric_rows(counts, data=data, round=0, split="test", model="global")


def test_a_thousand_clients_have_rows_each():
    generator = torch.Generator().manual_seed(0)
    attributes = {"sex": SEX, "age": tuple("abcde")}
    data = federation([], [], np.zeros((0, 2), dtype=int), attributes, num_clients=1000)
    counts = Counts(
        confusion=torch.randint(0, 9, (1000, 10, 2, 2), generator=generator),
        loss=torch.rand(1000, generator=generator, dtype=torch.float64),
        histogram=torch.randint(0, 2, (1000, 2, 1024), generator=generator),
    )
    table = metric_rows(counts, data=data, round=0, split="test", model="global")
    assert table[table.scope == "client"].key.nunique() == 1000
