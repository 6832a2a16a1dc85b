"""Differential privacy of the scales that features are encoded with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fedmodel.errors import FedmodelError
from fedmodel.privacy.accounting import History, epsilon_of_history
from fedmodel.privacy.calibration import noise_for
from fedmodel.privacy.updates import noise_rows

__all__ = ["EncodingNoise", "encoding_noise"]


@dataclass(frozen=True, kw_only=True)
class EncodingNoise:
    """The Gaussian mechanism on each client's sums over its training records, told once.

    Each client adds normal noise of standard deviation ``noise_multiplier * sensitivity`` to each of
    its sums before they leave it, so it holds against the server as well. One record added or
    removed moves the sums of one client by at most `sensitivity` in the L2 norm: that is charged as
    (`noise_multiplier`, sample rate 1, one step). Dwork and Roth 2014, appendix A.
    """

    noise_multiplier: float  # standard deviation over sensitivity
    seed: int

    @property
    def history(self) -> History:
        """What each training record is charged."""
        return ((self.noise_multiplier, 1.0, 1),)

    def __call__(
        self, sums: Float[np.ndarray, "K S"], *, sensitivity: float
    ) -> tuple[Float[np.ndarray, "K S"], float]:
        """What K clients send instead of their sums, and the standard deviation of its noise."""
        clients, width = sums.shape
        drawn = noise_rows(range(clients), width, seed=self.seed, round=0, purpose="encoding noise")
        deviation = self.noise_multiplier * sensitivity
        return sums + deviation * drawn.double().numpy(), deviation


def encoding_noise(
    *, epsilon: float, limit: float | None, delta: float, accountant: str, seed: int
) -> EncodingNoise:
    """The noise with which the scales alone cost at most epsilon.

    `limit` is the smallest epsilon that any client has for everything, if there is one.

    Raises:
        FedmodelError: nothing of it would be left for training, or no noise is enough.
    """
    where = "[privacy] encoding_epsilon"
    try:
        noise = noise_for(
            epsilon=epsilon, sample_rate=1.0, steps=1, delta=delta, accountant=accountant
        )
    except FedmodelError as error:
        error.where = error.where or where
        raise
    made = EncodingNoise(noise_multiplier=noise, seed=seed)
    if limit is not None:
        spent = epsilon_of_history(made.history, delta=delta, accountant=accountant).epsilon
        if spent >= limit:
            raise FedmodelError(
                f"encoding_epsilon = {epsilon:g} leaves nothing of epsilon = {limit:g} to train with",
                where=where,
                fix=f"Choose a part of it, e.g. encoding_epsilon = {limit / 10:.2g}.",
            )
    return made
