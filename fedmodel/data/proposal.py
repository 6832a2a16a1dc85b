"""A schema to start from: what the clients' sums say about which columns mean the same."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tomli_w

from fedmodel.data.client_file import ClientFile
from fedmodel.data.records import in_order
from fedmodel.data.schema import Column, File, Local, Schema
from fedmodel.data.sums import ClientSums, ColumnSums, pooled
from fedmodel.data.units import conversion, shown, split_unit
from fedmodel.errors import FedmodelError, nearest

__all__ = ["propose", "seen_through", "written"]

WIDEST = 80  # columns of a list that stands in one line

HEAD = """\
# Written by `fedmodel schema` from sums of {count} files: look it through and correct it. Then
# `fedmodel schema {name}` says what does not fit, and an experiment reads the files by
#     [data]
#     name = "files"
#     schema = "{name}"
# Ranges and categories come from records. Once you have replaced them by a codebook's, write
# public = true below, and encode = "public" takes them.
"""
NO_LABEL = '# label = "..."    which column is to be predicted\n'


def propose(
    sums: Sequence[ClientSums],
    files: Sequence[ClientFile],
    *,
    base: Path,
    label: str | None = None,
    sensitive: Sequence[str] = (),
) -> Schema:
    """A schema from what clients told; `files` are named relative to `base`.

    1. Columns are the same if their names are, without case, punctuation and a unit at the end.
    2. The unit is that of most clients; the others' are converted where it is known how.
    3. Words are the same category if they differ in case only; the most frequent one stands.
    4. A column of words of which none is frequent enough to be told is an id or a name: dropped.

    Raises:
        FedmodelError: no client has the label or a sensitive column.
    """
    columns: dict[str, Column] = {}
    drop: list[str] = []
    chosen = {"label": [label] if label is not None else [], "sensitive": list(sensitive)}
    renamed: dict[str, str] = {}
    for stem, own in _groups(sums).items():
        spellings = list(dict.fromkeys(own.values()))
        name = spellings[0] if len(spellings) == 1 else stem
        renamed |= dict.fromkeys((*spellings, name), name)
        told = {s.client: s.columns[own[s.client]] for s in sums if s.client in own}
        column = _column(name, own, told, is_label=label in (*spellings, name))
        if column is None:
            drop += spellings
        else:
            columns[name] = column
    for role, names in chosen.items():
        for number, name in enumerate(names):
            if renamed.get(name) not in columns:
                gone = " to learn from: its values are too many or too rare" * (name in drop)
                raise FedmodelError(
                    f"no file has a column {name!r}{gone}",
                    where=f"--{role}",
                    fix=nearest(name, columns, what="the columns are"),
                )
            names[number] = renamed[name]
    return Schema(
        label=next(iter(chosen["label"]), None),
        sensitive=chosen["sensitive"],
        drop=drop,
        missing=list(files[0].missing),
        clients={file.client: _file(file, base) for file in files},
        columns=columns,
    )


def _file(file: ClientFile, base: Path) -> File:
    relative = os.path.relpath(file.path, base)
    decimal: Literal[".", ","] = "," if file.decimal == "," else "."
    return File(file=Path(relative).as_posix(), separator=file.separator, decimal=decimal)


def _groups(sums: Sequence[ClientSums]) -> dict[str, dict[str, str]]:
    """Plain name without unit -> client -> its name there."""
    groups: dict[str, dict[str, str]] = {}
    for client in sums:
        for name in client.columns:
            stem, _ = split_unit(name)
            if client.client in groups.get(stem, {}):  # one client has two of them: not the same
                stem = name
            groups.setdefault(stem, {})[client.client] = name
    return groups


def _column(
    name: str, own: Mapping[str, str], told: Mapping[str, ColumnSums], *, is_label: bool
) -> Column | None:
    kinds = Counter("number" if t.kind == "mixed" else t.kind for t in told.values())
    kinds.pop("empty", None)
    if is_label or (kinds and kinds.most_common(1)[0][0] == "category"):
        return _category(name, own, pooled(list(told.values())))
    units = {client: split_unit(spelling)[1] for client, spelling in own.items()}
    unit = next((u for u, _ in Counter(filter(None, units.values())).most_common(1)), "")
    at = {}
    for client, theirs in units.items():
        if theirs not in ("", unit):
            how = conversion(theirs, unit, column=name)
            at[client] = Local(
                name=own[client],
                unit=shown(theirs),
                scale=how.scale if how else None,
                offset=how.offset if how and how.offset else None,
            )
    all_of_them = pooled(list(told.values()))
    return Column(
        kind="number",
        unit=shown(unit),
        names=_others(name, {s for c, s in own.items() if c not in at}),
        range=_range(told, at) if all_of_them.lowest is not None else None,
        at=at,
    )


def _range(told: Mapping[str, ColumnSums], at: Mapping[str, Local]) -> list[float] | None:
    there = []
    for client, sums in told.items():
        local = at.get(client, Local())
        there.append(sums.converted(local.scale or 1.0, local.offset or 0.0, {}))
    whole = pooled(there)
    assert whole.lowest is not None and whole.highest is not None
    return [whole.lowest, whole.highest] if whole.lowest < whole.highest else None


def _category(name: str, own: Mapping[str, str], told: ColumnSums) -> Column | None:
    if not told.categories:
        return None
    spellings: dict[str, list[str]] = {}
    for word, _ in sorted(told.categories.items(), key=lambda item: (-item[1], item[0])):
        spellings.setdefault(word.casefold(), []).append(word)
    return Column(
        kind="category",
        names=_others(name, set(own.values())),
        categories=in_order(words[0] for words in spellings.values()),
        values={other: words[0] for words in spellings.values() for other in words[1:]},
    )


def _others(name: str, spellings: set[str]) -> list[str]:
    return sorted(spellings - {name})


def seen_through(schema: Schema, sums: Sequence[ClientSums]) -> list[ClientSums]:
    """What clients told of their own columns, as sums of the schema's."""
    seen = []
    for client in sums:
        columns: dict[str, ColumnSums] = {}
        for name, column in schema.columns.items():
            at = column.at.get(client.client)
            own = [at.name] if at is not None and at.name else [name, *column.names]
            for spelling in own:
                if spelling in client.columns:
                    scale, offset, meanings = schema.local(name, client.client)
                    columns[name] = client.columns[spelling].converted(scale, offset, meanings)
        seen.append(replace(client, columns=columns))
    return seen


def written(schema: Schema, *, name: str) -> str:
    """The schema as TOML, to be read and corrected by a person."""
    table: dict[str, Any] = schema.model_dump(exclude_defaults=True)
    head = HEAD.format(count=len(schema.clients), name=name)
    text = re.sub(r"\[\n(?:    .*\n)+\]", _on_one_line, tomli_w.dumps(table))
    return head + (NO_LABEL if schema.label is None else "") + "\n" + text


def _on_one_line(found: re.Match[str]) -> str:
    items = [line.strip().removesuffix(",") for line in found[0].split("\n")[1:-1]]
    line = f"[{', '.join(items)}]"
    return line if len(line) <= WIDEST else found[0]
