"""How records become numbers, and what was learnt from which records to do it.

======== ================================= ======================================= ==============
encode   numbers                           categories                              missing values
======== ================================= ======================================= ==============
pooled   mean 0, deviation 1 over all      those in all clients' training records  indicator
         clients' training records
client   mean 0, deviation 1 over the      public where a codebook has them,       indicator
         client's own training records     otherwise as for pooled
public   public limits become -1 and 1,    public                                  indicator,
         what is beyond is clipped                                                 numbers only
private  mean 0, deviation 1, from noised  public                                  indicator,
         sums of each client's training                                            numbers only
         records, clipped to public limits
none     as they are                       refused                                 refused
======== ================================= ======================================= ==============

Missing numbers become 0 (the mean, or the middle of the limits). The indicator is one more column,
under `pooled` and `client` only for columns that lack values in training records. What was fitted
on records is outside any differential-privacy guarantee, also if each client fits its own; but for
`private`, whose noise is charged to the budget (`fedmodel.privacy.encoding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from fedmodel.data.encoder import Category, Encoder, Number, as_numbers
from fedmodel.data.ranges import Encode, are_categories, public_ranges
from fedmodel.data.records import Assignment, Range, Records, as_text, in_order
from fedmodel.data.scales import Release, noised_scales
from fedmodel.errors import FedmodelError

__all__ = ["Encode", "fit_encoder"]

MOST_CATEGORIES = 200
FEW_CATEGORIES = 20  # these many are fine however few records there are


def fit_encoder(
    records: Records,
    assignment: Assignment,
    *,
    training: Bool[np.ndarray, " N"],
    encode: Encode = "pooled",
    ranges: Mapping[str, Sequence[float] | Sequence[str]] | None = None,
    release: Release | None = None,
) -> tuple[Encoder, tuple[str, ...]]:
    """The encoder of a table, and a sentence for each thing that was fitted on records.

    Only records in the mask `training` are looked at; under "public" and "none" not even those.
    `ranges` are the user's and go before those of the data set. `release` is what noises the sums
    of "private".

    Raises:
        FedmodelError: a range that is none, or has no effect; a column that `encode` cannot use.
    """
    assert records.features is not None
    public = public_ranges(records, encode, ranges or {})
    if encode == "public":
        return _by_ranges(records.features, public), ()
    if encode == "none":
        return _as_it_is(records.features), ()
    if encode == "private":
        assert release is not None
        return _by_noised_sums(records.features, public, assignment, training, release), ()
    return _fitted(
        records.features[training],
        assignment.client[training],
        clients=assignment.names if encode == "client" else (),
        codebook={n: r for n, r in public.items() if encode == "client" and are_categories(r)},
    )


def _fitted(
    features: pd.DataFrame,
    client: Int[np.ndarray, " n"],
    *,
    clients: tuple[str, ...],
    codebook: Mapping[str, tuple[str, ...]],
) -> tuple[Encoder, tuple[str, ...]]:
    if not clients:
        client = np.zeros(len(features), dtype=np.int64)
    columns: list[Number | Category] = []
    missing, read = [], []
    for name in map(str, features):
        values = features[name]
        indicator = bool(values.isna().any())
        if indicator:
            missing.append(name)
        if name in codebook:
            columns.append(Category(name=name, categories=codebook[name], indicator=indicator))
        elif pd.api.types.is_numeric_dtype(values):
            shift, scale = _moments(as_numbers(values), client, max(1, len(clients)))
            columns.append(Number(name=name, shift=shift, scale=scale, indicator=indicator))
        else:
            read.append(name)
            categories = _categories(values)
            columns.append(Category(name=name, categories=categories, indicator=indicator))
    numbers = sum(isinstance(column, Number) for column in columns)
    whose = "each client's own" if clients else "all clients'"
    outside = (
        numbers
        and f"Mean and deviation of {_count(numbers, 'numeric column')}, from {whose} "
        "training records.",
        read
        and f"The categories of {_count(len(read), 'text column')}, from all clients' "
        f"training records: {', '.join(read)}.",
        missing
        and f"Which columns lack values, from all clients' training records: {', '.join(missing)}.",
    )
    return Encoder(columns=tuple(columns), clients=clients), tuple(s for s in outside if s)


def _moments(
    values: Float[np.ndarray, " n"], client: Int[np.ndarray, " n"], num_clients: int
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Mean and standard deviation (of the population) at each client; NaN without values."""
    given = ~np.isnan(values)
    values, client = values[given], client[given]
    count = np.bincount(client, minlength=num_clients).astype(float)
    count[count == 0] = np.nan
    mean = np.bincount(client, weights=values, minlength=num_clients) / count
    squares = (values - mean[client]) ** 2
    deviation = np.sqrt(np.bincount(client, weights=squares, minlength=num_clients) / count)
    # What is left of a constant by rounding is no spread to divide by.
    constant = deviation <= 10 * np.finfo(float).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, deviation)


def _categories(values: pd.Series) -> tuple[str, ...]:
    categories = in_order(as_text(values).dropna().unique())
    most = max(FEW_CATEGORIES, min(MOST_CATEGORIES, len(values) // 2))
    if len(categories) > most:
        raise FedmodelError(
            f"the text column {values.name!r} has {len(categories)} different values in "
            f"{len(values)} training records",
            where="[data]",
            fix=f"It looks like a name or an id: leave it out by naming the others in features, "
            f"or sum it up in at most {most} categories.",
        )
    return tuple(categories)


def _by_ranges(features: pd.DataFrame, public: Mapping[str, Range]) -> Encoder:
    columns: list[Number | Category] = []
    for name in map(str, features):
        limits = public[name]
        if are_categories(limits):
            columns.append(Category(name=name, categories=limits))
        else:
            low, high = limits
            columns.append(
                Number(
                    name=name,
                    shift=np.array([(low + high) / 2]),
                    scale=np.array([(high - low) / 2]),
                    clip=True,
                    indicator=True,
                )
            )
    return Encoder(columns=tuple(columns))


def _by_noised_sums(
    features: pd.DataFrame,
    public: Mapping[str, Range],
    assignment: Assignment,
    training: Bool[np.ndarray, " N"],
    release: Release,
) -> Encoder:
    limits: dict[str, tuple[float, float]] = {}
    for name in map(str, features):
        known = public[name]
        if not are_categories(known) and not pd.api.types.is_bool_dtype(features[name]):
            limits[name] = known
    encoder = _by_ranges(features, public)
    if not limits:
        raise FedmodelError(
            'encode = "private" finds no numeric column to scale',
            where="[data] encode",
            fix='Use encode = "public", and leave `encoding_epsilon` out.',
        )
    numbers, drowned = noised_scales(
        features[training],
        assignment.client[training],
        limits,
        num_clients=len(assignment.names),
        release=release,
    )
    scaled = {number.name: number for number in numbers}
    columns = tuple(scaled.get(column.name, column) for column in encoder.columns)
    return Encoder(columns=columns, drowned=tuple(drowned))


def _as_it_is(features: pd.DataFrame) -> Encoder:
    text = [str(n) for n in features if not pd.api.types.is_numeric_dtype(features[n])]
    if text:
        raise FedmodelError(
            f'encode = "none" leaves numbers as they are, and {", ".join(text)} hold text',
            where="[data] encode",
            fix='Use encode = "pooled", "client" or "public", or name numeric columns in features.',
        )
    zero, one = np.zeros(1), np.ones(1)
    return Encoder(
        columns=tuple(
            Number(name=str(name), shift=zero, scale=one, may_miss=False) for name in features
        )
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
