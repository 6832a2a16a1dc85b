"""How fair a two-class model is to groups, from counts alone: no record is needed.

Names and definitions are fairlearn's. Confusion counts are ``[..., true, predicted]`` with any
leading axes; where groups are compared they are the axis before: ``[..., G, true, predicted]``.
Rates are divided in float64. Where fairlearn and this module part:

- A rate without records behind it (a group without positives has no true positive rate) is NaN
  and left out of the comparison. fairlearn sets it to 0, which makes a gap out of no evidence.
- Largest and smallest rate both 0: their ratio is NaN, as in fairlearn. In `equalized_odds_ratio`
  it is left out here; fairlearn returns NaN or the other ratio, according to which one it is.
- Of noised counts, with standard deviation ``noise`` in each, rates are those of `performance`.
- A single group with records differs from nobody: difference 0, ratio 1, as in fairlearn.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedmodel.errors import FedmodelError
from fedmodel.evaluation.performance import accuracy_score, quotient

__all__ = [
    "accuracy_difference",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "false_positive_rate",
    "selection_rate",
    "true_positive_rate",
]


def selection_rate(
    confusion: Int[Tensor, "*more C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """P(predicted 1): the share of records that are predicted to be of class 1."""
    _check_two_classes(confusion)
    return quotient(confusion[..., 1].sum(-1), confusion.sum((-2, -1)), noise=2 * noise)


def true_positive_rate(
    confusion: Int[Tensor, "*more C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """P(predicted 1 | true 1), also called sensitivity or recall."""
    _check_two_classes(confusion)
    return quotient(confusion[..., 1, 1], confusion[..., 1, :].sum(-1), noise=2**0.5 * noise)


def false_positive_rate(
    confusion: Int[Tensor, "*more C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """P(predicted 1 | true 0)."""
    _check_two_classes(confusion)
    return quotient(confusion[..., 0, 1], confusion[..., 0, :].sum(-1), noise=2**0.5 * noise)


def demographic_parity_difference(
    confusion: Int[Tensor, "*more G C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """Largest minus smallest selection rate of the groups; 0 is fair, 1 is worst.

    >>> groups = torch.tensor([[[8, 2], [0, 0]], [[5, 5], [0, 0]]])
    >>> round(demographic_parity_difference(groups).item(), 9)
    0.3
    """
    return _difference(selection_rate(confusion, noise=noise))


def demographic_parity_ratio(
    confusion: Int[Tensor, "*more G C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """Smallest over largest selection rate of the groups; 1 is fair, 0 is worst.

    >>> groups = torch.tensor([[[8, 2], [0, 0]], [[5, 5], [0, 0]]])
    >>> demographic_parity_ratio(groups).item()
    0.4
    """
    return _ratio(selection_rate(confusion, noise=noise))


def equalized_odds_difference(
    confusion: Int[Tensor, "*more G C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """The larger of the groups' differences in true and in false positive rate; 0 is fair.

    Equalized odds: Hardt, Price and Srebro, "Equality of opportunity in supervised learning",
    NeurIPS 2016, Definition 2.1.

    >>> groups = torch.tensor([[[8, 2], [1, 3]], [[5, 5], [1, 3]]])
    >>> round(equalized_odds_difference(groups).item(), 9)
    0.3
    """
    true = true_positive_rate(confusion, noise=noise)
    false = false_positive_rate(confusion, noise=noise)
    return torch.fmax(_difference(true), _difference(false))  # fmax: a number beats NaN


def equalized_odds_ratio(
    confusion: Int[Tensor, "*more G C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """The smaller of the groups' ratios of true and of false positive rates; 1 is fair.

    >>> groups = torch.tensor([[[8, 2], [1, 3]], [[5, 5], [1, 3]]])
    >>> equalized_odds_ratio(groups).item()
    0.4
    """
    true = true_positive_rate(confusion, noise=noise)
    false = false_positive_rate(confusion, noise=noise)
    return torch.fmin(_ratio(true), _ratio(false))


def accuracy_difference(
    confusion: Int[Tensor, "*more G C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """Largest minus smallest accuracy of the groups, for any number of classes; 0 is fair."""
    return _difference(accuracy_score(confusion, noise=noise))


def _difference(rate: Float[Tensor, "*more G"]) -> Float[Tensor, "*more"]:
    smallest, largest = _extremes(rate)
    return largest - smallest


def _ratio(rate: Float[Tensor, "*more G"]) -> Float[Tensor, "*more"]:
    smallest, largest = _extremes(rate)
    return smallest / largest


def _extremes(rate: Float[Tensor, "*more G"]) -> tuple[Tensor, Tensor]:
    """Smallest and largest defined rate of the groups; NaN where none is defined."""
    undefined = rate.isnan()
    nowhere = undefined.all(-1)
    smallest = rate.masked_fill(undefined, math.inf).amin(-1)
    largest = rate.masked_fill(undefined, -math.inf).amax(-1)
    return smallest.masked_fill(nowhere, math.nan), largest.masked_fill(nowhere, math.nan)


def _check_two_classes(confusion: Int[Tensor, "*more C C"]) -> None:
    if confusion.shape[-1] != 2:
        raise FedmodelError(
            f"this metric needs two classes, of which 1 is the positive one, not {confusion.shape[-1]}",
            fix="Use accuracy_difference, or make one class against the rest the label.",
        )
