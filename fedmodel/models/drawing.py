"""The chance in a model's first parameters: one stream of the experiment's seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedmodel.randomness import SERVER, stream

__all__ = ["initial_draws"]


@contextmanager
def initial_draws(seed: int) -> Iterator[None]:
    """Within it torch draws from the experiment's seed; before and after from where it was."""
    draw = stream(seed, SERVER, 0, "model")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(int(draw.integers(2**63)))
        yield
