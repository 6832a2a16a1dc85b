"""Attacks on updates: what the dishonest clients send instead of their own.

An attack that asks for `honest` is omniscient: it runs only where all updates meet.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from jaxtyping import Float
from torch import Tensor

from fedmodel.errors import FedmodelError

__all__ = ["a_little_is_enough", "sign_flip"]


def sign_flip(own: Float[Tensor, "M d"], *, scale: float = 1.0) -> Float[Tensor, "M d"]:
    """Send the opposite of the update that honest training gave, `scale` times as long.

    Li et al., AAAI 2019 (RSA), sign-flipping attack.
    """
    return -scale * own


def a_little_is_enough(
    own: Float[Tensor, "M d"], *, honest: Float[Tensor, "H d"], deviations: float | None = None
) -> Float[Tensor, "M d"]:
    """Hide inside the spread of the honest updates (Baruch et al., NeurIPS 2019, Algorithm 3).

    The attackers need ``floor(n / 2 + 1) - M`` honest clients farther from the mean than they are;
    the normal quantile says how far they may then go, in standard deviations of each coordinate.
    `deviations` sets that distance instead.

    Raises:
        FedmodelError: fewer than two honest updates, or attackers that are the majority already.
    """
    if len(honest) < 2:
        raise FedmodelError(
            f"a_little_is_enough hides among honest updates, and there are {len(honest)}",
            where="[attack]",
            fix="Sample more clients a round, or fewer attackers.",
        )
    if deviations is None:
        num_clients = len(own) + len(honest)
        supporters = math.floor(num_clients / 2 + 1) - len(own)
        if supporters <= 0:
            raise FedmodelError(
                f"{len(own)} of {num_clients} sampled clients are attackers: a majority need not hide",
                where="[attack]",
                fix="Choose a smaller share of attackers, or set `deviations`.",
            )
        share = (num_clients - len(own) - supporters) / len(honest)
        # With very few clients the formula allows no distance at all; half is its own lower end.
        deviations = max(0.0, NormalDist().inv_cdf(share)) if share > 0 else 0.0
    target = honest.mean(0) - deviations * honest.std(0)
    return target.expand_as(own).clone()
