"""Many clients trained at once as one tensor program."""

from fedmodel.cohort.cohort import Batch, Cohort, LocalTraining
from fedmodel.cohort.gradients import clipped_gradient_sum, mean_gradient
from fedmodel.cohort.machine import keep_freed_memory
from fedmodel.cohort.model import FlatModel

__all__ = [
    "Batch",
    "Cohort",
    "FlatModel",
    "LocalTraining",
    "clipped_gradient_sum",
    "keep_freed_memory",
    "mean_gradient",
]
