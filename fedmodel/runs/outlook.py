"""What the clients will spend of their privacy, computed before anything runs, as a table and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fedmodel.errors import FedmodelError
from fedmodel.privacy.accounting import History, epsilon_of_clients, epsilon_of_history
from fedmodel.privacy.budget import ClientPlans, share_declining
from fedmodel.privacy.client_level import sensitivity
from fedmodel.privacy.counts import CountNoise
from fedmodel.runs import charts
from fedmodel.runs.page import Column, Figure, Listing, Page, Section, Table
from fedmodel.runs.words import Kind, write

__all__ = ["Outlook", "evaluation_cost", "outlook", "write_outlook"]

FEW = 8  # clients that have a line each
GROUPS = 5  # by size, of more
POINTS = 25  # rounds that are computed
LEVELS = (0.5, 0.7, 1.0, 1.4, 2.0)  # of the planned noise


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The table, what it means in sentences, and epsilon by round for several noise levels."""

    table: pd.DataFrame
    sentences: tuple[str, ...]
    spread: pd.DataFrame  # round, series (a client), value
    levels: pd.DataFrame  # round, series (a noise level), value
    middle: str  # the client that the noise levels are shown for
    others: pd.DataFrame  # what is released beside training, and what it costs alone


def outlook(
    plans: ClientPlans | None,
    *,
    sizes: np.ndarray,
    names: Sequence[str],
    rounds: int,
    sample: float,
    counts: CountNoise | None = None,
    evaluations: int = 0,
) -> Outlook:
    """What K clients of these sizes [K] will spend if they take part in every round they planned for.

    Of more than eight clients, five groups by size have a line each; the smallest, the middle and the
    largest client of a group stand for it, with those of the least and the largest target. `sample` is the share of clients asked in a round.
    With `counts` the `evaluations` of the run are shown as well, whose records have a ledger of their own.

    Raises:
        FedmodelError: there is no [privacy], or no client has records.
    """
    if plans is None:
        raise FedmodelError(
            "there is no [privacy], so nothing is spent and nothing is protected",
            fix="Add [privacy] with e.g. epsilon = 3.0, and a client that adds noise.",
        )
    order = np.argsort(sizes, kind="stable")
    order = order[plans.steps[order] > 0]
    if not len(order):
        raise FedmodelError(
            "no client has training records, so nobody will train",
            where="[data]",
            fix="Choose a smaller data.test, or another partition.",
        )
    budget, most = plans.budget, min(rounds, plans.budget.participations)
    marks = np.unique(np.linspace(1, most, POINTS).round().astype(int))
    parts = [order[k : k + 1] for k in range(len(order))]
    if len(order) > FEW:
        parts = [part for part in np.array_split(order, GROUPS) if len(part)]
    own = plans.target
    shown = sorted(
        {
            int(part[k])
            for part in parts
            for k in (0, len(part) // 2, -1, own[part].argmin(), own[part].argmax())
        }
    )

    def course(client: int, noise: float) -> list[History]:
        rate, steps = float(plans.sample_rate[client]), int(plans.steps[client])
        charged = noise / sensitivity(budget)
        return [[*plans.released, (charged, rate, int(mark) * steps)] for mark in marks]

    middle = int(order[len(order) // 2])
    lines = {("clients", str(k)): course(k, float(plans.noise_multiplier[k])) for k in shown}
    for level in LEVELS:
        noise = level * float(plans.noise_multiplier[middle])
        lines["levels", f"noise {write(noise)}"] = course(middle, noise)
    figures = iter(
        epsilon_of_clients(
            [history for line in lines.values() for history in line],
            delta=budget.delta,
            accountant=budget.accountant,
            quick=True,
        )
    )
    at_first = _alone(plans.released, delta=budget.delta, accountant=budget.accountant)
    found = {key: np.array([next(figures).epsilon for _ in line]) for key, line in lines.items()}
    by_client = {int(name): course for (kind, name), course in found.items() if kind == "clients"}
    for client, spent in by_client.items():
        np.minimum(spent, plans.target[client], out=spent)  # calibrated for the last of them
    return Outlook(
        table=_table(plans, sizes, names, parts, by_client, marks),
        sentences=(
            *_sentences(plans, by_client, rounds=rounds, sample=sample),
            *([_encoding(plans)] if plans.released else []),
            *([evaluation_cost(counts, evaluations)] if counts else []),
            *plans.warnings,
        ),
        spread=_frame({names[k]: spent for k, spent in by_client.items()}, marks, at_first),
        levels=_frame(
            {s: e for (kind, s), e in found.items() if kind == "levels"}, marks, at_first
        ),
        middle=f"{names[middle]} with {int(sizes[middle]):,} records",
        others=_others(plans, counts, evaluations),
    )


def _alone(history: History, *, delta: float, accountant: str = "prv") -> float:
    return epsilon_of_history(history, delta=delta, accountant=accountant).epsilon


def _others(plans: ClientPlans, counts: CountNoise | None, evaluations: int) -> pd.DataFrame:
    """A row for each release beside training."""
    budget, rows = plans.budget, []
    for noise, _, times in plans.released:
        spent = _alone(plans.released, delta=budget.delta, accountant=budget.accountant)
        rows.append(
            ("scales of features", "training, from its budget", times, noise, spent, budget.delta)
        )
    if counts is not None:
        spent = counts.spent(evaluations).epsilon
        rows.append(("evaluation counts", "test and validation", evaluations, counts.noise_multiplier, spent, counts.delta))  # fmt: skip
    said = [
        (what, records, write(times, "count"), write(noise), write(spent), f"{delta:g}")
        for what, records, times, noise, spent, delta in rows
    ]
    columns = ["released", "of records", "times", "noise", "ε alone", "δ"]
    return pd.DataFrame(said, columns=columns)


def _encoding(plans: ClientPlans) -> str:
    budget = plans.budget
    spent = _alone(plans.released, delta=budget.delta, accountant=budget.accountant)
    return (
        f"Scales of features cost epsilon {write(spent)} alone, once and before training; it is composed "
        "with training in all figures here."
    )


def evaluation_cost(counts: CountNoise, evaluations: int) -> str:
    """What so many evaluations cost, in a sentence."""
    spent = counts.spent(evaluations).epsilon
    return (
        f"Evaluation counts: {evaluations} evaluations cost each test or validation record epsilon "
        f"{write(spent)} at delta = {counts.delta:g} (noise {write(counts.noise_multiplier)}), in a ledger "
        "apart from that of training records."
    )


def _frame(courses: dict[str, np.ndarray], marks: np.ndarray, at_first: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "round": [0, *marks.tolist()] * len(courses),
            "series": np.repeat(list(courses), len(marks) + 1),
            "value": np.concatenate([[at_first, *course] for course in courses.values()]),
        }
    )


def _table(
    plans: ClientPlans,
    sizes: np.ndarray,
    names: Sequence[str],
    parts: Sequence[np.ndarray],
    spent: dict[int, np.ndarray],
    marks: np.ndarray,
) -> pd.DataFrame:
    """One row a client or a group, with ranges from least to most."""

    def span(values: np.ndarray) -> str:
        kind: Kind = "number" if values.dtype.kind == "f" else "count"
        low, high = write(values.min(), kind), write(values.max(), kind)
        return low if low == high else f"{low} - {high}"

    rows = []
    places = sorted({0, (len(marks) - 1) // 2, len(marks) - 1})
    for part in parts:
        courses = np.array([spent[int(k)] for k in part if int(k) in spent])
        rows.append(
            {
                "clients": names[int(part[0])] if len(part) == 1 else f"{len(part):,}",
                "records": span(sizes[part].astype(int)),
                "sample rate": span(plans.sample_rate[part]),
                "steps": span(plans.steps[part].astype(int)),
                "noise": span(plans.noise_multiplier[part]),
                **{f"ε {'round ' * (k == 0)}{marks[k]}": span(courses[:, k]) for k in places},
            }
        )
    return pd.DataFrame(rows)


def _sentences(
    plans: ClientPlans, spent: dict[int, np.ndarray], *, rounds: int, sample: float
) -> tuple[str, ...]:
    budget = plans.budget
    ends = np.array([course[-1] for course in spent.values()])
    declining = share_declining(
        participations=budget.participations, rounds=rounds, sample=min(1.0, sample)
    )
    noise = plans.noise_multiplier[plans.steps > 0]
    return (
        f"Noise multiplier: {write(noise.min())} at least, {write(float(np.median(noise)))} at the "
        f"median, {write(noise.max())} at most. "
        f"Epsilon at the end, at delta = {budget.delta:g}: {write(ends.min())} at least, "
        f"{write(float(np.median(ends)))} at the median, {write(ends.max())} at most (accountant "
        f"{budget.accountant}), for a client that takes part in {budget.participations} rounds.",
        f"Each round asks {write(min(1.0, sample), 'percent')} of the clients, {rounds} rounds are run, "
        f"{budget.participations} are planned for: {write(declining, 'percent')} of the clients are "
        "expected to decline at some time.",
    )


def _other_table(others: pd.DataFrame) -> list[Table]:
    if others.empty:
        return []
    return [
        Table(
            caption="What is released beside training",
            columns=_columns(others, words=2),
            rows=others.to_numpy().tolist(),
        )
    ]


def _columns(table: pd.DataFrame, *, words: int) -> list[Column]:
    """Columns of written cells: so many of words, then figures."""
    return [
        Column(label=label, kind="text" if number < words else "written")
        for number, label in enumerate(table.columns)
    ]


def write_outlook(outlook: Outlook, name: str, path: Path) -> Path:
    """Write the page to `path` and return it."""
    series = outlook.levels.series.unique().tolist()
    levels = charts.lines(outlook.levels, series=series, kind="number", title="privacy loss ε")
    spread = charts.threads(outlook.spread, kind="number", title="privacy loss ε", heading="client")
    page = Page(
        title=f"{name}: privacy plan",
        about=["before anything has run"],
        headline=outlook.sentences[0],
        sections=[
            Section(
                title="Privacy plan",
                blocks=[
                    Table(
                        caption="What the clients will spend",
                        columns=_columns(outlook.table, words=1),
                        rows=outlook.table.to_numpy().tolist(),
                        note="Epsilon after so many rounds of taking part; of a group, at its "
                        "smallest, middle and largest client, and at those of least and largest target.",
                    ),
                    *_other_table(outlook.others),
                    Figure(
                        title="Epsilon for several noise levels",
                        spec=charts.specification(levels),
                        description=f"Epsilon by rounds that client {outlook.middle} takes part in.",
                        caption=f"Client {outlook.middle}; the middle noise is the planned one.",
                    ),
                    Figure(
                        title="Epsilon of the clients",
                        spec=charts.specification(spread),
                        description="Epsilon by rounds that a client takes part in.",
                        caption="One line a client, with the noise that is planned for it.",
                    ),
                    Listing(caption="In words", items=list(outlook.sentences)),
                ],
            )
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(), encoding="utf-8")
    return path
