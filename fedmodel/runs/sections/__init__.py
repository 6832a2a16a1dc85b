"""The sections of a report: each takes what it needs from the run, or is left out.

A section is a function of the report's data; a new one is a module here and a name in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fedmodel.runs.page import Section
from fedmodel.runs.sections.clients import clients
from fedmodel.runs.sections.cross_site import cross_site
from fedmodel.runs.sections.fairness import fairness
from fedmodel.runs.sections.learning import learning
from fedmodel.runs.sections.price import price
from fedmodel.runs.sections.privacy import privacy
from fedmodel.runs.sections.records import records
from fedmodel.runs.sections.reproduce import reproduce
from fedmodel.runs.sections.robustness import robustness

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["SECTIONS"]

SECTIONS: tuple[Callable[[ReportData], Section | None], ...] = (
    learning,
    price,
    privacy,
    fairness,
    clients,
    cross_site,
    robustness,
    records,
    reproduce,
)
