"""From which probability on a record is predicted positive: the best threshold by counts alone."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Score", "best_threshold"]

Score = Literal["balanced_accuracy", "f1"]


def best_threshold(histogram: Int[Tensor, "true bins"], *, by: Score) -> tuple[float, float]:
    """The threshold on P(class 1) with the best score, and that score.

    Tried are the edges between the histogram's equal bins over [0, 1]; at an edge the counts are those
    of the records themselves, for a record in bin b or above has P >= b / bins. Of equally good ones
    the nearest to 0.5 is taken. The best balanced accuracy is the best of Youden's J (Cancer 1950),
    which is twice it less 1. Both classes need a record.

    >>> best_threshold(torch.tensor([[5, 1, 0, 0], [0, 0, 2, 2]]), by="balanced_accuracy")
    (0.5, 1.0)
    """
    above = histogram.double().flip(1).cumsum(1).flip(1)[:, 1:]  # predicted positive, by edge
    of_0, of_1 = histogram.double().sum(1)
    false_positives, true_positives = above
    if by == "f1":
        scores = 2 * true_positives / (true_positives + false_positives + of_1)
    else:
        scores = (true_positives / of_1 + (of_0 - false_positives) / of_0) / 2
    edges = torch.arange(1, histogram.shape[1], dtype=torch.float64) / histogram.shape[1]
    best = edges[scores >= scores.max() - 1e-12]
    return float(best[(best - 0.5).abs().argmin()]), float(scores.max())
