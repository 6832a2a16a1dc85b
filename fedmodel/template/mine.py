"""Two plug-ins: how the server combines updates, and how a client trains.

Parameters with fixed names (delta, cohort, start) are supplied; every other keyword is an option of
the experiment file, with its type and default.
"""

from dataclasses import dataclass
from typing import ClassVar

from fedmodel.cohort import mean_gradient


def length_limited(delta, *, times: float = 1.0):
    """Average the updates, none of them longer than `times` the median length.

    Row k of `delta` [K, d] is what client k's model gained over the global one; the result [d] is
    added to it.
    """
    length = delta.norm(dim=1, keepdim=True)
    limit = times * length.median()
    return (delta * (limit / length.clamp_min(1e-12)).clamp(max=1.0)).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class fading_sgd:  # noqa: N801 - the name in the experiment
    """Local SGD whose steps grow shorter: the learning rate over 1 + fade * step.

    All clients of a cohort train at once: row k of every [K, d] tensor belongs to client k.
    """

    learning_rate: float
    fade: float = 0.1
    batch_size: int = 32
    epochs: float = 1.0  # passes over a client's records in a round

    private: ClassVar[bool] = False  # True for DP-SGD: one Poisson batch and one noise a step

    def train(self, cohort, start):
        """Each client's local model minus the global one [K, d]; `start` is the global one [d]."""
        local = start.repeat(cohort.size, 1)
        for step in cohort.steps:
            batch = cohort.shuffled_batch(step)  # batch.active is 0 for clients that are done
            gradient = mean_gradient(cohort, local, batch)
            local -= self.learning_rate / (1 + self.fade * step) * batch.active * gradient
        return local - start
