"""Gradient inversion: records whose gradient is the one that was seen, many searches at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from fedmodel.cohort import FlatModel

__all__ = ["Distance", "Search", "gradient_of", "match", "total_variation"]

Distance = Literal["squared", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How records are searched for: by Adam with a falling step, from several starts.

    `distance` between gradients is squared (Zhu et al., NeurIPS 2019) or one minus the cosine
    (Geiping et al., NeurIPS 2020, equation 4), which steps along the sign of the slope as they do.
    Records stay between `low` and `high`, the limits that everybody knows. `image` (height, width)
    adds `smoothness` times the total variation; `expected` (means and deviations of the columns)
    adds half the squared deviations of a record from what is usual. With the squared distance and
    the noise's variance that is the most probable record (Balunovic et al., ICLR 2022, equation 8).
    """

    distance: Distance = "squared"
    iterations: int = 300
    step: float = 0.1
    low: Float[Tensor, " p"]
    high: Float[Tensor, " p"]
    image: tuple[int, int] | None = None
    smoothness: float = 0.0
    expected: tuple[Float[Tensor, " p"], Float[Tensor, " p"]] | None = None


def gradient_of(
    model: FlatModel,
    start: Float[Tensor, " d"],
    x: Float[Tensor, "V B p"],
    labels: Float[Tensor, "V B C"],
    *,
    clip: float = math.inf,
) -> Float[Tensor, "V d"]:
    """The mean gradient of each of V batches, each record's clipped to a norm of at most `clip`.

    `labels` are probabilities of the classes. Differentiable with respect to records and labels.
    """
    parameters = model.split(start)

    def loss(parameters, x, label):
        return cross_entropy(model.logits(parameters, x), label)

    if math.isinf(clip):
        mean = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, labels)
        return torch.cat([mean[name].flatten(1) for name in model.names], dim=1)
    each = vmap(vmap(grad(loss), in_dims=(None, 0, 0)), in_dims=(None, 0, 0))(
        parameters, x[:, :, None], labels[:, :, None]
    )
    rows = torch.cat([each[name].flatten(2) for name in model.names], dim=2)  # [V, B, d]
    norm = rows.square().sum(2, keepdim=True).add(1e-20).sqrt()
    return (rows * (clip / norm).clamp(max=1)).mean(1)


def match(
    model: FlatModel,
    start: Float[Tensor, " d"],
    seen: Float[Tensor, "V d"],
    begin: Float[Tensor, "R V B p"],
    labels: Int[Tensor, "V B"] | None,
    search: Search,
    *,
    clip: float = math.inf,
    noise: float = 0.0,
) -> tuple[Float[Tensor, "V B p"], Float[Tensor, " V"]]:
    """For each of V gradients the records that give one like it, and how far it is from that.

    Of R searches from different beginnings the nearest counts. Without `labels` they are searched
    for together with the records (DLG); given, they are taken as known (iDLG: Zhao et al., 2020).
    Searches do not touch each other: each value has its own Adam, and losses are added up.
    """
    starts, num_victims, batch_size, width = begin.shape
    classes = model.predict(start, begin[0, :1, 0]).shape[1]
    x = begin.flatten(0, 1).clone().requires_grad_()
    target = seen.repeat(starts, 1)
    size = target.norm(dim=1).clamp(min=1e-12)
    known = labels is not None
    guess = torch.zeros(len(x), batch_size, classes)
    if labels is not None:
        guess = one_hot(labels, classes).to(x).repeat(starts, 1, 1)
    guess.requires_grad_(not known)
    optimiser = torch.optim.Adam([x] if known else [x, guess], lr=search.step)
    course = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, search.iterations, search.step / 100
    )

    def distance() -> Float[Tensor, " RV"]:
        own = gradient_of(model, start, x, guess if known else guess.softmax(2), clip=clip)
        if search.distance == "cosine":
            return 1 - cosine_similarity(own, target, dim=1)
        return ((own - target) / size[:, None]).square().sum(1)

    training = model.module.training
    model.module.eval()
    try:
        for _ in range(search.iterations):
            optimiser.zero_grad()
            loss = distance()
            if search.expected:
                mean, deviation = search.expected
                unusual = ((x - mean) / deviation).square().sum((1, 2))
                loss = loss + (noise / size).square().clamp(min=1e-6) * unusual
            if search.image and search.smoothness:
                loss = loss + search.smoothness * total_variation(x, search.image).sum(1)
            loss.sum().backward()
            if search.distance == "cosine" and x.grad is not None:
                x.grad.sign_()
            optimiser.step()
            course.step()
            with torch.no_grad():
                x.clamp_(search.low, search.high)
        with torch.no_grad():
            found = distance().view(starts, num_victims)
    finally:
        model.module.train(training)
    best = found.argmin(0)
    records = x.detach().view(starts, num_victims, batch_size, width)
    return records[best, torch.arange(num_victims)], found.min(0).values


def total_variation(x: Float[Tensor, "V B p"], image: tuple[int, int]) -> Float[Tensor, "V B"]:
    """Mean absolute difference of neighbouring pixels, down and across (Rudin et al., 1992)."""
    picture = x.unflatten(2, image)
    down = (picture[..., 1:, :] - picture[..., :-1, :]).abs().mean((-2, -1))
    across = (picture[..., :, 1:] - picture[..., :, :-1]).abs().mean((-2, -1))
    return down + across
