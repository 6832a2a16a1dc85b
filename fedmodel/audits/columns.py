"""The encoded columns of a federation, as an attacker knows them and as a reader wants them back."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from pandas import DataFrame
from torch import Tensor

from fedmodel.data.encoder import Category, Encoder, Number
from fedmodel.types import FederatedData

__all__ = ["Columns", "columns_of", "image_of"]

PIXEL = re.compile(r"row (\d+), column (\d+)")
LEAST = 0.1  # deviation that an attacker allows a column that is constant elsewhere
WIDE = 5.0  # deviations beyond which an attacker does not look for a number without limits


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each of p encoded columns means, and what anybody may know of it.

    `mean`, `deviation` are of records that the attacked client does not hold (or of all, where it
    is the only one); `low`, `high` are the limits of the encoding. `scale`, which distances are
    measured in, is the deviation of a number over all clients (of pixels the root mean square of
    all), and 1 for what is 0 or 1.
    """

    mean: Float[Tensor, " p"]
    deviation: Float[Tensor, " p"]
    low: Float[Tensor, " p"]
    high: Float[Tensor, " p"]
    scale: Float[Tensor, " p"]
    numbers: tuple[tuple[str, int], ...]  # numeric columns and their places
    categories: tuple[tuple[str, slice], ...]  # columns of text and their places
    encoder: Encoder | None
    client: int

    def readable(self, x: Float[Tensor, "m p"]) -> DataFrame:
        """Encoded records as they were written: numbers in their units, the likeliest category."""
        if self.encoder is None:
            return DataFrame({name: x[:, place].numpy() for name, place in self.numbers})
        values, start, parts = x.double().numpy(), 0, {}
        for column in self.encoder.columns:
            part = values[:, start : start + len(column.names)]
            start += len(column.names)
            if isinstance(column, Number):
                owner = self.client if len(column.scale) > 1 else 0
                number = part[:, 0] * column.scale[owner] + column.shift[owner]
                gone = part[:, 1] > 0.5 if column.indicator else np.zeros(len(part), bool)
                parts[column.name] = np.where(gone, np.nan, number)
            else:
                names = np.array([*column.categories, None], dtype=object)
                empty = part.max(1) < 0.25 if column.categories else np.ones(len(part), bool)
                parts[column.name] = names[np.where(empty, len(names) - 1, part.argmax(1))]
        return DataFrame(parts)


def columns_of(data: FederatedData, client: int) -> Columns:
    """The columns of tables and images, for an attack on one client's training records."""
    others = [k for k in range(data.num_clients) if k != client] or [client]
    x = torch.cat([data.x[data.rows(k, "train")] for k in others])
    low, high = torch.full((x.shape[1],), -WIDE), torch.full((x.shape[1],), WIDE)
    numbers: list[tuple[str, int]] = []
    categories, start = [], 0
    encoder = data.encoder if isinstance(data.encoder, Encoder) else None
    for column in encoder.columns if encoder else ():
        end = start + len(column.names)
        if isinstance(column, Category):
            categories.append((column.name, slice(start, end)))
            low[start:end], high[start:end] = 0.0, 1.0
        else:
            numbers.append((column.name, start))
            low[start + 1 : end], high[start + 1 : end] = 0.0, 1.0
            if column.clip:
                low[start], high[start] = -1.0, 1.0
            elif not column.may_miss:  # as it was written: nothing is known but what others have
                low[start], high[start] = x[:, start].min(), x[:, start].max()
        start = end
    if encoder is None:
        numbers = [(f"column {place + 1}", place) for place in range(x.shape[1])]
    places = [place for _, place in numbers]
    scale = torch.ones(x.shape[1])
    spread = torch.cat([data.x[data.rows(k, "train")] for k in range(data.num_clients)]).std(0)
    scale[places] = torch.where(spread > 1e-6, spread, 1.0)[places]
    if image_of(data):  # pixels share a unit, and those at the edge hardly vary
        scale[:] = spread.square().mean().sqrt()
        low, high = torch.zeros_like(low), torch.ones_like(high)
    return Columns(
        mean=x.mean(0),
        deviation=x.std(0, correction=0).clamp(min=LEAST),
        low=low,
        high=high,
        scale=scale,
        numbers=tuple(numbers),
        categories=tuple(categories),
        encoder=encoder,
        client=client,
    )


def image_of(data: FederatedData) -> tuple[int, int] | None:
    """Height and width, where the columns are pixels: named "row R, column C", row by row."""
    found = [PIXEL.fullmatch(name) for name in data.features]
    if not found or not all(found):
        return None
    height, width = (max(int(match[part]) for match in found if match) for part in (1, 2))
    return (height, width) if height * width == len(found) else None
