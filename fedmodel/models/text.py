"""Models of texts: token ids in (0 is padding), a logit a class out."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

__all__ = ["text_bag"]


class TextBag(nn.Module):
    """The mean of the tokens' vectors, then one linear layer (fastText: Joulin et al., EACL 2017)."""

    def __init__(self, vocabulary: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.output = nn.Linear(width, num_classes)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        present = (tokens != 0).to(torch.float32)[..., None]
        total = (self.embedding(tokens) * present).sum(-2)
        return self.output(total / present.sum(-2).clamp(min=1.0))


def text_bag(*, vocabulary: int, num_classes: int, width: PositiveInt = 32) -> nn.Module:
    """A hashed bag of embeddings: `vocabulary` is the number of buckets of the data set."""
    return TextBag(vocabulary, num_classes, width)
