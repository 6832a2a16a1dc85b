"""The works: how many clients do what with which records. NumPy and torch only, so that any peer reads it.

Records come from a seed and have a signal, so that peers that do the same work reach the same loss.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.benchmarks.models import convolutional, logistic, perceptron, transformer

if TYPE_CHECKING:  # a peer's own environment need not have it
    from jaxtyping import Int

__all__ = ["WORKS", "Work", "work_from_json", "work_named"]

IN_MEMORY = 100_000  # clients

Records = tuple[np.ndarray, np.ndarray]
Rule = Callable[[np.random.Generator, np.random.Generator, int], Records]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A round: `cohort` of `population` clients train one epoch on `num_records` records each."""

    name: str
    title: str
    population: int
    cohort: int
    num_records: int
    rounds: int  # after so many the loss is compared
    rule: Rule
    model: Callable[[], nn.Module]
    batch_size: int = 20  # with privacy the expected size of a Poisson batch
    learning_rate: float = 0.1
    private: bool = False
    clip: float = 1.0
    noise_multiplier: float = 1.0
    num_test: int = 4000  # records that the loss is taken on
    seed: int = 1

    @property
    def label(self) -> str:
        """Its name in the table."""
        return f"{self.name}, DP-SGD" if self.private else self.name

    @property
    def steps(self) -> int:
        """Local steps of a client in a round."""
        return -(-self.num_records // self.batch_size)

    @property
    def on_demand(self) -> bool:
        """Whether there are too many records to make them all in advance."""
        return self.population > IN_MEMORY

    @property
    def sample_rate(self) -> float:
        """Chance of a record to be in a Poisson batch."""
        return min(1.0, self.batch_size / self.num_records)

    def to_json(self) -> str:
        """Its name and its numbers, for another process: `work_from_json` reads them."""
        return json.dumps({n: v for n, v in vars(self).items() if isinstance(v, str | int | float)})

    def initial_model(self) -> nn.Module:
        """The model that every peer starts from."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.model()

    def records(self) -> tuple[Tensor, Int[Tensor, "K n"]]:
        """The training records of all clients, ``x [K, n, ...]`` and ``y [K, n]``."""
        x, y = self.drawn(self.population * self.num_records, part=1)
        shape = (self.population, self.num_records)
        return x.view(*shape, *x.shape[1:]), y.view(shape)

    def drawn(self, number: int, *, part: int) -> tuple[Tensor, Int[Tensor, " N"]]:
        """Flat records that follow the rule; each part (1 training, 2 test) has its own."""
        x, y = self.rule(
            np.random.default_rng([self.seed, 0]), np.random.default_rng([self.seed, part]), number
        )
        return torch.from_numpy(x), torch.from_numpy(y)

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """Mean cross-entropy on the test records, in nats."""
        x, y = self.drawn(self.num_test, part=2)
        logits = torch.cat([model(part) for part in x.split(500)])
        return nn.functional.cross_entropy(logits, y).item()


# Each rule draws what is true of all records from `planted`, and the records from `draw`.


def linear_rule(planted: np.random.Generator, draw: np.random.Generator, number: int) -> Records:
    """Thirty normal features; which of two classes is the sign of a weighted sum and noise."""
    weights = planted.standard_normal(30) / np.sqrt(30)
    x = draw.standard_normal((number, 30), dtype=np.float32)
    return x, (x @ weights + 0.3 * draw.standard_normal(number) > 0).astype(np.int64)


def templates(planted: np.random.Generator, draw: np.random.Generator, number: int) -> Records:
    """Images 28 x 28 of ten classes: the class's coarse picture under twice as much noise."""
    pictures = np.kron(planted.standard_normal((10, 7, 7)), np.ones((4, 4))).astype(np.float32)
    y = draw.integers(10, size=number)
    x = pictures[y] / 2 + draw.standard_normal((number, 28, 28), dtype=np.float32)
    return x[:, None], y


def favourite_words(
    planted: np.random.Generator, draw: np.random.Generator, number: int
) -> Records:
    """Texts of 64 of 5,000 tokens: half of them from the 100 favourites of the text's class."""
    favourites = planted.choice(np.arange(1, 5000), (4, 100), replace=False)
    y = draw.integers(4, size=number)
    any_word = draw.integers(1, 5000, size=(number, 64))
    favourite = favourites[y[:, None], draw.integers(100, size=(number, 64))]
    return np.where(draw.random((number, 64)) < 0.5, favourite, any_word), y


WORKS = {
    work.name: work
    for work in (
        Work(
            name="A",
            title="table, perceptron 30-64-32-2: 50 of 200 clients, 100 records each",
            population=200,
            cohort=50,
            num_records=100,
            rounds=12,
            rule=linear_rule,
            model=perceptron,
        ),
        Work(
            name="B",
            title="images 28 x 28, two convolutions: 10 of 50 clients, 120 records each",
            population=50,
            cohort=10,
            num_records=120,
            rounds=8,
            rule=templates,
            model=convolutional,
        ),
        Work(
            name="C",
            title="texts of 64 tokens, two-layer Transformer: all of 10 clients, 60 records each",
            population=10,
            cohort=10,
            num_records=60,
            rounds=8,
            learning_rate=0.5,
            rule=favourite_words,
            model=transformer,
        ),
        Work(
            name="D",
            title="as A: 1,000 of 10,000 clients, 100 records each",
            population=10_000,
            cohort=1_000,
            num_records=100,
            rounds=4,
            rule=linear_rule,
            model=perceptron,
        ),
        Work(
            name="E",
            title="table, logistic: 10,000 of 1,000,000 clients, 20 records each, read on demand",
            population=1_000_000,
            cohort=10_000,
            num_records=20,
            rounds=100,
            rule=linear_rule,
            model=logistic,
        ),
    )
}


def work_named(name: str, **changes: Any) -> Work:
    """The work of that name, with DP-SGD (`private`) or without, possibly smaller."""
    return replace(WORKS[name], **changes)


def work_from_json(text: str) -> Work:
    """The work that `Work.to_json` wrote."""
    return work_named(**json.loads(text))
