"""Public ranges: what is known of a column before anybody has looked at a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd
from typing_extensions import TypeIs  # of Python 3.13; pydantic brings it

from fedmodel.data.records import Range, Records
from fedmodel.errors import FedmodelError, nearest

__all__ = ["Encode", "are_categories", "public_ranges"]

Encode = Literal["pooled", "client", "private", "public", "none"]


def public_ranges(
    records: Records, encode: Encode, ranges: Mapping[str, Sequence[float] | Sequence[str]]
) -> dict[str, Range]:
    """The data set's ranges under the user's, which are checked against the columns.

    Raises:
        FedmodelError: a range that is none, of no column, or without effect; under "public" and
            "private", a column that has no range.
    """
    features = records.features
    assert features is not None
    if ranges and encode in ("pooled", "none"):
        raise FedmodelError(
            f'ranges have no effect under encode = "{encode}"',
            where="[data.ranges]",
            fix='Leave them out, or use encode = "public".',
        )
    known: dict[str, Range] = {
        str(name): (0.0, 1.0) for name in features if pd.api.types.is_bool_dtype(features[name])
    }
    known |= records.ranges
    for name, given in ranges.items():
        if name not in features:
            raise FedmodelError(
                f"a range is given for {name!r}, which is not a feature",
                where="[data.ranges]",
                fix=nearest(name, map(str, features), what="the features are"),
            )
        known[name] = _checked(name, given)
        if are_categories(known[name]):
            continue
        if not pd.api.types.is_numeric_dtype(features[name]):
            raise FedmodelError(
                f"{name!r} holds text, and its range is {list(given)}",
                where=f"[data.ranges] {name}",
                fix=f'List its categories: {name} = ["...", "..."].',
            )
        if encode == "client":
            raise FedmodelError(
                f'the limits of {name!r} have no effect under encode = "client"',
                where=f"[data.ranges] {name}",
                fix='Leave them out, or use encode = "public".',
            )
    lacking = [str(name) for name in features if str(name) not in known]
    if encode in ("public", "private") and lacking:
        raise FedmodelError(
            f'encode = "{encode}" needs a public range of: {", ".join(lacking)}',
            where="[data] encode",
            fix="Add what is known without looking at the records:\n\n[data.ranges]\n"
            + "\n".join(_example(name, features[name]) for name in lacking),
        )
    return known


def are_categories(limits: Range) -> TypeIs[tuple[str, ...]]:
    """Whether a range lists categories; otherwise it is the lowest and the highest value."""
    return isinstance(limits[0], str)


def _checked(name: str, given: Sequence[float] | Sequence[str]) -> Range:
    words = tuple(value for value in given if isinstance(value, str))
    if words and len(words) == len(given) == len(set(words)):
        return words
    numbers = tuple(float(v) for v in given if isinstance(v, int | float))
    if len(numbers) == len(given) == 2 and -math.inf < numbers[0] < numbers[1] < math.inf:
        return numbers[0], numbers[1]
    raise FedmodelError(
        f"the range of {name!r} is {list(given)}",
        where=f"[data.ranges] {name}",
        fix="Give the lowest and the highest value, e.g. [0, 100], or different categories as "
        'text, e.g. ["no", "yes"].',
    )


def _example(name: str, column: pd.Series) -> str:
    key = name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'
    if pd.api.types.is_numeric_dtype(column):
        return f"{key} = [LOWEST, HIGHEST]"
    return f'{key} = ["CATEGORY", "CATEGORY"]'
