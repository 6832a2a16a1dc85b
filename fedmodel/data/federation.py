"""A federation of files: one a client, aligned by a schema."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from fedmodel.data.align import aligned, match
from fedmodel.data.client_file import ClientFile, parts
from fedmodel.data.columns import records_of
from fedmodel.data.memory import check_memory
from fedmodel.data.reading import check_file
from fedmodel.data.records import Range, Records
from fedmodel.data.schema import Schema, read_schema
from fedmodel.errors import FedmodelError
from fedmodel.types import Card

__all__ = ["files"]

CLIENT = "client of the schema"  # a column of ours
MOST_NAMED = 8


def files(*, schema: Path) -> Records:
    """One file a client (CSV or Parquet), with names, units and words made the same by a schema.

    The schema says which file is whose, which column is the label, which are sensitive, and what
    each is called at each client. What a client has no column for is missing at that client.
    `fedmodel schema FILE...` writes one to start from.

    Args:
        schema: the schema file (.toml); files are named relative to it.

    Raises:
        FedmodelError: the schema contradicts itself; a file cannot be read; a value does not fit
            the schema, with client, file, column and what to do.
    """
    plan, source = read_schema(schema)
    if plan.label is None:
        raise FedmodelError(
            "the schema names no label",
            where=str(schema),
            fix=f'Write label = "..." at its top, one of: {", ".join(plan.columns)}.',
        )
    clients = plan.files(schema.parent)
    for file in clients:
        check_file(file.path)
    for separator in {file.separator for file in clients}:
        same = [file.path for file in clients if file.separator == separator]
        check_memory(*same, separator=separator)
    frames, notes = [], []
    for file in clients:
        try:
            frame, note = _client(plan, file)
        except FedmodelError as error:
            error.where = source.place(error.where)
            raise
        frames.append(frame.assign(**{CLIENT: file.client}))
        notes += note
    pooled = pd.concat(frames, ignore_index=True)
    if not plan.public:
        notes.append("the schema was made from records (public = false)")
    records = records_of(
        _in_order(pooled, plan),
        schema,
        label=plan.label,
        sensitive=plan.sensitive,
        bins=plan.bins,
        client=CLIENT,
        features=None,
        split=plan.split,
        positive=plan.positive,
        text=None,
        max_tokens=64,
        buckets=8192,
    )
    card = Card(
        name=schema.stem,
        title=schema.stem,
        source=", ".join(file.path.name for file in clients[:MOST_NAMED]),
        licence="the users' own",
        cautions=("; ".join(notes) + ".",) if notes else (),
    )
    return replace(records, card=card, ranges=_ranges(plan) if plan.public else {})


def _client(schema: Schema, file: ClientFile) -> tuple[pd.DataFrame, list[str]]:
    """A client's aligned records, and what there is to say about them."""
    frames, given, matched = [], 0, None
    for part in parts(file):
        matched = matched or match(list(part.columns), schema, file)
        frames.append(aligned(part, matched, schema, file))
        given += len(part)
    assert matched is not None
    frame = pd.concat(frames)
    if frame.empty:
        raise FedmodelError(
            f"no record of client {file.client} is left",
            where=str(file.path),
            fix='Its records lack columns with missing = "drop": write "mark" there, or leave '
            "this client out.",
        )
    notes = []
    if matched.lacking:
        notes.append(f"{file.client} has no {', '.join(matched.lacking)}")
    if matched.extra:
        more = f" and {len(matched.extra) - MOST_NAMED} more" * (len(matched.extra) > MOST_NAMED)
        notes.append(f"{', '.join(matched.extra[:MOST_NAMED])}{more} of {file.client} left out")
    if given > len(frame):
        notes.append(f"{given - len(frame)} of {given} records of {file.client} dropped")
    return frame, notes


def _in_order(pooled: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Categories in the schema's order where it lists them: the label's classes follow it."""
    for name, about in schema.columns.items():
        if about.kind == "category" and about.categories and name != schema.split:
            there = set(pooled[name].dropna())
            levels = [category for category in about.categories if category in there]
            pooled[name] = pd.Categorical(pooled[name], categories=levels)
    return pooled


def _ranges(schema: Schema) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for name, about in schema.columns.items():
        if name in (schema.label, schema.split):
            continue
        if about.range is not None:
            ranges[name] = (about.range[0], about.range[1])
        elif about.categories:
            ranges[name] = tuple(about.categories)
    return ranges
