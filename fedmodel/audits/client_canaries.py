"""Canaries that are clients: updates of the largest norm in random directions, each by a fair coin.

What is attacked is the mechanism itself, by the code of a run. A canary's score is its update's inner
product with what the adversary sees, added up over the rounds (Andrew et al., ICLR 2024). The adversary
knows everything but the coins, the noise, and which canaries were drawn: also what the other clients
sent, which is subtracted.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from flwr.app import ConfigRecord
from jaxtyping import Bool, Float
from torch import Tensor

from fedmodel._flower import Layout, arrays_of, vector_of
from fedmodel.apps import CohortApp, Workload
from fedmodel.audits.guessing import Scored, standardised
from fedmodel.audits.planting import coins, directions
from fedmodel.audits.retraining import parts_of, retrained, unmasked_mean
from fedmodel.cohort import Cohort
from fedmodel.grids.inline import InlineGrid
from fedmodel.grids.local import FIRST_NODE
from fedmodel.messages import Instructions, Replies
from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.updates import LocalRelease, clip_rows
from fedmodel.randomness import SERVER
from fedmodel.secure.answers import Plan
from fedmodel.strategies.compose import compose

__all__ = ["central", "distributed", "local", "room"]

LONGER = 10.0  # times the bound is what a canary would send: without the clip it would show
NUMBERS = 1 << 26  # in the updates of all canaries, which are held at once
DRAWS = 1 << 22  # of discrete noise, in a round: some seconds


def central(work: Workload, strategy: compose, plans: ClientPlans, *, number: int) -> Scored:
    """Canary clients of a server that noises the sum, scored by the global models of all rounds.

    1. `number` canary clients join the federation, or fewer: one for each number that the rounds
       release, times the sampling rate. A coin says whether a canary takes part or not.
    2. Each round the strategy draws clients, canaries among them. The real ones train; a canary sends
       an update in a direction of its own, and of ten times the norm allowed.
    3. The strategy clips, adds up, noises, and moves the model, from which the sum is read.

    A server optimiser is left out: it works on what was released already. All clients that the
    coins could make are counted in the number of clients, which is public.
    """
    strategy, rounds, seed = deepcopy(strategy), plans.budget.participations, work.seed
    strategy.optimiser = None
    real, size, rate = work.data.num_clients, work.model.size, strategy.sample
    number = max(1, min(number, int(rate * size * rounds), NUMBERS // size))
    grid = InlineGrid(CohortApp(work), num_clients=real + number)  # it is asked for its nodes only
    grid.close()
    everybody, inside = np.arange(number), coins(seed, SERVER, number, "client coins")
    layout = Layout(work.model.names, work.model.shapes)
    start, score = work.model.initial, torch.zeros(number, dtype=torch.float64)
    for round in range(1, rounds + 1):
        bound, toward = strategy.clip_bound, directions(everybody, size, seed=seed, round=round)
        asked = strategy.configure_train(round, arrays_of(start, layout), ConfigRecord(), grid)
        assert isinstance(asked, Instructions)
        drawn = np.array(asked.nodes, dtype=np.int64) - FIRST_NODE
        there = drawn[drawn >= real] - real
        there = there[inside[there]]
        own = _updates(work, drawn[drawn < real], start, round)
        sent = torch.cat([own, LONGER * bound * toward[there]])
        nodes = [*(drawn[drawn < real] + FIRST_NODE), *(there + real + FIRST_NODE)]
        replies = Replies([int(node) for node in nodes], "train", layout, start + sent)
        arrays, _ = strategy.aggregate_train(round, replies)
        assert arrays is not None
        moved = vector_of(arrays) - start
        if pace := strategy.rate_in(round):  # else nothing is seen of this round
            total = moved * (rate * (real + number) / pace)
            known = clip_rows(own, bound=bound).sum(0) + rate / 2 * bound * toward.sum(0)
            score += (toward @ (total - known)).double() / bound
        start = start + moved
    history = (float(plans.noise_multiplier.max()), float(plans.sample_rate.max()), rounds)
    return _scored(score, inside, real, history)


def local(work: Workload, release: LocalRelease, plans: ClientPlans, *, number: int) -> Scored:
    """Canary clients that noise their own updates, each scored by the updates that the server gets.

    Neighbours differ in all records of a client, so the coin says which of two opposite updates a
    canary sends, in as many rounds as a client takes part in. Nothing that it sends depends on
    another client: none is trained.
    """
    rounds, size, seed = plans.budget.participations, work.model.size, work.seed
    number = max(1, min(number, NUMBERS // size))
    everybody, inside = np.arange(number), coins(seed, SERVER, number, "client coins")
    real, score = work.data.num_clients, torch.zeros(number, dtype=torch.float64)
    for round in range(1, rounds + 1):
        toward = directions(everybody, size, seed=seed, round=round)
        own = LONGER * release.clip * _signs(inside) * toward
        sent = release(own, clients=real + everybody, round=round)
        score += (sent * toward).sum(1).double() / release.clip
    return _scored(score, inside, real, (release.charged, 1.0, rounds))


def room(number: int, work: Workload, plans: ClientPlans) -> int:
    """How many canary clients, of `number`, `distributed` has room for."""
    size = work.model.size
    return max(1, min(number, size * plans.budget.participations, DRAWS // size))


def distributed(work: Workload, plan: Plan, plans: ClientPlans, *, number: int) -> Scored:
    """Canary clients under secure aggregation, scored by the sum of each round's updates.

    `plan` is for a sum of the real clients and `number` canaries, with the least noise that such a
    sum may have; all of them are in it in as many rounds as a client takes part in. The coin says
    which of two opposite updates a canary sends. Words are added up without masks, which cancel.
    """
    assert plan.noise is not None
    rounds, size, seed = plans.budget.participations, work.model.size, work.seed
    clip, summed = plan.noise.clip, plan.noise.fewest
    real, everybody = work.data.num_clients, np.arange(number)
    inside = coins(seed, SERVER, number, "client coins")
    start, score = work.model.initial, torch.zeros(number, dtype=torch.float64)
    for round in range(1, rounds + 1):
        toward = directions(everybody, size, seed=seed, round=round)
        own = _updates(work, np.arange(real), start, round)
        sent = torch.zeros(summed, size)  # of a sum of two, each part is known
        sent[:real], sent[real : real + number] = own, LONGER * clip * _signs(inside) * toward
        mean = unmasked_mean(plan, sent, records=[1] * summed, round=round, seed=seed)
        known = clip_rows(own, bound=clip).double().sum(0)
        score += toward.double() @ (summed * mean - known) / clip
        start = start + mean.float()
    return _scored(score, inside, real, (plan.noise.charged, 1.0, rounds))


def _updates(
    work: Workload, clients: np.ndarray, start: Float[Tensor, " d"], round: int
) -> Float[Tensor, "K d"]:
    """What real clients send, before anything is done to it."""
    if not len(clients):
        return start.new_zeros(0, len(start))
    cohort = Cohort(*parts_of(work, clients, round))
    return retrained(work, cohort, start.to(work.device)).delta.cpu()


def _signs(inside: Bool[np.ndarray, " M"]) -> Float[Tensor, "M 1"]:
    return torch.from_numpy(np.where(inside, 1.0, -1.0).astype(np.float32))[:, None]


def _scored(
    score: Float[Tensor, " M"],
    inside: Bool[np.ndarray, " M"],
    real: int,
    history: tuple[float, float, int],
) -> Scored:
    """The canaries, numbered after the real clients; each spends the same."""
    number = len(inside)
    comparable = standardised(score.numpy(), np.zeros(number, dtype=np.int64))
    return Scored(comparable, inside, real + np.arange(number), [[history]])
