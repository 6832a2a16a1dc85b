"""How like the originals reconstructed records are, whatever order they come in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fedmodel.audits.columns import Columns

__all__ = ["Likeness", "aligned", "likeness"]


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Errors of reconstructed records, and what they suffice for.

    `rmse` is over numeric columns in standard deviations; `categories` the share of text columns
    that come out right; `identified` the share of records whose reconstruction is nearer to them
    than to any other record of the client; `mse`, `psnr` (decibels, of values from 0 to 1) for
    images.
    """

    rmse: float
    categories: float
    identified: float
    mse: float
    psnr: float
    by_column: dict[str, float]  # rmse of a number, share right of a category


def aligned(
    original: Float[Tensor, "V B p"], guess: Float[Tensor, "V B p"], columns: Columns
) -> Float[Tensor, "V B p"]:
    """The guesses in the order of the originals that makes the sum of squared distances smallest.

    A batch's gradient does not tell the order of its records (Kuhn's assignment, by SciPy).
    """
    distance = torch.cdist(original / columns.scale, guess / columns.scale).square()
    orders = [linear_sum_assignment(one.numpy())[1] for one in distance]
    index = torch.stack([torch.as_tensor(order) for order in orders])
    return guess.take_along_dim(index[..., None], dim=1)


def likeness(
    original: Float[Tensor, "V B p"],
    guess: Float[Tensor, "V B p"],
    columns: Columns,
    client_records: Float[Tensor, "n p"],
) -> Likeness:
    """Compare guesses, aligned with the originals first."""
    guess = aligned(original, guess, columns).flatten(0, 1)
    original = original.flatten(0, 1)
    by_column: dict[str, float] = {}
    squares = ((guess - original) / columns.scale).square()
    for name, place in columns.numbers:
        by_column[name] = float(squares[:, place].mean().sqrt())
    rights = []
    for name, places in columns.categories:
        given = original[:, places].amax(1) > 0.5
        right = (guess[:, places].argmax(1) == original[:, places].argmax(1))[given]
        rights.append(right.float())
        by_column[name] = float(right.float().mean())  # NaN where nobody has a value
    numbers = [place for _, place in columns.numbers]
    to_all = torch.cdist(
        guess / columns.scale,
        client_records / columns.scale,
        compute_mode="donot_use_mm_for_euclid_dist",  # which cannot tell small distances
    )
    to_own = ((guess - original) / columns.scale).norm(dim=1)
    mse = float((guess - original).square().mean())
    return Likeness(
        rmse=float(squares[:, numbers].mean().sqrt()),
        categories=float(torch.cat(rights).mean()) if rights else float("nan"),
        identified=float((to_own <= to_all.amin(1) * (1 + 1e-4) + 1e-6).float().mean()),
        mse=mse,
        psnr=float(-10 * torch.tensor(mse).clamp(min=1e-20).log10()),
        by_column=by_column,
    )
