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
        FedmodelError: neither kernel can compute them, with what failed in the last one; or only
            `torch.func` can, and not in the precision that is asked for.
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
        name, reason = type(model.module).__name__, why_functional(model)
        raise FedmodelError(
            f"{name} cannot be trained{' by torch.func' if reason else ''}{_beyond(cohort)}: "
            + what_failed(error)
            + (f" (nor by stacked layers: {reason})" if reason else ""),
            where=user_place(error) or "[model]",
            fix="Its answer must be made of tensor operations alone, on each record by itself: no "
            ".item(), no `if` on values, nothing drawn or changed in place of what all records share. "
            "What it makes there belongs on the device of its input. "
            "Or use a client behaviour that takes gradients by itself and says `own_gradients = True`.",
        ) from error
    reason = why_functional(model)
    if reason and model.precision == "bf16":
        raise FedmodelError(
            f"{type(model.module).__name__} trains by torch.func, which knows no bf16: {reason}",
            where="[engine] precision",
            fix="Drop `precision`, or build the model of torch's own layers.",
        )
    return reason


def _beyond(cohort: Cohort) -> str:
    """Where a model is tried, if that is not the CPU in float32, which has read it before."""
    words = [f"in {cohort.model.precision}"] if cohort.model.precision != "float32" else []
    words += [f"on {cohort.device}"] if cohort.device != "cpu" else []
    return " " + " ".join(words) if words else ""
