"""The opening of a report: the result in one sentence, and the few figures that matter most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fedmodel.runs.words import client_name, metric, write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["about", "headline", "key_figures", "warning"]

CROWD = 20  # clients, from which on a tenth of them is more than one or two


def headline(data: ReportData) -> str:
    """The result in one sentence."""
    last = data.value(data.lead)
    if math.isnan(last):
        return "No evaluation of the shared model has been recorded."
    begin = f"After {_plural(data.last_round, 'round')}" if data.last_round else "Without training"
    clauses = [f"{begin}, {_result(data, last)}"]
    if not math.isnan(honest := data.value("honest_accuracy")):
        clauses.append(f"at the honest clients it is right on {write(honest, 'percent')}")
    if not math.isnan(tenth := _worst_tenth(data)):
        clauses.append(f"the tenth of clients served worst gets {write(tenth, 'percent')}")
    elif data.worst_client is not None:
        client, value = data.worst_client
        clauses.append(
            f"the client served worst, {client_name(client)}, gets {write(value, 'percent')}"
        )
    attribute, gap = data.largest_gap("demographic_parity_difference")
    if not math.isnan(gap):
        clauses.append(
            f"the share of positive decisions differs by {write(gap, 'points')} "
            f"between the groups of {attribute}"
        )
    if len(data.spent):
        largest = write(data.spent.epsilon.max())
        clauses.append(f"the largest privacy loss of a client is ε\N{NO-BREAK SPACE}= {largest}")
    return "; ".join(clauses) + "."


def _result(data: ReportData, last: float) -> str:
    auc = data.value("roc_auc")
    what, value = metric(data.lead), write(last, metric(data.lead).kind)
    if data.best is not None and data.best[0] != data.last_round:
        best, _ = data.best
        value += f" (at best {write(data.value(data.lead, at=best), what.kind)}, in round {best})"
    where = f"the {data.split} records"
    aside = "" if math.isnan(auc) or data.lead == "roc_auc" else f", with an AUC of {write(auc)}"
    if data.lead == "accuracy":
        return f"the shared model is right on {value} of {where}{aside}"
    return f"the shared model has a {what.label} of {value} on {where}{aside}"


def key_figures(data: ReportData) -> list[tuple[str, str, str]]:
    """Label, value and remark of what one looks for first."""
    what, figures = metric(data.lead), []
    if not math.isnan(last := data.value(data.lead)):
        remark = f"last round, {data.split} records"
        if data.best is not None:
            best, by = data.best
            value = write(data.value(data.lead, at=best), what.kind)
            remark = f"last round; best {value} in round {best}, chosen by {by} records"
            if best == data.last_round:
                remark = f"last round, which is also the best by {by} records"
        figures.append((what.label.capitalize(), write(last, what.kind), remark))
    if not math.isnan(honest := data.value("honest_accuracy")):
        figures.append(("Honest clients", write(honest, "percent"), "accuracy under attack"))
    if data.lead != "roc_auc" and not math.isnan(auc := data.value("roc_auc")):
        figures.append(("AUC", write(auc), "0.5 is guessing, 1 is perfect"))
    if data.worst_client is not None:
        client, share = data.worst_client
        worst = "Worst client", write(share, "percent"), f"accuracy at {_whose(data, client)}"
        if not math.isnan(tenth := _worst_tenth(data)):
            remark = f"mean of the tenth of clients served worst; {write(share, 'percent')} at "
            worst = "Worst clients", write(tenth, "percent"), remark + _whose(data, client)
        figures.append(worst)
    attribute, gap = data.largest_gap("demographic_parity_difference")
    if not math.isnan(gap):
        remark = f"in the share of positive decisions, by {attribute}"
        figures.append(("Gap between groups", write(gap, "points"), remark))
    if len(data.spent):
        most = data.spent.sort_values("epsilon").iloc[-1]
        remark = f"privacy spent, at {client_name(most.client)}; smaller is more private"
        figures.append(("Largest ε", write(most.epsilon), remark))
    return figures


def _whose(data: ReportData, client: str) -> str:
    """A client and how many records its accuracy stands on: of few it is a matter of luck."""
    if data.split != "test" or "num_test" not in data.clients:
        return client_name(client)
    sizes = data.clients.num_test[data.clients.client.astype(str).eq(client)]
    if not len(sizes):
        return client_name(client)
    return f"{client_name(client)}, on {_plural(int(sizes.iloc[0]), 'record')}"


def _worst_tenth(data: ReportData) -> float:
    """The worst tenth's accuracy where there are clients enough for one: one alone may be chance."""
    return data.value("accuracy_worst_decile") if data.num_clients >= CROWD else math.nan


def about(data: ReportData) -> list[str]:
    """Which run this is: data, clients, rounds, engine, time."""
    done, asked = data.last_round, max(data.rounds, data.last_round)
    facts = [
        data.card.title or data.card.name,
        _plural(data.num_clients, "client"),
        _plural(asked, "round") if done == asked else f"{done} of {_plural(asked, 'round')}",
    ]
    if engine := data.manifest.get("engine"):
        facts.append(f"{engine['name'] if isinstance(engine, dict) else engine} engine")
    if isinstance(seconds := data.manifest.get("seconds"), int | float):
        facts.append(_duration(seconds))
    if started := data.manifest.get("started"):
        facts.append(str(started)[:16].replace("T", " "))
    return [fact for fact in facts if fact]


def warning(data: ReportData) -> str:
    """What to know before reading anything else; empty where all is well."""
    if data.finished:
        return ""
    asked = _plural(data.rounds, "round")
    return f"This run has not finished: {data.last_round} of {asked} are in this report."


def _plural(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{write(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
