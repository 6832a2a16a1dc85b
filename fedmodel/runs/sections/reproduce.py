"""Reproduce: what it takes to run this again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedmodel.runs.page import Block, Code, Facts, Section
from fedmodel.runs.sections.common import flat

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["reproduce"]


def reproduce(data: ReportData) -> Section | None:
    """The command, the experiment, and the manifest."""
    blocks: list[Block] = []
    if data.config_toml:
        command = str(data.manifest.get("command") or "fedmodel run config.toml")
        blocks += [
            "The run folder holds the experiment as config.toml. The same experiment with the same "
            "versions, data and seed draws the same clients and batches.",
            Code(caption="Command", text=command),
            Code(caption="Experiment (config.toml)", text=data.config_toml, folded=True),
        ]
    told = ("command", "privacy", "notes")  # elsewhere on the page
    if pairs := flat({key: part for key, part in data.manifest.items() if key not in told}):
        caption = "Versions, seeds, fingerprints, machine"
        blocks.append(Facts(pairs=pairs, caption=caption, folded=True))
    return Section(title="Reproduce", blocks=blocks) if blocks else None
