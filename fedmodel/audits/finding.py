"""What an audit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pandas import DataFrame

from fedmodel.runs.page import Section

__all__ = ["Finding"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An audit's result: numbers by name for tables, data frames to keep, a section of a report."""

    name: str
    figures: Mapping[str, float]
    section: Section
    tables: Mapping[str, DataFrame] = field(default_factory=dict)
    notes: Sequence[str] = ()
