"""Scores of membership: the higher, the more likely was a record trained on.

All compare the target's log odds of each record's label with those of shadow models, of which some
were trained with the record and some without. S shadows, N records.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

__all__ = ["ATTACKS", "lira_offline", "lira_online", "loss_threshold", "rmia", "scores"]

SMALLEST = 1e-6  # standard deviation of log odds: shadows that all agree still differ in rounding
FEW = 16  # shadows of a side, below which all records share one standard deviation

ATTACKS = {
    "loss": "a record whose loss is low was trained on",
    "LiRA offline": "the loss is lower than that of models trained without the record",
    "LiRA online": "likelihood ratio of models trained with the record and without it",
    "RMIA": "the record's likelihood ratio is higher than that of other records",
}


def scores(
    target: Float[np.ndarray, " N"],
    shadows: Float[np.ndarray, "S N"],
    member: Bool[np.ndarray, "S N"],
    *,
    together: Int[np.ndarray, " N"],
) -> dict[str, Float[np.ndarray, " N"]]:
    """Every attack's scores of a target; `together` tells which records one model was asked about."""
    return {
        "loss": loss_threshold(target),
        "LiRA offline": lira_offline(target, shadows, member),
        "LiRA online": lira_online(target, shadows, member),
        "RMIA": rmia(target, shadows, member, together=together),
    }


def loss_threshold(target: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """One threshold for all records: the log probability of the label (Yeom et al., CSF 2018)."""
    return -np.logaddexp(0.0, -target)


def lira_offline(
    target: Float[np.ndarray, " N"],
    shadows: Float[np.ndarray, "S N"],
    member: Bool[np.ndarray, "S N"],
) -> Float[np.ndarray, " N"]:
    """How many standard deviations the log odds lie above those of shadows without the record.

    Carlini et al., S&P 2022, the offline attack of section V (a monotone function of its probability).
    """
    mean, deviation = _normal(shadows, ~member)
    return (target - mean) / deviation


def lira_online(
    target: Float[np.ndarray, " N"],
    shadows: Float[np.ndarray, "S N"],
    member: Bool[np.ndarray, "S N"],
) -> Float[np.ndarray, " N"]:
    """Log likelihood ratio of two normal laws of a record's log odds: with it, and without it.

    Carlini et al., S&P 2022, Algorithm 1. With fewer than 16 shadows on a side the records share a
    standard deviation, as the paper does with few.
    """
    ratio = np.zeros(len(target))
    for side, sign in ((member, 1.0), (~member, -1.0)):
        mean, deviation = _normal(shadows, side)
        ratio += sign * (-np.log(deviation) - ((target - mean) / deviation) ** 2 / 2)
    return ratio


def rmia(
    target: Float[np.ndarray, " N"],
    shadows: Float[np.ndarray, "S N"],
    member: Bool[np.ndarray, "S N"],
    *,
    together: Int[np.ndarray, " N"],
    gamma: float = 1.0,
) -> Float[np.ndarray, " N"]:
    """The share of other records z that x dominates: (p(x)/P(x)) / (p(z)/P(z)) >= gamma.

    p is the target's probability of the label, P its mean over shadows with the record and without
    it, half and half. The z are all other records that the same model was asked about. With
    gamma = 1, the least that the paper allows, this is the rank of p(x)/P(x).

    Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks", ICML 2024,
    section 3.
    """
    probability = expit(shadows)
    average = (_mean(probability, member) + _mean(probability, ~member)) / 2
    ratio = expit(target) / average
    share = np.full(len(target), np.nan)
    for group in np.unique(together):
        own = (together == group) & ~np.isnan(ratio)
        if own.sum() > 1:
            dominated = np.searchsorted(np.sort(ratio[own]), ratio[own] / gamma, side="right")
            itself = gamma <= 1.0  # a record dominates itself, and does not count
            share[own] = (dominated - itself) / (own.sum() - 1)
    return share


def _mean(
    values: Float[np.ndarray, "S N"], side: Bool[np.ndarray, "S N"]
) -> Float[np.ndarray, " N"]:
    """Each record's mean over the shadows of a side."""
    with np.errstate(invalid="ignore"):
        return np.where(side, values, 0.0).sum(0) / side.sum(0)


def _normal(
    values: Float[np.ndarray, "S N"], side: Bool[np.ndarray, "S N"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Mean and standard deviation of each record over the shadows of a side."""
    mean = _mean(values, side)
    squares = np.where(side, (values - mean) ** 2, 0.0).sum(0)
    freedom = side.sum(0) - 1
    if side.sum(0).min() >= FEW:
        deviation = np.sqrt(squares / freedom)
    else:
        known = ~np.isnan(squares)
        total = np.sqrt(squares[known].sum() / max(1, freedom[known].sum()))
        deviation = np.full(len(mean), total)
    return mean, np.maximum(deviation, SMALLEST)
