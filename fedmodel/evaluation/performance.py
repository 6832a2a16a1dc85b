"""How good a model is, from counts. Names and values are scikit-learn's on the pooled records.

Confusion counts are ``[..., true, predicted]`` with any leading axes (clients, groups), which the
results keep. Everything is divided in float64, and what is not defined is NaN.

Counts may hold noise of mean 0, whose standard deviation in each of them is ``noise``. A quotient is
then brought into [0, 1], and it is not defined over records whose number is below `TELLING` standard
deviations of its own noise: they cannot be told from nobody, and the quotient would be noise.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "TELLING",
    "accuracy_score",
    "balanced_accuracy_score",
    "log_loss",
    "quotient",
    "roc_auc_bound",
    "roc_auc_score",
]

TELLING = 5.0


def accuracy_score(
    confusion: Int[Tensor, "*more C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """Share of records that are predicted right; NaN without records.

    >>> accuracy_score(torch.tensor([[8, 2], [1, 4]])).item()
    0.8
    """
    right = confusion.diagonal(dim1=-2, dim2=-1).sum(-1)
    num_classes = confusion.shape[-1]
    return quotient(right, confusion.sum((-2, -1)), noise=noise * num_classes)


def balanced_accuracy_score(
    confusion: Int[Tensor, "*more C C"], *, noise: float = 0.0
) -> Float[Tensor, "*more"]:
    """Mean over the classes of the share of their records that are predicted right.

    As in scikit-learn a class without records is left out; NaN without any, and where counts are
    noised without one of them: it may be there (Brodersen et al.,
    "The balanced accuracy and its posterior distribution", ICPR 2010).

    >>> round(balanced_accuracy_score(torch.tensor([[8, 2], [1, 3]])).item(), 9)
    0.775
    """
    right = confusion.diagonal(dim1=-2, dim2=-1)
    rates = quotient(right, confusion.sum(-1), noise=noise * confusion.shape[-1] ** 0.5)
    return rates.mean(-1) if noise else rates.nanmean(-1)


def quotient(
    part: Int[Tensor, "*more"], whole: Int[Tensor, "*more"], *, noise: float
) -> Float[Tensor, "*more"]:
    """A part of a number of records, whose own noise has this standard deviation; NaN of nobody."""
    found = part.double() / whole
    if noise:
        found = found.clamp(0, 1).where(whole >= TELLING * noise, torch.nan)
    return found


def log_loss(
    loss: Float[Tensor, "*more"], *, num_records: Int[Tensor, "*more"]
) -> Float[Tensor, "*more"]:
    """Mean cross-entropy in nats from its sum over the records; NaN without records."""
    return loss.double() / num_records


def roc_auc_score(histogram: Int[Tensor, "*more 2 bins"]) -> Float[Tensor, "*more"]:
    """P(a record of class 1 scores above one of class 0), from histograms of the scores.

    Pairs in one bin count one half, as ties do (Mann-Whitney's U). Off scikit-learn's value on
    the scores themselves by `roc_auc_bound` at most. NaN where a class has no records.

    >>> roc_auc_score(torch.tensor([[3, 1, 0], [0, 1, 3]])).item()
    0.96875
    """
    negative, positive = histogram[..., 0, :], histogram[..., 1, :]
    below = negative.cumsum(-1) - negative
    twice = (positive * (2 * below + negative)).sum(-1)  # whole numbers: no rounding
    return twice.double() / (2 * _pairs(histogram))


def roc_auc_bound(histogram: Int[Tensor, "*more 2 bins"]) -> Float[Tensor, "*more"]:
    """The largest possible error of `roc_auc_score`: half the share of pairs within one bin.

    Let bin b hold ``n_b`` of the n records of class 0 and ``p_b`` of the p of class 1. The area
    is the mean over the n p pairs of 1 (the record of class 1 scores higher), 1/2 (equal) or 0.
    A record's bin rises with its score, so a pair in two bins is ordered as its bins are: no
    error. A pair in one bin is taken as 1/2 and may be 0 or 1: an error of 1/2 at most. So the
    error is at most ``sum_b n_b p_b / (2 n p)``, and it is that where all pairs within bins are
    ordered alike.

    >>> roc_auc_bound(torch.tensor([[3, 1, 0], [0, 1, 3]])).item()
    0.03125
    """
    within = (histogram[..., 0, :] * histogram[..., 1, :]).sum(-1)
    return within.double() / (2 * _pairs(histogram))


def _pairs(histogram: Int[Tensor, "*more 2 bins"]) -> Float[Tensor, "*more"]:
    return histogram.sum(-1).to(torch.float64).prod(-1)
