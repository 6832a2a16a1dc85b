"""From scores of canaries to guesses, and from guesses to a lower bound on epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fedmodel.privacy.accounting import epsilon_of_clients
from fedmodel.privacy.audit import epsilon_lower_bound

__all__ = ["SHARES", "Bound", "Scored", "best_bound", "standardised"]

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the canaries that are guessed, fixed beforehand


@dataclass(frozen=True)
class Bound:
    """The best of several lower bounds on epsilon, and the guesses that it stands on."""

    epsilon: float
    canaries: int
    guesses: int
    correct: int
    significance: float  # that any of the tried bounds is wrong


@dataclass(frozen=True)
class Scored:
    """M canaries of all clients: their scores, coins and clients; and what each client spent."""

    score: Float[np.ndarray, " M"]
    inside: Bool[np.ndarray, " M"]
    client: Int[np.ndarray, " M"]
    histories: list[list[tuple[float, float, int]]]

    def epsilon(self, delta: float, accountant: str) -> float:
        """What the accountant says of the client that spent most; infinite without noise."""
        if not any(self.histories):
            return math.inf
        figures = epsilon_of_clients(self.histories, delta=delta, accountant=accountant)
        return max(figure.epsilon for figure in figures)


def best_bound(
    score: Float[np.ndarray, " M"],
    inside: Bool[np.ndarray, " M"],
    *,
    delta: float,
    significance: float,
) -> Bound:
    """Guess the most confident canaries: the highest scores are inside, the lowest outside.

    Tries every share of `SHARES`, half of it at each end. The coins decide which one looks best,
    so each is tested at an equal part of the significance (union bound).
    """
    order = np.argsort(-score, kind="stable")
    tried = []
    for share in SHARES:
        guesses = max(1, round(share * len(score)))
        high, low = order[: (guesses + 1) // 2], order[len(order) - guesses // 2 :]
        correct = int(inside[high].sum() + (~inside[low]).sum())
        epsilon = epsilon_lower_bound(
            canaries=len(score),
            guesses=guesses,
            correct=correct,
            delta=delta,
            significance=significance / len(SHARES),
        )
        tried.append(Bound(epsilon, len(score), guesses, correct, significance))
    return max(tried, key=lambda bound: (bound.epsilon, bound.guesses))


def standardised(
    score: Float[np.ndarray, " M"], client: Int[np.ndarray, " M"]
) -> Float[np.ndarray, " M"]:
    """Each client's scores with mean 0 and standard deviation 1, so that clients compare."""
    result = np.zeros(len(score))
    for number in np.unique(client):
        own = score[client == number]
        result[client == number] = (own - own.mean()) / max(float(own.std()), 1e-12)
    return result
