"""What the report calls things, and how it writes numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import pandas

__all__ = [
    "METRICS",
    "MODELS",
    "Kind",
    "Metric",
    "bound_of",
    "client_name",
    "limits_of",
    "listed",
    "metric",
    "span",
    "write",
]

Kind = Literal["percent", "points", "number", "count", "text", "truth", "written"]


@dataclass(frozen=True)
class Metric:
    """A metric's name for readers, how its values are written, and what it means."""

    label: str
    kind: Kind
    meaning: str
    limits: tuple[float, float] = (0.0, 1.0)  # where its values can lie


METRICS = {
    "accuracy": Metric("accuracy", "percent", "share of records classified correctly"),
    "balanced_accuracy": Metric(
        "balanced accuracy",
        "percent",
        "accuracy in each class, averaged: a rare class weighs as much as a common one",
    ),
    "roc_auc": Metric(
        "AUC",
        "number",
        "chance that a positive record is scored above a negative one; 0.5 is guessing, 1 perfect",
    ),
    "roc_auc_bound": Metric(
        "AUC error", "number", "how far the AUC can be off, as it is computed from counts in bins"
    ),
    "loss": Metric(
        "loss",
        "number",
        "mean surprise at the true class (cross-entropy, nats); lower is better",
        (0.0, math.inf),
    ),
    "selection_rate": Metric(
        "positive decisions", "percent", "share of records that the model calls positive"
    ),
    "true_positive_rate": Metric(
        "true positives found", "percent", "share of positive records that the model calls positive"
    ),
    "false_positive_rate": Metric(
        "false alarms", "percent", "share of negative records that the model calls positive"
    ),
    "demographic_parity_difference": Metric(
        "demographic parity gap",
        "points",
        "largest minus smallest share of positive decisions among the groups",
    ),
    "equalized_odds_difference": Metric(
        "equalised odds gap",
        "points",
        "largest difference among the groups in true or in false positive rate",
    ),
    "accuracy_difference": Metric(
        "accuracy gap", "points", "largest minus smallest accuracy among the groups"
    ),
    "demographic_parity_ratio": Metric(
        "demographic parity ratio",
        "number",
        "smallest over largest share of positive decisions among the groups; 1 is equal",
    ),
    "equalized_odds_ratio": Metric(
        "equalised odds ratio",
        "number",
        "smallest over largest error rate among the groups, the worse of the two; 1 is equal",
    ),
    "accuracy_mean": Metric(
        "mean over clients", "percent", "every client counts the same, however many records it has"
    ),
    "accuracy_std": Metric(
        "standard deviation", "points", "how far clients typically lie from that mean"
    ),
    "accuracy_worst_decile": Metric(
        "worst tenth of clients", "percent", "mean accuracy of the tenth of clients served worst"
    ),
    "accuracy_jain": Metric(
        "Jain index",
        "number",
        "1 where all clients get the same accuracy, near 0 where one has all",
    ),
    "accuracy_gini": Metric(
        "Gini index", "number", "0 where all clients get the same accuracy; higher is less equal"
    ),
    "honest_accuracy": Metric(
        "accuracy at honest clients", "percent", "measured on the records of honest clients only"
    ),
    "honest_accuracy_worst_decile": Metric(
        "worst tenth of honest clients", "percent", "mean accuracy of the honest served worst"
    ),
    "num_records": Metric("records", "count", "how many there are", (0.0, math.inf)),
    "aggregate_share": Metric(
        "share of the aggregate",
        "percent",
        "change in the size of a round's aggregate when one client's update is left out",
        (0.0, math.inf),
    ),
}

# The models a run compares: name for readers, and what it is.
MODELS = {
    "global": ("this run", "the shared model of this run"),
    "at_threshold": ("at its threshold", "the final model with its chosen decision threshold"),
    "non_private": ("without privacy", "this federation without clipping and noise"),
    "pooled": ("pooled records", "the same model trained on all training records in one place"),
    "local": ("each client alone", "each client trains on its own records only"),
    "personal": ("personalised", "the shared model, adapted by each client"),
}


def metric(name: str) -> Metric:
    """A known metric, also under a condition, or the name as it stands for one we do not know.

    >>> metric("accuracy[missing=0.2]").label, metric("profit").limits
    ('accuracy [missing=0.2]', (-inf, inf))
    """
    plain, bracket, condition = name.partition("[")
    known = METRICS.get(plain)
    if known is None:
        return Metric(name.replace("_", " "), "number", "", (-math.inf, math.inf))
    return replace(known, label=f"{known.label} [{condition}") if bracket else known


def bound_of(name: str) -> str:
    """The metric that this one is a bound of the interval of, or "".

    >>> bound_of("accuracy_low"), bound_of("accuracy")
    ('accuracy', '')
    """
    stem, _, end = name.rpartition("_")
    return stem if end in ("low", "high") and stem in METRICS else ""


def limits_of(name: str) -> tuple[float, float]:
    """Where a metric, or a bound of one, can lie.

    >>> limits_of("accuracy_low"), limits_of("loss")
    ((0.0, 1.0), (0.0, inf))
    """
    return metric(bound_of(name) or name).limits


def write(value: object, kind: Kind = "number") -> str:
    """A value as a reader wants it: three significant digits, shares as percentages.

    >>> write(0.84213, "percent"), write(0.172, "points"), write(32561, "count")
    ('84.2%', '17.2 points', '32,561')
    >>> write(0.99996, "percent"), write(1.0, "percent"), write(1e-5), write(0.5), write(1234.5)
    ('99.996%', '100%', '1e-5', '0.500', '1,234')
    >>> write(float("nan"), "percent"), write(None, "percent"), write(float("inf"))
    ('not defined', '–', 'unbounded')
    """
    if value is None:
        return "–"  # not measured, which is not the same as not defined
    if pandas.isna(value):  # type: ignore[call-overload]
        return "not defined"
    if kind in ("text", "written"):
        return str(value)
    number = float(value)  # type: ignore[arg-type]
    if kind == "truth":
        return "yes" if number else "no"
    if math.isinf(number):
        return "unbounded"
    if kind == "count":
        return f"{number:,.0f}"
    if kind == "percent":
        return f"{_significant(100 * number, ceiling=100)}%"
    if kind == "points":
        return f"{_significant(100 * number)} points"
    return _significant(number)


def span(low: float, high: float, kind: Kind = "number") -> str:
    """An interval, its unit said once.

    >>> span(0.801, 0.845, "percent"), span(-0.01, 0.02, "points"), span(0.5, 0.75)
    ('80.1 to 84.5%', '-1.00 to 2.00 points', '0.500 to 0.750')
    """
    return f"{write(low, kind).removesuffix('%').removesuffix(' points')} to {write(high, kind)}"


def client_name(client: object) -> str:
    """A client as a sentence names it: a bare number does not read as a name."""
    return f"client {client}" if str(client).isdigit() else str(client)


def listed(parts: Iterable[str]) -> str:
    """Join as English does.

    >>> listed(["sex"]), listed(["sex", "race", "age"])
    ('sex', 'sex, race and age')
    """
    *most, last = list(parts) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _significant(number: float, *, ceiling: float = math.inf) -> str:
    """Three significant digits; more where rounding would claim a ceiling that is not reached."""
    digits = 3
    while number < ceiling <= float(f"{number:.{digits}g}") and digits < 9:
        digits += 1
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    if number == 0:
        return "0"
    if abs(number) < 0.001:
        mantissa, exponent = f"{number:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{number:#.{digits}g}".rstrip(".")
