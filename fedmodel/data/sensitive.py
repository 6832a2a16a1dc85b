"""Sensitive attributes: levels that people belong to, and how numbers become levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from fedmodel.errors import FedmodelError, nearest

__all__ = ["chosen", "in_bins"]

# More levels make groups too small to compare; a number may have many more than it has meanings.
MOST_LEVELS = 50
MOST_LEVELS_OF_A_NUMBER = 10


def chosen(
    names: Sequence[str],
    available: Mapping[str, pd.Series],
    *,
    bins: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """The named attributes, cut at the edges of `bins` where it has some.

    Raises:
        FedmodelError: no such attribute; named twice; more levels than groups can have, as of
            a number without bins; bins for what is not a number or not sensitive.
    """
    bins = bins or {}
    for name in bins:
        if name not in names:
            raise FedmodelError(
                f"bins are given for {name!r}, which is not among the sensitive attributes",
                where="[data] bins",
                fix=f"Add it: sensitive = {[*names, name]}, or leave out its bins.",
            )
    levels = {}
    for name in names:
        if name not in available:
            raise FedmodelError(
                f"there is no sensitive attribute {name!r}",
                where="[data] sensitive",
                fix=nearest(name, available, what="to choose from"),
            )
        if name in levels:
            raise FedmodelError(
                f"the sensitive attribute {name!r} is named twice",
                where="[data] sensitive",
                fix="Name it once.",
            )
        values = available[name]
        number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if name in bins:
            if not number:
                raise FedmodelError(
                    f"bins are given for {name!r}, which is not a number",
                    where="[data] bins",
                    fix="Leave out its bins: each of its values is a level.",
                )
            values = in_bins(values, _checked(name, bins[name]))
        elif number and values.nunique() > MOST_LEVELS_OF_A_NUMBER:
            raise FedmodelError(
                f"the sensitive attribute {name!r} is a number with {values.nunique()} values",
                where="[data] bins",
                fix=f"Say where to cut it, e.g. bins = {{ {name} = [45, 60] }}: "
                "under 45, 45-59, 60 and over.",
            )
        elif values.nunique() > MOST_LEVELS:
            raise FedmodelError(
                f"the sensitive attribute {name!r} has {values.nunique()} levels",
                where="[data] sensitive",
                fix=f"Sum them up in at most {MOST_LEVELS} before, or name another column.",
            )
        levels[name] = values
    return pd.DataFrame(levels)


def in_bins(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Numbers cut at fixed edges; an edge belongs to the bin above it.

    >>> in_bins(pd.Series([44, 45, 60]), [45, 60]).tolist()
    ['under 45', '45-59', '60 and over']
    """
    whole = bool((values.dropna() % 1 == 0).all()) and all(edge % 1 == 0 for edge in edges)
    between = [
        f"{low:g}-{high - 1:g}" if whole else f"{low:g} to under {high:g}"
        for low, high in pairwise(edges)
    ]
    levels = [f"under {edges[0]:g}", *between, f"{edges[-1]:g} and over"]
    cuts = [-np.inf, *edges, np.inf]
    return pd.cut(values, bins=cuts, right=False, labels=levels, ordered=False)


def _checked(name: str, edges: Sequence[float]) -> Sequence[float]:
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise FedmodelError(
            f"the bins of {name!r} are {list(edges)}",
            where="[data] bins",
            fix=f"Give at least one edge, in rising order, e.g. {name} = [45, 60].",
        )
    return edges
