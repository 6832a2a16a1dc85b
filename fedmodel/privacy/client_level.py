"""Privacy of whole clients: the noise of each round's release, and what the rounds add up to.

- ``central``: the server clips and adds up the updates of a Poisson sample and noises the sum once.
  Neighbours differ by one client that takes part or not, so the sum moves by at most the clipping
  bound C; a round is one step of the sampled Gaussian mechanism at sample rate q for everybody,
  asked or not (McMahan et al., ICLR 2018).
- ``local``: each client noises its own update. Neighbours differ in all of one client's records,
  which moves the update by at most 2 C; each round that the client takes part in is one step, without
  sampling.
- ``distributed``: as local, but each client adds only its part of the noise, since the server sees
  nothing but the sum (`fedmodel.secure.noise`).
"""

from __future__ import annotations

import math

import numpy as np

from fedmodel.errors import FedmodelError
from fedmodel.privacy.budget import Budget, ClientPlans
from fedmodel.privacy.calibration import noise_for
from fedmodel.privacy.checks import check_setting

__all__ = ["noise_multiplier_of", "plan_clients", "sensitivity", "split_noise"]


def sensitivity(budget: Budget) -> float:
    """How far one unit moves what is noised, in multiples of the clipping bound.

    In mode "distributed" of the bound after rounding (`fedmodel.secure.noise`).
    """
    return 2.0 if budget.mode in ("local", "distributed") else 1.0


def noise_multiplier_of(budget: Budget, *, sample_rate: float) -> float:
    """Standard deviation of the noise over the clipping bound, given or calibrated for `epsilon`.

    `sample_rate` is the chance of a client to be asked in a round (1 but for mode "central"); the budget's
    `participations` are the rounds that count.

    Raises FedmodelError where no noise keeps to the budget.
    """
    check_setting(sample_rate=sample_rate, steps=budget.participations)
    if budget.noise_multiplier is not None:
        return budget.noise_multiplier
    assert budget.epsilon is not None  # a budget has one of the two
    try:
        noise = noise_for(
            epsilon=budget.epsilon,
            sample_rate=sample_rate,
            steps=budget.participations,
            delta=budget.delta,
            accountant=budget.accountant,
        )
    except FedmodelError as error:
        error.where = error.where or "[privacy] epsilon"
        raise
    return sensitivity(budget) * noise


def plan_clients(budget: Budget, *, num_clients: int, sample_rate: float = 1.0) -> ClientPlans:
    """The plan of each of K clients: a round is one noisy step, and everybody's noise is the same.

    >>> budget = Budget(unit="client", mode="central", epsilon=4.0, delta=1e-3, participations=50)
    >>> plan_clients(budget, num_clients=3, sample_rate=0.1).max_steps
    array([50, 50, 50])
    """
    everybody = np.ones(num_clients)
    noise = noise_multiplier_of(budget, sample_rate=sample_rate)
    return ClientPlans(
        budget=budget,
        sample_rate=sample_rate * everybody,
        noise_multiplier=noise * everybody,
        steps=np.ones(num_clients, dtype=np.int64),
        max_steps=np.full(num_clients, budget.participations),
        expected_batch_size=sample_rate * everybody,  # each client is a batch's one unit
        target=np.full(num_clients, budget.epsilon or math.inf),
        warnings=tuple(cautions(budget, num_clients)),
    )


def split_noise(noise_multiplier: float, count_noise: float) -> float:
    """The noise multiplier of the sum, where a count beside it is noised too: Andrew et al. 2021, Theorem 1.

    z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2): both releases together then cost what one with z does.
    The count adds up numbers of +-1/2, so that one client moves it by 1/2.

    Raises FedmodelError where the count alone costs more than z allows.

    >>> round(split_noise(1.0, 5.0), 4)
    1.005
    """
    rest = noise_multiplier**-2 - (2 * count_noise) ** -2
    if not rest > 0:
        raise FedmodelError(
            f"count_noise = {count_noise:g} leaves no privacy for the updates: the count alone costs "
            f"more than the noise multiplier {noise_multiplier:g} allows",
            where="[privacy] clip",
            fix=f"Choose count_noise well above {noise_multiplier / 2:.3g}, or leave it out.",
        )
    return 1 / math.sqrt(rest)


def cautions(budget: Budget, num_clients: int) -> list[str]:
    """What is allowed but should give pause."""
    found = []
    if budget.delta * num_clients >= 1:
        found.append(
            f"delta={budget.delta:g} is at least 1 / {num_clients}, one over the number of clients: "
            "it would allow one of them to be published outright. Choose a delta well below "
            f"{1 / num_clients:.1g}."
        )
    if budget.accountant == "gdp":
        found.append("The GDP accountant is an approximation: it can understate epsilon.")
    return found
