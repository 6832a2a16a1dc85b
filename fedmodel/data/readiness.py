"""Whether a federation is ready to train: its columns side by side, and what does not fit, by client."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from fedmodel.data.histogram import quantile
from fedmodel.data.schema import Schema
from fedmodel.data.sums import ClientSums, ColumnSums, pooled
from fedmodel.data.units import KNOWN, Conversion, plain, shown

__all__ = ["Readiness", "readiness", "suspected"]

QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}
FAR = 2.0  # standard deviations between means from which a unit is suspected
MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What the sums of all clients say together.

    `table` has a row a column: column, kind, unit, clients, records, missing (share), mean,
    deviation, for each quartile its certain limits (`median_low`, `median_high`, ...), categories.
    """

    table: pd.DataFrame
    mismatches: tuple[tuple[str, str], ...]  # client, what does not fit there
    fits: bool  # whether a run would take the files as they are
    clients: int


def readiness(sums: Sequence[ClientSums], schema: Schema) -> Readiness:
    """Put the clients' sums of the schema's columns side by side; no record is seen."""
    rows, found = [], []
    for name, about in schema.columns.items():
        there = {s.client: s.columns[name] for s in sums if name in s.columns}
        whole = pooled(list(there.values()))
        row = {
            "column": name,
            "kind": about.kind,
            "unit": about.unit,
            "clients": len(there),
            "records": whole.records,
            "missing": whole.missing / whole.records if whole.records else math.nan,
            "mean": math.nan,
            "deviation": math.nan,
            "categories": dict(whole.categories) if about.kind == "category" else {},
        }
        if about.kind == "number" and whole.mean is not None:
            row |= {"mean": whole.mean, "deviation": whole.deviation}
            told = [t.histogram for t in there.values() if t.histogram is not None]
            for quartile, share in QUARTILES.items():
                row[f"{quartile}_low"], row[f"{quartile}_high"] = quantile(told, share)
        rows.append(row)
    for client in sums:
        found += [(client.client, text) for text in _mismatches(client, sums, schema)]
    refused = any(c.refused for s in sums for c in s.columns.values())
    return Readiness(
        table=pd.DataFrame(rows),
        mismatches=tuple(found),
        fits=not refused and not any(s.fault for s in sums),
        clients=len(sums),
    )


def _mismatches(client: ClientSums, sums: Sequence[ClientSums], schema: Schema) -> Iterator[str]:
    if client.fault:
        yield client.fault
        return
    lacking, alone = [], []
    for name, about in schema.columns.items():
        others = [s.columns[name] for s in sums if s is not client and name in s.columns]
        if name not in client.columns:
            if len(others) >= len(sums) / 2:
                lacking.append(name)
            continue
        own = client.columns[name]
        if own.refused:
            allowed = "outside what the schema allows"
            yield f"{name}: {own.refused:,} of {_count(own.records, 'value')} {allowed}"
        if own.kind == "empty":
            yield f"{name} has no value at all"
        elif not others and len(sums) > 1:
            alone.append(name)
        elif about.kind == "number":
            yield from _number(name, own, pooled(others))
        else:
            yield from _category(name, own, pooled(others))
    if lacking:
        yield f"lacks {_some(lacking)}: all missing here"
    if alone:
        same = " (other names for what is lacking? then list them in its names)" * bool(lacking)
        yield f"here only: {_some(alone)}{same}"
    if client.extra:
        yield f"left out, as not in the schema: {_some(client.extra)}"


def _number(name: str, own: ColumnSums, others: ColumnSums) -> Iterator[str]:
    if own.kind == "category":
        yield f"{name} holds words here, and numbers elsewhere"
    elif own.words:
        words = [repr(word) for word in own.categories if not _is_number(word)]
        named = f" ({_some(words)})" if words else ""
        yield f"{name} mixes {_count(own.numbers, 'number')} with {_count(own.words, 'word')}{named}"
    if own.mean is None or own.deviation is None or others.mean is None or not others.deviation:
        return
    if abs(own.mean - others.mean) <= FAR * others.deviation:
        return
    how = suspected(name, own.mean, own.deviation, others.mean, others.deviation)
    why = "no unit known here explains it"
    if how is not None:
        shift = f", then {how.offset:+.4g}" if how.offset else ""
        why = f"{shown(how.source)} in place of {shown(how.target)} (times {how.scale:.5g}{shift})?"
    yield f"{name}: mean {own.mean:.4g}, elsewhere {others.mean:.4g}: {why}"


def suspected(
    name: str, mean: float, deviation: float, others_mean: float, others_deviation: float
) -> Conversion | None:
    """The known conversion that brings mean and deviation closest to those elsewhere, if any does.

    Close is half of the others' standard deviation for the mean, and a factor of two for the
    deviation: hospitals differ, too.
    """
    column, best, least = plain(name), None, math.inf
    for known in KNOWN:
        if known.of not in column or deviation <= 0:
            continue
        off = abs(known.scale * mean + known.offset - others_mean) / others_deviation
        spread = abs(math.log(known.scale * deviation / others_deviation))
        # A substance of its own is the better explanation of two that fit.
        distance = off + spread - (0.25 if known.of else 0.0)
        if off < 0.5 and spread < math.log(2) and distance < least:
            best, least = known, distance
    return best


def _category(name: str, own: ColumnSums, others: ColumnSums) -> Iterator[str]:
    if own.kind != "category" and others.words > others.numbers:
        yield f"{name} holds numbers here, and words elsewhere"
    alone = sorted(word for word in own.categories if word not in others.categories)
    if alone and others.categories:
        yield f"{name} has categories that are here only: {_some(list(map(repr, alone)))}"
    if own.rare:
        yield f"{name}: {_count(own.rare, 'record')} in categories too rare to be told"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
