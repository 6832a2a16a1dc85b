"""Scores against closed forms, scipy and hand; ROC against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from fedmodel.audits.membership import exposure
from fedmodel.audits.roc import auc, auc_error, curve, hit_rate
from fedmodel.audits.scores import lira_offline, lira_online, loss_threshold, rmia
from fedmodel.audits.watching import log_odds


def toy(shadows=64, records=4000, shift=1.0, seed=0):
    """Log odds N(m, 1) without a record and N(m + shift, 1) with it; m differs by record."""
    draw = np.random.default_rng(seed)
    level = draw.normal(0, 5, records)
    member = np.argsort(draw.random((shadows, records)), 0) < shadows // 2
    trained_on = draw.random(records) < 0.5
    signals = draw.normal(level + shift * member)
    return draw.normal(level + shift * trained_on), signals, member, trained_on


@pytest.mark.parametrize("attack", [lira_offline, lira_online])
def test_lira_reaches_what_the_best_test_reaches(attack):
    # Of N(0, 1) against N(1, 1), by Neyman and Pearson: Phi(1 + Phi^-1(rate)), area Phi(1 / sqrt 2).
    target, signals, member, trained_on = toy(shadows=800)
    score = attack(target, signals, member)
    assert auc(score, trained_on) == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.02)
    for rate in (0.01, 0.1):
        best = norm.cdf(1 + norm.ppf(rate))
        assert hit_rate(score, trained_on, at=rate) == pytest.approx(best, abs=0.03)
    # One threshold for all records drowns in their differences.
    assert auc(loss_threshold(target), trained_on) < 0.6


@pytest.mark.parametrize(("shadows", "shared"), [(40, False), (12, True)])
def test_lira_is_the_ratio_of_fitted_normal_densities(shadows, shared):
    target, signals, member, _ = toy(shadows=shadows, records=7)

    def deviation(record, side):
        if not shared:
            return signals[side[:, record], record].std(ddof=1)
        own = [signals[side[:, n], n] - signals[side[:, n], n].mean() for n in range(7)]
        return math.sqrt((np.concatenate(own) ** 2).sum() / (side.sum() - 7))

    for record in range(7):
        laws = [
            norm(signals[side[:, record], record].mean(), deviation(record, side))
            for side in (member, ~member)
        ]
        ratio = laws[0].logpdf(target[record]) - laws[1].logpdf(target[record])
        assert lira_online(target, signals, member)[record] == pytest.approx(ratio)
        above = laws[1].cdf(target[record])  # the paper's offline score
        found = norm.cdf(lira_offline(target, signals, member)[record])
        assert found == pytest.approx(above)


def test_rmia_by_hand():
    # Two shadows: average probabilities 0.5, 0.4 and 0.6; ratios 1.6, 1.0 and 0.5.
    signals = logit(np.array([[0.6, 0.5, 0.5], [0.4, 0.3, 0.7]]))
    member = np.array([[True, False, True], [False, True, False]])
    target = logit(np.array([0.8, 0.4, 0.3]))
    one, other = np.zeros(3, np.int64), np.array([0, 0, 1])
    assert rmia(target, signals, member, together=one).tolist() == [1.0, 0.5, 0.0]
    assert rmia(target, signals, member, together=one, gamma=1.7).tolist() == [0.5, 0.5, 0.0]
    apart = rmia(target, signals, member, together=other)  # the third has nobody to compare with
    assert apart[:2].tolist() == [1.0, 0.0]
    assert math.isnan(apart[2])


def test_rmia_by_comparing_every_pair():
    target, signals, member, _ = toy(shadows=10, records=30)
    together = np.arange(30) % 3
    score = rmia(target, signals, member, together=together, gamma=1.2)
    average = [
        (expit(signals[member[:, n], n]).mean() + expit(signals[~member[:, n], n]).mean()) / 2
        for n in range(30)
    ]
    ratio = expit(target) / average
    for x in range(30):
        others = [z for z in range(30) if z != x and together[z] == together[x]]
        share = np.mean([ratio[x] / ratio[z] >= 1.2 for z in others])
        assert score[x] == pytest.approx(share)


def test_log_odds_are_those_of_the_softmax_also_far_out():
    logits = torch.tensor([[0.3, -1.0, 2.0], [5.0, 1.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([2, 0])
    own = logits.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(log_odds(logits, y), (own / (1 - own)).log())
    far = log_odds(torch.tensor([[80.0, -80.0], [80.0, -80.0]]), torch.tensor([0, 1]))
    assert far.tolist() == [160.0, -160.0]


SCORES = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({member for _, member in pairs}) == 2
)


@given(SCORES)
def test_roc_is_scikit_learns(pairs):
    score, member = (np.array(column) for column in zip(*pairs))
    score = score.astype(float)
    false, true, _ = roc_curve(member, score, drop_intermediate=False)
    found = curve(score, member)
    np.testing.assert_allclose(found[0], false)
    np.testing.assert_allclose(found[1], true)
    assert auc(score, member) == pytest.approx(roc_auc_score(member, score))


def test_a_rate_stands_on_ten_false_alarms_and_on_a_threshold():
    member = np.arange(2000) < 1000
    score = np.random.default_rng(0).normal(member)
    assert not math.isnan(hit_rate(score, member, at=0.01))
    assert math.isnan(hit_rate(score, member, at=0.001))  # it would stand on one
    assert math.isnan(hit_rate(np.zeros(2000), member, at=0.01))  # all or nothing
    assert hit_rate(-np.arange(2000.0), member, at=0.01) == 1.0


def test_the_error_of_an_area_is_its_spread_over_repetitions():
    # The formula is exact for exponential scores: means 2 and 1 give an area of 2/3.
    draw = np.random.default_rng(0)
    member = np.arange(70) < 40
    areas = [auc(draw.exponential(1.0 + member), member) for _ in range(3000)]
    assert np.mean(areas) == pytest.approx(2 / 3, abs=0.005)
    assert auc_error(2 / 3, members=40, others=30) == pytest.approx(np.std(areas), rel=0.05)


def test_exposure_is_an_area_for_each_record():
    _, signals, member, _ = toy(shadows=12, records=20)
    signals = signals.round()  # with ties
    expected = [roc_auc_score(member[:, n], signals[:, n]) for n in range(20)]
    np.testing.assert_allclose(exposure(signals, member), expected)
