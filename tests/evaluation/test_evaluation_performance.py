from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from fedmodel.evaluation.counts import count
from fedmodel.evaluation.performance import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    roc_auc_bound,
    roc_auc_score,
)

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
scores = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([-1.0, 0.0, 0.01, 3.0]) | st.floats(-50, 50)),
    min_size=2,
    max_size=40,
)


def confusion_of(sample, num_classes=4) -> torch.Tensor:
    true, predicted = np.array(sample).T
    matrix = sklearn.metrics.confusion_matrix(true, predicted, labels=range(num_classes))
    return torch.from_numpy(matrix)


def histogram_of(sample, bins) -> torch.Tensor:
    y = torch.tensor([label for label, _ in sample])
    logits = torch.tensor([[0.0, score] for _, score in sample], dtype=torch.float64)
    one = torch.zeros(len(y), dtype=torch.int64)
    return count(logits, y, one, one, num_clients=1, num_groups=1, bins=bins).histogram[0]


@settings(max_examples=60, deadline=None)
@given(labels)
def test_accuracies_are_scikit_learns(sample):
    true, predicted = np.array(sample).T
    confusion = confusion_of(sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without records, left out there and here
        balanced = sklearn.metrics.balanced_accuracy_score(true, predicted)
    plain = sklearn.metrics.accuracy_score(true, predicted)
    assert accuracy_score(confusion).item() == pytest.approx(plain, abs=1e-9)
    assert balanced_accuracy_score(confusion).item() == pytest.approx(balanced, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(scores, st.sampled_from([1, 2, 7, 64, 1024]))
def test_area_is_off_scikit_learns_by_its_bound_at_most(sample, bins):
    true, score = np.array(sample).T
    assume(0 < true.sum() < len(true))
    histogram = histogram_of(sample, bins)
    exact = sklearn.metrics.roc_auc_score(true, expit(score))
    assert abs(roc_auc_score(histogram) - exact) <= roc_auc_bound(histogram) + 1e-12


@settings(max_examples=40, deadline=None)
@given(scores)
def test_area_of_scores_that_are_bins_is_exact(sample):
    rounded = [(label, float(np.clip(np.round(score), -5, 5))) for label, score in sample]
    true, score = np.array(rounded).T
    assume(0 < true.sum() < len(true))
    exact = sklearn.metrics.roc_auc_score(true, score)
    assert roc_auc_score(histogram_of(rounded, 1024)).item() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("alike", [True, False])
def test_the_bound_is_reached_where_all_pairs_in_a_bin_are_ordered_alike(alike):
    sample = [(int(alike), 1.0), (int(not alike), 0.9), (1, 20.0), (0, -20.0)]
    histogram = histogram_of(sample, bins=2)  # both of the first and 20.0 in the upper bin
    true, score = np.array(sample).T
    error = abs(roc_auc_score(histogram).item() - sklearn.metrics.roc_auc_score(true, score))
    bound = roc_auc_bound(histogram).item()
    assert bound == pytest.approx(2 / 8)  # two of four pairs share a bin
    assert error <= bound
    worst = [(1, 2.0), (1, 1.0), (0, 0.5)] if alike else [(0, 2.0), (0, 1.0), (1, 0.5)]
    histogram = histogram_of(worst, bins=1)
    assert roc_auc_score(histogram).item() == 0.5 == roc_auc_bound(histogram).item()
    assert sklearn.metrics.roc_auc_score(*np.array(worst).T) == float(alike)


def test_what_no_record_speaks_of_is_not_defined():
    nothing = torch.zeros(2, 2, dtype=torch.int64)
    assert accuracy_score(nothing).isnan() and balanced_accuracy_score(nothing).isnan()
    assert log_loss(torch.tensor(0.0), num_records=torch.tensor(0)).isnan()
    one_class = torch.tensor([[0, 3], [0, 0]])
    assert roc_auc_score(one_class).isnan() and roc_auc_bound(one_class).isnan()


def test_leading_axes_are_kept():
    confusion = torch.arange(24).reshape(2, 3, 2, 2)
    for metric in (accuracy_score, balanced_accuracy_score, roc_auc_score, roc_auc_bound):
        each = [[metric(confusion[k, g]).item() for g in range(3)] for k in range(2)]
        assert metric(confusion).tolist() == each


def test_large_counts_are_divided_in_double_precision():
    confusion = torch.tensor([[2**30 + 1, 1], [1, 2**30]])
    assert accuracy_score(confusion).item() == (2**31 + 1) / (2**31 + 3)
