"""Train a cohort by its behaviour: in parts that fit into memory, with each client's failure its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedmodel.catalogue import Component
from fedmodel.cohort import Cohort
from fedmodel.cohort.machine import processor_threads
from fedmodel.errors import FedmodelError, RunFailed, plugin_fault, user_place, what_failed
from fedmodel.scheduling import behaviour_in

__all__ = ["Trained", "falsified", "train_cohort"]

# Parameters, gradients, noise and moments of the clients that train at once: so many vectors each.
# What single records need is the gradient kernels' own affair.
COHORT_BYTES, COPIES = 128 << 20, 8
# Operations of a thread's share of a step, below which it is not worth the thread (measured).
STEP_FLOPS = 20e6

NOT_FINITE = (
    "the update is not finite (NaN or infinity in training). Choose a smaller "
    "client.learning_rate, or scale the features (data.encode)."
)


@dataclass
class Trained:
    """What became of K clients. A client that failed has a reason, and zeros for an update."""

    delta: Float[Tensor, "K d"]
    noise_steps: np.ndarray  # [K] noisy steps really taken
    loss: Float[Tensor, " K"]  # mean training loss; NaN where none was noted
    failures: dict[int, str]  # row -> reason

    @property
    def good(self) -> list[int]:
        """The rows of the clients that did not fail."""
        return [row for row in range(len(self.delta)) if row not in self.failures]


def train_cohort(behaviour: Any, cohort: Cohort, start: Float[Tensor, " d"]) -> Trained:
    """Let the behaviour train the cohort from the global model, on the cohort's threads.

    1. Split the clients so that each thread has a part, and a part's parameters and gradients stay
       under `COHORT_BYTES`. A client's draws do not depend on its company.
    2. A part that raises is repeated client by client: only whoever raises alone has failed.
    3. An update that is not finite is a failure.

    Raises:
        RunFailed: the behaviour returns another shape, or draws noise that no accountant covers.
    """
    behaviour, threads = behaviour_in(behaviour, cohort.round), cohort.threads
    most = max(1, COHORT_BYTES // (4 * cohort.model.size * COPIES))
    number = -(-cohort.size // most)
    # A thread with little to compute would spend its time on the way to it: clients of small models
    # leave the threads to compiled loops.
    flops = 6 * cohort.model.size * cohort.training.batch_size * cohort.size
    spread = 1
    if flops > threads * STEP_FLOPS:
        number = min(cohort.size, -(-number // threads) * threads)
        spread = min(threads, number)
        cohort = replace(cohort, threads=threads // spread)
    parts = [cohort]
    if number > 1:
        parts = list(cohort.parts(clients=-(-cohort.size // number)))

    def train(part: Cohort) -> Trained:
        return _train_part(behaviour, part, start)

    with processor_threads(threads // spread if spread > 1 else 1):
        if spread == 1:
            return _joined([train(part) for part in parts])
        return _joined(list(_pool(threads).map(train, parts)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fedmodel")


def _train_part(behaviour: Any, cohort: Cohort, start: Tensor) -> Trained:
    try:
        delta = _train(behaviour, cohort, start)
    except FedmodelError:
        raise
    except Exception as error:
        if cohort.size > 1:
            return _joined([_train_part(behaviour, p, start) for p in cohort.parts(clients=1)])
        delta = start.new_zeros(1, cohort.model.size)
        failures = {0: plugin_fault(error)}
    else:
        failures = dict.fromkeys(torch.nonzero(~_finite(delta)).flatten().tolist(), NOT_FINITE)
    return Trained(delta, cohort.noise_steps, cohort.training_loss, failures)


def falsified(
    attack: Component, own: Float[Tensor, "M d"], *, round: int, **supplied: Tensor
) -> Float[Tensor, "M d"]:
    """What dishonest clients send instead of their own updates.

    Raises:
        RunFailed: the attack raised, or returned another shape.
    """
    try:
        sent = attack(own, **supplied)
    except FedmodelError:
        raise
    except Exception as error:
        raise RunFailed(
            f"the attack {attack.name} failed in round {round}: {what_failed(error)}",
            where=user_place(error) or "[attack]",
            fix="Mend the attack and resume.",
        ) from error
    if not isinstance(sent, Tensor) or sent.shape != own.shape:
        got = tuple(sent.shape) if isinstance(sent, Tensor) else type(sent).__name__
        raise RunFailed(
            f"the attack {attack.name} returned {got}",
            where="[attack]",
            fix=f"It must return a tensor [M, d] = {tuple(own.shape)}.",
        )
    return sent


def _train(behaviour: Any, cohort: Cohort, start: Tensor) -> Float[Tensor, "K d"]:
    cohort.model.module.train()
    delta = behaviour.train(cohort, start)
    name, expected = type(behaviour).__name__, (cohort.size, cohort.model.size)
    if not isinstance(delta, Tensor) or tuple(delta.shape) != expected:
        got = tuple(delta.shape) if isinstance(delta, Tensor) else type(delta).__name__
        raise RunFailed(
            f"{name}.train returned {got}",
            where="[client]",
            fix=f"It must return a tensor [K, d] = {expected}.",
        )
    if cohort.training.private:
        _check_noise(name, cohort)
    return delta.detach()


def _check_noise(name: str, cohort: Cohort) -> None:
    """The accountant assumes Poisson batches, and noise once for each."""
    taken, noised = cohort.poisson_steps, cohort.noise_steps
    if (taken != noised).any():
        raise RunFailed(
            f"{name} took {taken.max()} Poisson batches and added noise {noised.max()} times: "
            "no accountant covers that",
            where="[client]",
            fix="Draw one cohort.poisson_batch(step) and one cohort.normal(step, ...) a step.",
        )
    if not noised.all():
        raise RunFailed(
            f"{name} is declared private and added no noise",
            where="[client]",
            fix="Add cohort.normal(step, gradient), or set `private = False`.",
        )


def _finite(delta: Float[Tensor, "K d"]) -> Bool[Tensor, " K"]:
    # A sum is finite unless a term is not (or all are huge, which is no better).
    return torch.isfinite(delta.sum(1))


def _joined(parts: list[Trained]) -> Trained:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.delta) for part in parts)])
    return Trained(
        torch.cat([part.delta for part in parts]),
        np.concatenate([part.noise_steps for part in parts]),
        torch.cat([part.loss for part in parts]),
        {
            int(start) + row: why
            for start, part in zip(starts, parts)
            for row, why in part.failures.items()
        },
    )
