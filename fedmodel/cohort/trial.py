"""Before anything runs: which kernel trains a model, tried on a few of its own records."""

from __future__ import annotations

import warnings

from fedmodel.cohort.cohort import Cohort
from fedmodel.cohort.gradients import clipped_gradient_sum, mean_gradient, why_functional
from fedmodel.errors import FedmodelError, user_place, what_failed

__all__ = ["tried"]


def tried(cohort: Cohort) -> str:
    """Take the gradients of the cohort's first batch, and tell why not by stacked layers ("" if by them).

    Nothing is trained, and no draw of the run is used up. What the kernels find out about the model
    is kept in this process, so the warning of a slower kernel comes here, and is left to the caller.

    Raises:
        FedmodelError: neither kernel can compute them; with what failed in the last one.
    """
    model = cohort.model
    model.module.train()
    local = model.initial.to(cohort.device).repeat(cohort.size, 1)
    batch = cohort.shuffled_batch(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if cohort.training.private:
                clipped_gradient_sum(cohort, local, batch, clip=cohort.clip)
            else:
                mean_gradient(cohort, local, batch)
    except FedmodelError:
        raise
    except Exception as error:
        name, reason = type(model.module).__name__, why_functional(model, local)
        raise FedmodelError(
            f"{name} cannot be trained{' by torch.func' if reason else ''}: {what_failed(error)}"
            + (f" (nor by stacked layers: {reason})" if reason else ""),
            where=user_place(error) or "[model]",
            fix="Its answer must be made of tensor operations alone, on each record by itself: no "
            ".item(), no `if` on values, nothing drawn or changed in place of what all records share. "
            "Or use a client behaviour that takes gradients by itself and says `own_gradients = True`.",
        ) from error
    return why_functional(model, local)
