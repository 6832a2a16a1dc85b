"""How far the global model moves: optimisers that take a round's aggregate as a step, and remember.

Each is a function of the aggregate [d] and of what it remembers; it returns the move and what to
remember. Noise is in the aggregate already, so that a private move stays private (post-processing),
and nothing but the aggregate is needed, so that sums are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

__all__ = ["adagrad", "adam", "momentum", "yogi"]

Decay = Annotated[float, Field(ge=0, lt=1)]
Memory = Mapping[str, Tensor]
Moved = tuple[Float[Tensor, " d"], dict[str, Tensor]]


def momentum(
    step: Float[Tensor, " d"],
    *,
    memory: Memory,
    learning_rate: PositiveFloat = 1.0,
    decay: Decay = 0.9,
) -> Moved:
    """Add up past aggregates, each `decay` times the next (FedAvgM: Hsu et al., 2019, Section 4.3).

    m <- decay m + step; the model moves by learning_rate m, so in the end by
    learning_rate / (1 - decay) of a steady aggregate. Flower's `FedAvgM`.

    >>> step = torch.ones(1)
    >>> moved, memory = momentum(step, memory={}, decay=0.5)
    >>> momentum(step, memory=memory, decay=0.5)[0]
    tensor([1.5000])
    """
    first = decay * memory["first"] + step if memory else step.clone()
    return learning_rate * first, {"first": first}


def adam(
    step: Float[Tensor, " d"],
    *,
    memory: Memory,
    round: int,
    learning_rate: PositiveFloat = 0.1,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.99,
    tau: PositiveFloat = 1e-3,
) -> Moved:
    """Scale each coordinate by its recent size (FedAdam: Reddi et al., ICLR 2021, Algorithm 2).

    v <- beta_2 v + (1 - beta_2) step^2, and m likewise with beta_1; the model moves by
    learning_rate m / (sqrt(v) + tau). Corrects for m and v starting at zero as Flower's `FedAdam`
    does, by sqrt(1 - beta_2^(t + 1)) / (1 - beta_1^(t + 1)) in round t = 1, 2, ...

    >>> adam(torch.tensor([1.0]), memory={}, round=1, beta_1=0.0, beta_2=0.0, tau=1e-9)[0]
    tensor([0.1000])
    """
    first = _first(step, memory, beta_1)
    second = beta_2 * _second(step, memory) + (1 - beta_2) * step**2
    correction = (1 - beta_2 ** (round + 1)) ** 0.5 / (1 - beta_1 ** (round + 1))
    return _scaled(learning_rate * correction, first, second, tau)


def yogi(
    step: Float[Tensor, " d"],
    *,
    memory: Memory,
    learning_rate: PositiveFloat = 0.01,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.99,
    tau: PositiveFloat = 1e-3,
) -> Moved:
    """`adam` whose scale forgets large steps slowly (FedYogi: Reddi et al., ICLR 2021, Algorithm 2).

    v <- v - (1 - beta_2) step^2 sign(v - step^2), without correction. Flower's `FedYogi`.

    >>> yogi(torch.tensor([1.0]), memory={}, beta_1=0.0, beta_2=0.0, tau=1e-9)[0]
    tensor([0.0100])
    """
    first, second, square = _first(step, memory, beta_1), _second(step, memory), step**2
    second = second - (1 - beta_2) * square * torch.sign(second - square)
    return _scaled(learning_rate, first, second, tau)


def adagrad(
    step: Float[Tensor, " d"],
    *,
    memory: Memory,
    learning_rate: PositiveFloat = 0.1,
    tau: PositiveFloat = 1e-3,
) -> Moved:
    """Scale each coordinate by all that it has moved (FedAdagrad: Reddi et al., ICLR 2021, Algorithm 2).

    v <- v + step^2, without momentum: its steps become smaller and smaller. Flower's `FedAdagrad`.

    >>> adagrad(torch.tensor([2.0]), memory={}, tau=1e-9)[0]
    tensor([0.1000])
    """
    second = _second(step, memory) + step**2
    return _scaled(learning_rate, step, second, tau)


def _first(step: Tensor, memory: Memory, beta: float) -> Tensor:
    """The first moment m after this step."""
    return beta * memory.get("first", torch.zeros_like(step)) + (1 - beta) * step


def _second(step: Tensor, memory: Memory) -> Tensor:
    """The second moment v before this step."""
    return memory.get("second", torch.zeros_like(step))


def _scaled(rate: float, first: Tensor, second: Tensor, tau: float) -> Moved:
    return rate * first / (second.sqrt() + tau), {"first": first, "second": second}
