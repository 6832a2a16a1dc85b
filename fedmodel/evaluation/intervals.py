"""How far noised rates and gaps can be off: intervals that hold the truth 95 times in 100.

The truth is the rate of the people that the records are drawn from. Two things hide it, and both are
in the interval: which records there are (a binomial proportion, whose variance is taken at Agresti and
Coull's 1998 centre, so that a rate of 0 or 1 still has one) and the noise in the counts, whose variance
is known (the delta method for the quotient of two noised sums). Both are taken as normal.

Counts are ``[..., G, true, predicted]``, groups G before the last two axes, each count with noise of
standard deviation ``noise``. Each interval holds by itself; of a hundred, about five miss.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from scipy.stats import studentized_range
from torch import Tensor

from fedmodel.evaluation.fairness import false_positive_rate, selection_rate, true_positive_rate
from fedmodel.evaluation.performance import accuracy_score

__all__ = ["CONFIDENCE", "gap_intervals", "rate_intervals"]

CONFIDENCE = 0.95
Bounds = tuple[Float[Tensor, "*more"], Float[Tensor, "*more"]]
Rate = tuple[Float[Tensor, "*more"], Float[Tensor, "*more"]]  # estimate, standard error


def rate_intervals(confusion: Int[Tensor, "*more C C"], *, noise: float) -> dict[str, Bounds]:
    """Lower and upper bound of each rate of each leading place; NaN where the rate is not defined.

    Accuracy, and of two classes selection rate, true and false positive rate.

    >>> low, high = rate_intervals(torch.tensor([[400, 100], [100, 400]]), noise=0.0)["accuracy"]
    >>> round(low.item(), 3), round(high.item(), 3)
    (0.775, 0.825)
    """
    factor = simultaneous_factor(2, CONFIDENCE)  # 1.96: one difference is as one rate
    return {
        name: ((rate - factor * error).clamp(min=0), (rate + factor * error).clamp(max=1))
        for name, (rate, error) in rates(confusion, noise=noise).items()
    }


def gap_intervals(confusion: Int[Tensor, "*more G C C"], *, noise: float) -> dict[str, Bounds]:
    """Lower and upper bound of the gaps between all groups with records; NaN where no rate is defined.

    1. All differences of two groups at once: Tukey and Kramer's intervals for independent groups,
       whose joint confidence is 95 % at least (Hayter, Annals of Statistics 1984).
    2. The gap is the largest difference: at least the largest lower bound, at most the largest
       upper one. Of two groups that is the usual interval of a difference.
    3. A group whose rate is not defined may be an empty one, or one with any rate: of noised counts
       nobody can tell, so the upper bound is then 1.
    4. Equalized odds: the larger of two gaps, over other records each, so each at sqrt(95 %).

    The gap of the estimates themselves, largest minus smallest, is too large on average: noise draws
    groups apart. The interval allows for that.
    """
    found = rates(confusion, noise=noise)
    gap = partial(_gap, noised=noise > 0)
    bounds = {"accuracy_difference": gap(*found["accuracy"], CONFIDENCE)}
    if "selection_rate" in found:
        bounds["demographic_parity_difference"] = gap(*found["selection_rate"], CONFIDENCE)
        true = gap(*found["true_positive_rate"], CONFIDENCE**0.5)
        false = gap(*found["false_positive_rate"], CONFIDENCE**0.5)
        low, high = torch.fmax(true[0], false[0]), torch.fmax(true[1], false[1])
        if noise:  # a gap of which nothing is known may be any
            unknown = true[1].isnan() | false[1].isnan()
            high = high.masked_fill(unknown & ~low.isnan(), 1.0)
        bounds["equalized_odds_difference"] = low, high
    return bounds


def rates(confusion: Int[Tensor, "*more C C"], *, noise: float) -> dict[str, Rate]:
    """Each rate and its standard error."""
    num_classes = confusion.shape[-1]
    everybody = confusion.sum((-2, -1))
    found = {
        "accuracy": _with_error(
            accuracy_score(confusion, noise=noise), everybody, num_classes, num_classes**2, noise
        )
    }
    if num_classes == 2:
        true = true_positive_rate(confusion, noise=noise)
        false = false_positive_rate(confusion, noise=noise)
        found["selection_rate"] = _with_error(
            selection_rate(confusion, noise=noise), everybody, 2, 4, noise
        )
        found["true_positive_rate"] = _with_error(true, confusion[..., 1, :].sum(-1), 1, 2, noise)
        found["false_positive_rate"] = _with_error(false, confusion[..., 0, :].sum(-1), 1, 2, noise)
    return found


def _with_error(
    rate: Float[Tensor, "*more"], whole: Int[Tensor, "*more"], inside: int, cells: int, noise: float
) -> Rate:
    """The standard error of a quotient: `inside` of the `cells` counts below the line are above it."""
    extra = simultaneous_factor(2, CONFIDENCE) ** 2
    centre = (rate * whole + extra / 2) / (whole + extra)
    sampled = centre * (1 - centre) / whole
    # An error e above the line moves the quotient by (1 - rate) e / whole, one beside it by -rate e / whole.
    noised = noise**2 * (inside * (1 - rate) ** 2 + (cells - inside) * rate**2) / whole**2
    return rate, (sampled + noised).sqrt()


def _gap(
    rate: Float[Tensor, "*more G"],
    error: Float[Tensor, "*more G"],
    confidence: float,
    *,
    noised: bool,
) -> Bounds:
    defined = ~rate.isnan()
    number = defined.sum(-1)
    factor = rate.new_zeros(number.shape)
    for groups in number.unique().tolist():
        factor[number == groups] = simultaneous_factor(groups, confidence)
    apart = (rate[..., :, None] - rate[..., None, :]).abs()
    error = (error[..., :, None].square() + error[..., None, :].square()).sqrt()
    error = error * ~torch.eye(rate.shape[-1], dtype=torch.bool)  # a group is not off itself
    margin = factor[..., None, None] * error
    low = (apart - margin).nan_to_num(nan=-math.inf).amax((-2, -1)).clamp(min=0)
    high = (apart + margin).nan_to_num(nan=-math.inf).amax((-2, -1)).clamp(max=1)
    if noised:
        high = high.masked_fill(number < rate.shape[-1], 1.0)
    nobody = number == 0
    return low.masked_fill(nobody, math.nan), high.masked_fill(nobody, math.nan)


@lru_cache
def simultaneous_factor(groups: int, confidence: float) -> float:
    """Standard errors that all differences of so many groups keep to together; 1.96 for two of 95 %."""
    if groups < 2:
        return 0.0
    return float(studentized_range.ppf(confidence, groups, math.inf)) / math.sqrt(2)
