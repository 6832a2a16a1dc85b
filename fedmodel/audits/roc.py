"""How well scores tell members from others: ROC curve, area under it, hits at few false alarms."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

__all__ = ["FEWEST", "auc", "auc_error", "curve", "hit_rate", "measurable"]

FEWEST = 10  # false alarms that a rate has to stand on


def curve(
    score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """False and true positive rates at every threshold, from the strictest; it begins with (0, 0).

    >>> curve(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, False, True, False]))
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    if not len(score):
        return np.zeros(1), np.zeros(1)
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of equal scores
    hits, alarms = np.cumsum(member[order])[last], np.cumsum(~member[order])[last]
    false = np.append(0, alarms) / max(1, (~member).sum())
    true = np.append(0, hits) / max(1, member.sum())
    return false, true


def auc(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"]) -> float:
    """The chance that a member scores above a non-member, ties count half; NaN without one of them.

    >>> auc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, False, True, False]))
    0.875
    """
    inside, outside = int(member.sum()), int((~member).sum())
    if not inside or not outside:
        return math.nan
    ranks = rankdata(score)[member].sum()
    return float((ranks - inside * (inside + 1) / 2) / (inside * outside))


def auc_error(area: float, *, members: int, others: int) -> float:
    """Standard error of an area under the curve (Hanley and McNeil, Radiology 1982, equation 1)."""
    if not members or not others:
        return math.nan
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area)
    spread += (members - 1) * (first - area**2) + (others - 1) * (second - area**2)
    return math.sqrt(max(0.0, spread) / (members * others))


def measurable(rate: float, others: int) -> bool:
    """Whether a false positive rate stands on 10 false alarms at least, with so many non-members."""
    return rate * others >= FEWEST * (1 - 1e-9)


def hit_rate(score: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"], *, at: float) -> float:
    """The largest true positive rate with at most `at` false positives; NaN where not measurable.

    That is: too few non-members, or so many equal scores that no threshold is as strict.
    """
    if not measurable(at, int((~member).sum())) or not member.any():
        return math.nan
    false, true = curve(score, member)
    strict = false[1:] <= at + 1e-12
    return float(true[1:][strict].max()) if strict.any() else math.nan
