from __future__ import annotations

import fairlearn.metrics
import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.evaluation import fairness

GROUPS = 4
records = st.lists(  # each twice: fairlearn cannot take a single one
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, GROUPS - 1)), min_size=1
).map(lambda sample: sample * 2)


def confusion_of(true, predicted, group) -> torch.Tensor:
    confusion = np.zeros((GROUPS, 2, 2), dtype=np.int64)
    np.add.at(confusion, (group, true, predicted), 1)
    return torch.from_numpy(confusion)


def assert_equal(ours: torch.Tensor, theirs: float) -> None:
    assert ours.item() == pytest.approx(theirs, abs=1e-9, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(records)
def test_demographic_parity_and_accuracy_difference_are_fairlearns(sample):
    true, predicted, group = np.array(sample).T
    confusion = confusion_of(true, predicted, group)
    for name in ("demographic_parity_difference", "demographic_parity_ratio"):
        theirs = getattr(fairlearn.metrics, name)(true, predicted, sensitive_features=group)
        assert_equal(getattr(fairness, name)(confusion), theirs)
    frame = fairlearn.metrics.MetricFrame(
        metrics=sklearn.metrics.accuracy_score,
        y_true=true,
        y_pred=predicted,
        sensitive_features=group,
    )
    assert_equal(fairness.accuracy_difference(confusion), frame.difference())


@settings(max_examples=30, deadline=None)
@given(records)
def test_equalized_odds_is_fairlearns_where_every_group_has_both_labels(sample):
    both = [(label, 0, group) for label in (0, 1) for group in {row[2] for row in sample}]
    true, predicted, group = np.array(sample + both).T
    confusion = confusion_of(true, predicted, group)
    theirs = fairlearn.metrics.equalized_odds_difference(true, predicted, sensitive_features=group)
    assert_equal(fairness.equalized_odds_difference(confusion), theirs)
    theirs = fairlearn.metrics.equalized_odds_ratio(true, predicted, sensitive_features=group)
    if predicted[true == 0].any() and predicted[true == 1].any():  # else a ratio 0/0
        assert_equal(fairness.equalized_odds_ratio(confusion), theirs)


@settings(max_examples=30, deadline=None)
@given(records)
def test_groups_without_a_rate_are_left_out_of_the_comparison(sample):
    """fairlearn, asked for each rate of the groups alone that have it."""
    true, predicted, group = np.array(sample).T
    differences, ratios = [], []
    for label, rate in (
        (1, fairlearn.metrics.true_positive_rate),
        (0, fairlearn.metrics.false_positive_rate),
    ):
        of_label = true == label
        if of_label.any():
            frame = fairlearn.metrics.MetricFrame(
                metrics=rate,
                y_true=true[of_label],
                y_pred=predicted[of_label],
                sensitive_features=group[of_label],
            )
            differences.append(frame.difference())
            ratios.append(frame.ratio())
    confusion = confusion_of(true, predicted, group)
    assert_equal(fairness.equalized_odds_difference(confusion), np.nanmax(differences))
    expected = np.nan if np.isnan(ratios).all() else np.nanmin(ratios)
    assert_equal(fairness.equalized_odds_ratio(confusion), expected)


@settings(max_examples=30, deadline=None)
@given(records)
def test_rates_are_fairlearns(sample):
    true, predicted, group = np.array(sample).T
    confusion = confusion_of(true, predicted, group)
    for name, base in (
        ("selection_rate", lambda y: np.ones_like(y, dtype=bool)),
        ("true_positive_rate", lambda y: y == 1),
        ("false_positive_rate", lambda y: y == 0),
    ):
        ours = getattr(fairness, name)(confusion)
        for number in range(GROUPS):
            mine = group == number
            if base(true[mine]).any():
                theirs = getattr(fairlearn.metrics, name)(true[mine], predicted[mine])
                assert_equal(ours[number], theirs)
            else:
                assert ours[number].isnan()


def test_no_evidence_is_no_gap():
    """A group without positives: fairlearn's true positive rate of 0 would make a gap of 1."""
    confusion = torch.tensor([[[4, 0], [0, 4]], [[4, 0], [0, 0]]])
    assert fairness.true_positive_rate(confusion).isnan().tolist() == [False, True]
    assert fairness.equalized_odds_difference(confusion).item() == 0.0
    true, predicted, group = [0] * 4 + [1] * 4 + [0] * 4, [0] * 4 + [1] * 4 + [0] * 4, "a" * 8
    theirs = fairlearn.metrics.equalized_odds_difference(
        true, predicted, sensitive_features=list(group + "b" * 4)
    )
    assert theirs == 1.0


def test_nobody_is_selected():
    confusion = torch.tensor([[[4, 0], [2, 0]], [[3, 0], [1, 0]]])
    assert fairness.demographic_parity_difference(confusion).item() == 0.0
    assert fairness.demographic_parity_ratio(confusion).isnan()
    assert fairness.equalized_odds_ratio(confusion).isnan()


def test_an_undefined_ratio_leaves_the_other_one():
    confusion = torch.tensor([[[4, 0], [2, 2]], [[3, 0], [3, 1]]])  # no false positives at all
    assert fairness.equalized_odds_ratio(confusion).item() == 0.5


def test_a_single_group_differs_from_nobody():
    confusion = torch.tensor([[[4, 1], [2, 2]], [[0, 0], [0, 0]]])
    assert fairness.demographic_parity_difference(confusion).item() == 0.0
    assert fairness.demographic_parity_ratio(confusion).item() == 1.0


def test_no_record_no_fairness():
    nothing = torch.zeros(3, 2, 2, dtype=torch.int64)
    for name in fairness.__all__:
        assert getattr(fairness, name)(nothing).isnan().all()


@pytest.mark.parametrize("name", fairness.__all__)
def test_many_clients_at_once_are_each_alone(name):
    metric = getattr(fairness, name)
    confusion = torch.randint(0, 3, (50, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    alone = torch.stack([metric(confusion[client]) for client in range(50)])
    torch.testing.assert_close(metric(confusion), alone, rtol=0, atol=0, equal_nan=True)


def test_more_than_two_classes_are_refused_but_for_accuracy():
    confusion = torch.ones(2, 3, 3, dtype=torch.int64)
    for name in set(fairness.__all__) - {"accuracy_difference"}:
        with pytest.raises(FedmodelError, match="two classes"):
            getattr(fairness, name)(confusion)
    assert fairness.accuracy_difference(confusion).item() == 0.0
