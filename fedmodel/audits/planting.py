"""Canaries: gradients and records in a cohort, directions of updates; each by the toss of a coin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fedmodel.cohort import Batch, Cohort
from fedmodel.randomness import normals, stream, stream_keys, uniforms
from fedmodel.types import FederatedData

__all__ = ["GradientCanaries", "RecordCanaries", "coins", "directions", "mislabelled"]


@dataclass(frozen=True)
class GradientCanaries(Cohort):
    """A cohort with canaries that are gradients: one coordinate each, with the norm `clip`, or 1.

    A canary is drawn into a batch as a record is by Poisson sampling. No record can weigh more than
    it does under a clip, and no two canaries stand in each other's way (Steinke et al., NeurIPS
    2023, section 6, "Dirac").
    """

    inside: Bool[np.ndarray, "N C"] = field(kw_only=True)  # by client number
    coordinates: Int[np.ndarray, " C"] = field(kw_only=True)
    used: Int[np.ndarray, " N"] = field(kw_only=True)  # steps in which they took part; counted here

    def poisson_batch(self, step: int) -> Batch:
        """Records as ever; and the gradients of the canaries that are drawn with them."""
        return replace(super().poisson_batch(step), planted=self._planted(step))

    def shuffled_batch(self, step: int) -> Batch:
        """Records as ever; and the gradients of the canaries that are drawn with them."""
        return replace(super().shuffled_batch(step), planted=self._planted(step))

    def _planted(self, step: int) -> Callable[[], Tensor]:
        active = step < self.num_steps
        drawn = uniforms(self._keys("canaries"), len(self.coordinates), step=step)
        there = (drawn < self.sample_rate[:, None]) & self.inside[self.clients] & active[:, None]

        def planted() -> Tensor:
            self.used[self.clients] += active
            total = torch.zeros(self.size, self.model.size, device=self.device)
            total[:, torch.from_numpy(self.coordinates)] = torch.from_numpy(there).to(total)
            return total

        return planted


@dataclass(frozen=True)
class RecordCanaries(Cohort):
    """A cohort whose training records include canaries, of which some are absent.

    An absent one is drawn and then left out, so that sizes and sample rates tell nothing.
    """

    absent: Bool[np.ndarray, " N"] = field(kw_only=True)  # by row of the data

    def _batch(self, records: Int[np.ndarray, "K B"], step: int) -> Batch:
        rows = np.minimum(self._bounds[:, :1] + np.maximum(records, 0), len(self.absent) - 1)
        return super()._batch(np.where(self.absent[rows], -1, records), step)


def coins(seed: int, client: int, number: int, purpose: str) -> Bool[np.ndarray, " number"]:
    """Fair coins, one a canary."""
    return stream(seed, client, 0, purpose).random(number) < 0.5


def directions(
    canaries: Int[np.ndarray, " M"], size: int, *, seed: int, round: int
) -> Float[Tensor, "M size"]:
    """Where each canary client's update points in a round: uniform on the unit sphere.

    Drawn anew in each round. So canaries, of which there may be more than dimensions, stand in each
    other's way only by chance, which does not add up over the rounds (Andrew et al., "One-shot
    empirical privacy estimation for federated learning", ICLR 2024: random directions of
    many dimensions are nearly orthogonal).
    """
    drawn = torch.from_numpy(normals(stream_keys(seed, canaries, round, "canary updates"), size))
    return drawn / drawn.norm(dim=1, keepdim=True)


def mislabelled(
    data: FederatedData, *, share: float, most: int, seed: int
) -> tuple[FederatedData, Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """The data with canaries at the end of every client's training records, their rows and clients.

    A canary is a test record of the same client with a wrong label: for `share` of the training
    records, at `most` so many, as far as there are test records. All of them are in the data,
    absent ones too.
    """
    order, bounds, canaries, owners, wrong, length = [], [], [], [], [], 0
    for client in range(data.num_clients):
        draw = stream(seed, client, 0, "canary records")
        train, test = data.rows(client, "train"), data.rows(client, "test")
        number = min(int(share * (train.stop - train.start)), test.stop - test.start, most)
        chosen = draw.choice(np.arange(test.start, test.stop), number, replace=False)
        canaries.append(length + train.stop - train.start + np.arange(number))
        owners.append(np.full(number, client))
        shift = draw.integers(1, len(data.classes), number)
        wrong.append((data.y.numpy()[chosen] + shift) % len(data.classes))
        rest = np.arange(train.stop, int(data.bounds[client, -1]))
        order += [np.arange(train.start, train.stop), chosen, rest]
        own = data.bounds[client] - data.bounds[client, 0]
        bounds.append(length + own + torch.tensor([0, number, number, number]))
        length = int(bounds[-1][-1])
    index, rows = torch.from_numpy(np.concatenate(order)), np.concatenate(canaries)
    y = data.y[index]
    y[rows] = torch.from_numpy(np.concatenate(wrong))
    x, group = data.x[index], data.group[index]
    grown = replace(data, x=x, y=y, group=group, bounds=torch.stack(bounds))
    return grown, rows, np.concatenate(owners)
