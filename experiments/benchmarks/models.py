"""The models of the works: ordinary modules, made of layers that every peer can differentiate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:  # a peer's own environment need not have it
    from jaxtyping import Float, Int

__all__ = ["convolutional", "logistic", "perceptron", "transformer"]


def logistic() -> nn.Module:
    """Two-class logistic regression on 30 features."""
    return nn.Linear(30, 2)


def perceptron() -> nn.Module:
    """30-64-32-2, 4,130 parameters."""
    return nn.Sequential(
        nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
    )


def convolutional() -> nn.Module:
    """Two convolutions 5 x 5, each pooled, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def transformer() -> nn.Module:
    """A two-layer encoder (Vaswani et al., NeurIPS 2017), normalised before each block; mean, classes."""
    return Encoder(vocabulary=5000, length=64, width=64, heads=4, layers=2, classes=4)


class Encoder(nn.Module):
    """Tokens ``[B, T]`` to logits ``[B, C]``."""

    def __init__(
        self, *, vocabulary: int, length: int, width: int, heads: int, layers: int, classes: int
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        places = torch.arange(tokens.shape[-1], device=tokens.device).expand_as(tokens)
        x = self.words(tokens) + self.places(places)
        return self.output(self.norm(self.blocks(x)).mean(-2))


class Block(nn.Module):
    """Attention and a feed-forward layer, each added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        x = x + self.attention(self.norm_1(x))
        return x + self.feed(self.norm_2(x))

    def attention(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for layer in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value)
        return self.mix(mixed.transpose(-2, -3).flatten(-2))
