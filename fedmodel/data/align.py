"""A client's records as the schema has them: names, units and words made the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from fedmodel.data.client_file import ClientFile, to_numbers, to_text
from fedmodel.data.schema import Schema
from fedmodel.errors import FedmodelError

__all__ = ["Match", "aligned", "converted", "match", "records_named"]

MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Match:
    """Which of a client's columns is which of the schema's."""

    found: dict[str, str]  # the schema's name -> the client's
    lacking: tuple[str, ...]
    extra: tuple[str, ...]  # in the file, not in the schema, nor in its `drop`


def match(names: Sequence[str], schema: Schema, file: ClientFile) -> Match:
    """Find the schema's columns among a file's.

    A name given for this client goes first, then the schema's own, then the other names.

    Raises:
        FedmodelError: a column named for this client is not there; two columns mean the same;
            hardly the right file, as it has none of the features.
    """
    found: dict[str, str] = {}
    for column, about in schema.columns.items():
        own = about.at[file.client].name if file.client in about.at else None
        candidates = [own] if own is not None else [column, *about.names]
        there = [name for name in candidates if name in names]
        if own is not None and not there:
            raise FedmodelError(
                f"{file.path.name} of client {file.client} has no column {own!r}",
                where=f"[columns.{column}.at.{file.client}] name",
                fix=f"It has: {', '.join(names)}. Leave the name out if this client has no "
                f"{column}.",
            )
        if len(there) > 1:
            raise FedmodelError(
                f"{file.path.name} of client {file.client} has {there[0]!r} and {there[1]!r}, and "
                f"both mean {column!r}",
                where=f"[columns.{column}]",
                fix=f'Name the right one: [columns.{column}.at.{file.client}] name = "{there[0]}".',
            )
        if there:
            found[column] = there[0]
    if not set(found) - {schema.label, schema.split}:
        raise FedmodelError(
            f"{file.path.name} of client {file.client} has no column of the schema to learn from",
            where=str(file.path),
            fix=f"It has: {', '.join(names)}. The schema has: {', '.join(schema.columns)}. Name "
            "the right file, or say what the columns are called there: "
            f'[columns.NAME.at.{file.client}] name = "...".',
        )
    known = {*found.values(), *schema.drop}
    return Match(
        found=found,
        lacking=tuple(name for name in schema.columns if name not in found),
        extra=tuple(name for name in names if name not in known),
    )


def converted(
    values: pd.Series, column: str, schema: Schema, file: ClientFile
) -> tuple[pd.Series, Bool[np.ndarray, " n"]]:
    """A client's column in the schema's unit or words, and which values the schema does not allow.

    Not allowed are words among numbers, numbers out of the range, words that are no category; they
    are missing in the result.
    """
    about = schema.columns[column]
    scale, offset, meanings = schema.local(column, file.client)
    given = values.notna().to_numpy()
    if about.kind == "number":
        numbers = scale * to_numbers(values, decimal=file.decimal) + offset
        refused = given & np.isnan(numbers)
        if about.range is not None:
            low, high = about.range
            refused |= given & ((numbers < low) | (numbers > high))
        return pd.Series(np.where(refused, np.nan, numbers), values.index, name=column), refused
    text = to_text(values).replace(meanings)
    allowed = text.isin(about.categories) if about.categories else text.notna()
    refused = given & ~allowed.to_numpy()
    return text.where(~refused).rename(column), refused


def aligned(part: pd.DataFrame, matched: Match, schema: Schema, file: ClientFile) -> pd.DataFrame:
    """A part of a client's records with the schema's columns, in its order.

    What the client has no column for is missing. Then records without a value are dropped, filled,
    or refused, as the column says.

    Raises:
        FedmodelError: a value that the schema does not allow, or a missing one that it refuses.
    """
    columns: dict[str, pd.Series] = {}
    for name, about in schema.columns.items():
        if name in matched.found:
            values = part[matched.found[name]]
            columns[name], refused = converted(values, name, schema, file)
            if refused.any() and about.outside == "refuse":
                raise _refusal(values[refused], name, schema, file)
        else:
            empty = np.nan if about.kind == "number" else pd.Series(np.nan, part.index, dtype="str")
            columns[name] = pd.Series(empty, part.index, name=name)
        if about.fill is not None:
            columns[name] = columns[name].fillna(about.fill)
    frame = pd.DataFrame(columns)
    for name, about in schema.columns.items():
        lacking = frame[name].isna()
        wanted = about.missing == "refuse" or (name == schema.label and about.missing == "mark")
        if lacking.any() and wanted:
            no_column = "" if name in matched.found else ", which has no such column"
            raise FedmodelError(
                f"client {file.client} lacks {name!r} in {records_named(lacking[lacking].index)} of "
                f"{file.path.name}{no_column}",
                where=f"[columns.{name}] missing",
                fix='Fill it in there, or write missing = "drop", which leaves these records out'
                + ("." if name == schema.label else ', or "mark".'),
            )
    droppers = [name for name, about in schema.columns.items() if about.missing == "drop"]
    return frame.dropna(subset=droppers) if droppers else frame


def records_named(numbers: pd.Index) -> str:
    """``record 3, 8 and 4 more``."""
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    return f"record {', '.join(map(str, numbers[:MOST_NAMED]))}{more}"


def _refusal(wrong: pd.Series, column: str, schema: Schema, file: ClientFile) -> FedmodelError:
    about = schema.columns[column]
    scale, offset, _ = schema.local(column, file.client)
    words = list(dict.fromkeys(wrong.astype("str")))
    shown = ", ".join(map(repr, words[:MOST_NAMED]))
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    numbers = to_numbers(wrong, decimal=file.decimal)
    local = f"[columns.{column}.at.{file.client}]"
    if about.kind == "category":
        what = f"are not among the categories of {column!r}"
        fix = (
            f"Say what they mean: {local} values = {{ {_quoted(words[0])} = "
            f"{_quoted(about.categories[0])} }}; or add them to [columns.{column}] categories"
        )
    elif np.isnan(numbers).any():
        words = list(dict.fromkeys(wrong[np.isnan(numbers)].astype("str")))
        shown, more = ", ".join(map(repr, words[:MOST_NAMED])), ""
        what = f"are no numbers, and {column!r} is one"
        comma = all("," in word for word in words)
        fix = (
            f'Write [clients.{file.client}] decimal = ","'
            if comma
            else "Name words that mean a missing value: "
            f"[clients.{file.client}] missing = [{_quoted(words[0])}]"
        )
    else:
        assert about.range is not None
        become = "" if (scale, offset) == (1, 0) else f" (there {scale:g} * value + {offset:g})"
        what = (
            f"are outside the range {about.range[0]:g} to {about.range[1]:g} of {column!r}{become}"
        )
        fix = (
            f"Correct them, widen the range, or say in which unit this client writes: {local} unit"
        )
    return FedmodelError(
        f"client {file.client} has values that {what}: {shown}{more} in "
        f"{records_named(wrong.index)} of {file.path.name}, column {wrong.name!r}",
        where=f"[columns.{column}]",
        fix=f'{fix}; or write outside = "missing".',
    )


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
