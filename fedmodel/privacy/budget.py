"""What each client may spend: sample rate, noise and steps, planned from its own size.

A client with n training records puts each of them in a batch with chance q = min(1, batch size / n),
takes ceil(n / batch size) steps an epoch, and divides by q n. n is public: it weights the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import bdtrc

from fedmodel.config import LEAST_CLIP, MOST_CLIP
from fedmodel.errors import FedmodelError
from fedmodel.privacy.accounting import History, check_accountant
from fedmodel.privacy.calibration import noise_for_clients
from fedmodel.privacy.checks import check_delta, check_epsilon

MOST_STEPS = 10**9  # of a client in one round

__all__ = [
    "Budget",
    "ClientPlans",
    "plan",
    "sample_rate",
    "share_declining",
    "steps_per_epoch",
    "steps_per_round",
]


def sample_rate(n: ArrayLike, batch_size: int) -> Float[np.ndarray, " K"]:
    """Chance of each of n records to be in a batch: min(1, batch size / n).

    Takes an array, a tensor or a list.

    >>> sample_rate([20, 320], 32)
    array([1. , 0.1])
    """
    check_batch_size(batch_size)
    return np.minimum(1.0, batch_size / np.maximum(np.asarray(n), 1))


def steps_per_epoch(n: ArrayLike, batch_size: int) -> Int[np.ndarray, " K"]:
    """Steps until each of n records is expected to have been drawn once: ceil(n / batch size).

    >>> steps_per_epoch([20, 100], 32)
    array([1, 4])
    """
    check_batch_size(batch_size)
    return -(-np.asarray(n) // batch_size)


def steps_per_round(
    n: ArrayLike, batch_size: int, *, epochs: float | None = None, steps: int | None = None
) -> Int[np.ndarray, " K"]:
    """Steps of each client in one round, by epochs or, equal for all, by steps; 0 without records.

    Whole epochs take ``epochs * ceil(n / batch_size)`` steps, a broken number of them
    ``ceil(epochs * n / batch_size)``. Raises FedmodelError unless exactly one of both is given.

    >>> steps_per_round([20, 100], 32, epochs=2), steps_per_round([20, 100], 32, epochs=0.5)
    (array([2, 8]), array([1, 2]))
    """
    check_batch_size(batch_size)
    sizes = np.asarray(n)
    if steps is not None and epochs is None:
        if not (steps >= 1 and steps % 1 == 0):
            raise FedmodelError(f"steps={steps} a round", fix="Choose a whole number, 1 or more.")
        _check_steps(steps, "steps")
        return np.where(sizes > 0, int(steps), 0)
    if epochs is not None and steps is None:
        if not 0 < epochs < math.inf:
            raise FedmodelError(f"epochs={epochs} a round", fix="Choose a number above 0.")
        _check_steps(epochs * (1 + sizes.max(initial=0) / batch_size), "epochs")
        if epochs % 1 == 0:
            return int(epochs) * steps_per_epoch(sizes, batch_size)
        # 0.1 epochs of 300 records in batches of 10 are 3 steps, whatever the last bit says.
        return np.ceil(epochs * sizes / batch_size - 1e-9).astype(np.int64)
    raise FedmodelError(
        f"epochs={epochs} and steps={steps}: a round needs one of the two",
        fix="Give epochs (passes over the client's records) or steps, and leave the other out.",
    )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run promises for one record of any client, over the whole run.

    Either `epsilon`, for which each client's noise is calibrated, or one `noise_multiplier` for
    all. `participations` is the number of rounds that a client plans for, and after which it
    declines. Raises FedmodelError for a value out of range.
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    clip: float = 1.0  # bound on the norm of one record's gradient
    participations: int
    accountant: str = "prv"
    noise: str = "seeded"  # reproducible; or "secure": from a cryptographic source
    unit: str = "record"  # what is protected; or "client": see `fedmodel.privacy.client_level`
    mode: str | None = None  # of unit "client": who adds the noise, "central" or "local"

    def __post_init__(self) -> None:
        check_delta(self.delta)
        check_accountant(self.accountant)
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise FedmodelError(
                f"epsilon={self.epsilon} and noise_multiplier={self.noise_multiplier}: "
                "a budget needs one of the two",
                fix="Give epsilon to calibrate the noise, or noise_multiplier to set it.",
            )
        if self.epsilon is not None:
            check_epsilon(self.epsilon)
        if self.noise_multiplier is not None and not 0 < self.noise_multiplier < math.inf:
            raise FedmodelError(
                f"noise_multiplier={self.noise_multiplier} is not above 0",
                fix="It is the noise's standard deviation divided by the clipping bound.",
            )
        if not LEAST_CLIP <= self.clip <= MOST_CLIP:
            raise FedmodelError(
                f"clip={self.clip} is not between {LEAST_CLIP:g} and {MOST_CLIP:g}",
                fix="Choose a norm to clip each record's gradient to, for example 1.0.",
            )
        if not (self.participations >= 1 and self.participations % 1 == 0):
            raise FedmodelError(
                f"participations={self.participations} is not a number of rounds",
                fix="Choose a whole number, 1 or more; the number of rounds is always enough.",
            )
        if self.noise not in ("seeded", "secure"):
            raise FedmodelError(
                f"no source of noise is called {self.noise!r}",
                fix='Choose "seeded" (reproducible, for experiments) or "secure".',
            )


@dataclass(frozen=True, kw_only=True)
class ClientPlans:
    """How each of K clients trains within the budget, and when it has to stop."""

    budget: Budget
    sample_rate: Float[np.ndarray, " K"]  # chance of a record to be in a batch
    noise_multiplier: Float[np.ndarray, " K"]  # standard deviation over clip
    steps: Int[np.ndarray, " K"]  # a round; 0 without records
    max_steps: Int[np.ndarray, " K"]  # over the run: the limit is in steps, exactly
    expected_batch_size: Float[np.ndarray, " K"]  # q n
    target: Float[
        np.ndarray, " K"
    ]  # epsilon that the noise was calibrated for; inf where it was set
    warnings: tuple[str, ...] = ()
    released: History = ()  # of every client's records before training: scales of their features


def plan(
    budget: Budget,
    *,
    sizes: ArrayLike,
    batch_size: int,
    epochs: float | None = None,
    steps: int | None = None,
    targets: ArrayLike | None = None,
    released: History = (),
) -> ClientPlans:
    """Plan each of K clients from its number of training records alone (an array or a tensor).

    With `budget.epsilon` a client gets the least noise with which `participations` rounds keep
    to it, or to its own of the `targets` [K], of which `budget.epsilon` is the largest. What is
    `released` of its records otherwise is paid from the same budget. Raises FedmodelError where no
    noise does.
    """
    count = np.asarray(sizes)
    target = np.broadcast_to(
        np.asarray(budget.epsilon or math.inf if targets is None else targets, dtype=np.float64),
        count.shape,
    )
    rate = sample_rate(count, batch_size)
    each_round = steps_per_round(count, batch_size, epochs=epochs, steps=steps)
    largest = int(each_round.max(initial=0)) * budget.participations
    if largest >= 2**63:
        raise FedmodelError(
            f"a client plans for {largest:.3g} steps",
            where="[privacy] participations",
            fix="Choose fewer participations, rounds or steps.",
        )
    max_steps = budget.participations * each_round
    if budget.noise_multiplier is not None:
        noise = [budget.noise_multiplier] * len(count)
    else:
        noise = noise_for_clients(
            epsilon=target.tolist(),
            sample_rates=rate.tolist(),
            steps=max_steps.tolist(),
            delta=budget.delta,
            accountant=budget.accountant,
            released=released,
        )
    return ClientPlans(
        budget=budget,
        sample_rate=rate,
        noise_multiplier=np.array(noise, dtype=np.float64),
        steps=each_round,
        max_steps=max_steps,
        expected_batch_size=rate * count,
        target=target,
        warnings=tuple(cautions(budget, count)),
        released=tuple(released),
    )


def cautions(budget: Budget, sizes: Int[np.ndarray, " K"]) -> list[str]:
    """What is allowed but should give pause."""
    found = []
    if large := int((sizes * budget.delta >= 1).sum()):
        found.append(
            f"delta={budget.delta:g} is at least 1 / n for {large} of {len(sizes)} clients (the "
            f"largest has n={int(sizes.max())}): it would allow one of their records to be "
            f"published outright. Choose a delta well below {1 / int(sizes.max()):.1g}."
        )
    if budget.accountant == "gdp":
        found.append("The GDP accountant is an approximation: it can understate epsilon.")
    return found


def share_declining(*, participations: int, rounds: int, sample: float) -> float:
    """Expected share of clients that are asked in more rounds than they planned for.

    Each client is asked in a round with chance `sample`, independently over rounds.

    >>> round(share_declining(participations=13, rounds=50, sample=0.25), 2)
    0.36
    """
    return float(bdtrc(participations, rounds, sample)) if participations < rounds else 0.0


def check_batch_size(batch_size: int) -> None:
    if not batch_size >= 1:
        raise FedmodelError(f"batch_size={batch_size}", fix="Choose 1 or more.")


def _check_steps(steps: float, key: str) -> None:
    if steps > MOST_STEPS:
        raise FedmodelError(
            f"{steps:.3g} steps a round are more than {MOST_STEPS:.0g}",
            where=f"[client] {key}",
            fix="Choose fewer epochs or steps, or larger batches.",
        )
