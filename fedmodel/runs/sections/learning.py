"""Learning: how good the shared model was after each round, beside its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedmodel.runs.page import Block, Column, Section, Table
from fedmodel.runs.sections.common import course, model_name
from fedmodel.runs.words import METRICS, MODELS, bound_of, metric, write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["learning"]

MEASURES = ("accuracy", "balanced_accuracy", "roc_auc", "loss")


def learning(data: ReportData) -> Section | None:
    """Accuracy and loss by round; a reference that is measured once is a level."""
    ring = data.best[0] if data.best else None
    figures: list[Block] = []
    for name in ("accuracy", "loss"):
        rows = data.rows(name, model=None)
        if not rows.model.eq("global").any():
            continue
        what = metric(name)
        figures.append(
            course(
                rows.assign(series=rows.model.map(model_name)),
                name,
                series=[model_name(model) for model in MODELS if model in set(rows.model)],
                title=f"{what.label.capitalize()} by round",
                ring=ring,
            )
        )
    if not figures:
        return None
    return Section(title="Learning", blocks=[_explanation(data), *figures, _table(data)])


def _explanation(data: ReportData) -> str:
    text = (
        "In each round some clients train the shared model on their own records, and the server "
        f"combines what they send. The curves show the combined model on the {data.split} records "
        "of all clients; round 0 is the model before any training."
    )
    if data.best is not None:
        best, by = data.best
        text += f" The ring marks the best round, {best}, chosen by {by} records"
        text += "." if by != data.split else ": a little flattering, as the same records judge it."
    if data.metrics.model.nunique() > 1:
        text += " Click a name in the legend to single it out."
    return text


def _table(data: ReportData) -> Table:
    """Every measure of the shared model, the user's own too: before, at best, at last."""
    best = data.best[0] if data.best else data.last_round
    rounds = sorted({int(data.rows(data.lead)["round"].min()), best, data.last_round})
    names = [name for name in MEASURES if len(data.rows(name))]
    names += [name for name in data.measured if name not in METRICS and not bound_of(name)]
    return Table(
        caption=f"The shared model on the {data.split} records",
        columns=[
            Column(label="measure", kind="text"),
            *(Column(label=f"round {number}", kind="written") for number in rounds),
        ],
        rows=[
            [m.label, *(write(data.value(n, at=r), m.kind) for r in rounds)]
            for n, m in zip(names, map(metric, names))
        ],
        terms=[(m.label, m.meaning) for m in map(metric, names) if m.meaning],
    )
