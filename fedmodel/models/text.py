"""Models of texts: token ids in (0 is padding), a logit a class out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["rnn", "text_bag", "text_cnn"]


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


class RecurrentText(nn.Module):
    """A recurrent layer over the tokens' vectors, read at a text's own tokens; then one linear layer."""

    def __init__(self, embedding: nn.Embedding, recurrent: nn.RNNBase, output: nn.Linear) -> None:
        super().__init__()
        self.embedding, self.recurrent, self.output = embedding, recurrent, output

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        # Padding stands behind a text, so the states at its tokens never see it.
        states, _ = self.recurrent(self.embedding(tokens))
        return self.output(self.read(states, tokens != 0))

    def read(
        self, states: Float[Tensor, "B T h"], present: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B h"]:
        raise NotImplementedError


class LastState(RecurrentText):
    """Reads the state at the last token."""

    def read(self, states: Tensor, present: Tensor) -> Tensor:
        times = torch.arange(present.shape[1], device=present.device)
        last = (present * times).amax(1)
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)


class MeanState(RecurrentText):
    """Reads the mean of the states at the tokens."""

    def read(self, states: Tensor, present: Tensor) -> Tensor:
        total = (states * present[..., None]).sum(1)
        return total / present.sum(1, keepdim=True).clamp(min=1)


class ConvolvedText(nn.Module):
    """Windows of several widths over the tokens' vectors, and of each filter its maximum over time."""

    def __init__(
        self,
        embedding: nn.Embedding,
        convolutions: Sequence[nn.Conv1d],
        output: nn.Linear,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding, self.convolutions = embedding, nn.ModuleList(convolutions)
        self.behind = [convolution.kernel_size[0] - 1 for convolution in convolutions]
        self.dropout, self.output = nn.Dropout(dropout), output

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        vectors, present = self.embedding(tokens).mT, (tokens != 0)[:, None]
        features = []
        for convolution, behind in zip(self.convolutions, self.behind):
            # Every token begins a window, which sees zeros behind the last one.
            found = convolution(functional.pad(vectors, (0, behind))).relu()
            features.append((found * present).amax(-1))  # no window begins at padding
        return self.output(self.dropout(torch.cat(features, 1)))


def rnn(
    *,
    vocabulary: int,
    num_classes: int,
    width: PositiveInt = 32,
    hidden: PositiveInt = 32,
    cell: Literal["gru", "lstm"] = "gru",
    read: Literal["last", "mean"] = "last",
) -> nn.Module:
    """A recurrent network over the tokens' vectors of size `width`, with a state of size `hidden`.

    `read` is what the output layer sees of the states at a text's tokens: the last one, or their mean.
    Padding behind a text changes nothing. GRU: Cho et al., EMNLP 2014; LSTM: Hochreiter and
    Schmidhuber, Neural Computation 1997.
    """
    kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
    reader = {"last": LastState, "mean": MeanState}[read]
    embedding = nn.Embedding(vocabulary, width, padding_idx=0)
    recurrent = kind(width, hidden, batch_first=True)
    return reader(embedding, recurrent, nn.Linear(hidden, num_classes))


def text_cnn(
    *,
    vocabulary: int,
    num_classes: int,
    width: PositiveInt = 32,
    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (3, 4, 5),
    filters: PositiveInt = 32,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> nn.Module:
    """Convolutions over windows of so many tokens, `filters` of each, ReLU, maximum over time.

    Every token begins a window; behind the text a window sees zeros, so that texts shorter than a
    window have one, too. Padding changes nothing. Kim, EMNLP 2014 (there: vectors of size 300, 100
    filters, dropout 0.5).
    """
    convolutions = [nn.Conv1d(width, filters, size) for size in windows]
    output = nn.Linear(filters * len(windows), num_classes)
    embedding = nn.Embedding(vocabulary, width, padding_idx=0)
    return ConvolvedText(embedding, convolutions, output, dropout)
