"""Which column of a user's table plays which part, checked so that nobody meets a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fedmodel.data.records import Records, as_levels, as_text
from fedmodel.data.sensitive import chosen
from fedmodel.errors import FedmodelError, nearest
from fedmodel.types import SPLITS, Card

__all__ = ["records_of"]

MOST_CLASSES = 100
MOST_NAMED = 3  # wrong values that an error quotes


def records_of(
    frame: pd.DataFrame,
    path: Path,
    *,
    label: str,
    sensitive: Sequence[str],
    bins: Mapping[str, Sequence[float]] | None,
    client: str | None,
    features: Sequence[str] | None,
    split: str | None,
    positive: str | None,
    text: str | None,
    max_tokens: int,
    buckets: int,
    epsilon: str | None = None,
) -> Records:
    """Check the columns that the options name, and give each its part."""
    where = str(path)
    roles = {"label": label, "client": client, "split": split, "text": text}
    used = [(role, name) for role, name in roles.items() if name is not None]
    used += [("sensitive", name) for name in sensitive]
    used += [("features", name) for name in features or ()]
    used += [("epsilon_column", epsilon)] if epsilon is not None else []
    for role, name in used:
        if name not in frame.columns:
            raise FedmodelError(
                f"{path.name} has no column {name!r}",
                where=f"[{'privacy' if role == 'epsilon_column' else 'data'}] {role}",
                fix=_separator_of(frame) or nearest(name, map(str, frame.columns), what="it has"),
            )
    taken = {name: role for role, name in roles.items() if name is not None}
    for name in (*sensitive, *(features or ())):
        if name == label:
            raise FedmodelError(
                f"{name!r} is the label, and also named among the features or sensitive attributes",
                where="[data] features" if name in (features or ()) else "[data] sensitive",
                fix="Leave it out there: a model that is told the label learns nothing.",
            )
    if len(taken) < sum(name is not None for name in roles.values()):
        raise FedmodelError(
            f"one column has two roles: {', '.join(f'{r} = {n!r}' for r, n in roles.items() if n)}",
            where="[data]",
            fix="Give each role a column of its own.",
        )
    if features is not None and len(set(features)) < len(features):
        raise FedmodelError(
            "a feature is named twice",
            where="[data] features",
            fix=f"Name each once: features = {list(dict.fromkeys(features))}.",
        )
    if text is not None and features is not None:
        raise FedmodelError(
            "both text and features are given",
            where="[data] features",
            fix="Choose one: a model reads one.",
        )
    names = (
        list(features)
        if features is not None
        else [n for n in frame if n not in taken and n != epsilon]
    )
    if nameless := next((n for n in map(str, names) if re.fullmatch(r"Unnamed: \d+", n)), None):
        raise FedmodelError(
            f"column {int(nameless.split()[1]) + 1} of {path.name} has no name",
            where="[data] features",
            fix="Name it in the first line, or leave it out by naming the others in features: an index "
            "that a program wrote tells the model the order of the records.",
        )
    return Records(
        card=Card(name=path.name, title=path.stem, source=path.name, licence="the user's own"),
        label=_label(frame[label], positive, where=where),
        features=None if text else _features(frame[names], where=where),
        text=frame[text] if text else None,
        sensitive=chosen(sensitive, {str(n): frame[n] for n in frame if n != label}, bins=bins),
        clients=None if client is None else _complete(frame[client], "client id", where=where),
        split=None if split is None else _split(frame[split], where=where),
        max_tokens=max_tokens,
        buckets=buckets,
        epsilon=None if epsilon is None else frame[epsilon],
    )


def _complete(values: pd.Series, what: str, *, where: str) -> pd.Series:
    if number := int(values.isna().sum()):
        have = "record has" if number == 1 else "records have"
        raise FedmodelError(
            f"{number} {have} no {what} in {values.name!r}: " + _records_named(values.isna()),
            where=where,
            fix="Fill it in, or leave these records out of the file.",
        )
    return values


def _label(values: pd.Series, positive: str | None, *, where: str) -> pd.Series:
    _complete(values, "label", where=where)
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if (number and (values % 1 != 0).any()) or values.nunique() > MOST_CLASSES:
        raise FedmodelError(
            f"the label {values.name!r} has {values.nunique()} values, such as {values.iloc[0]}",
            where=where,
            fix=f"Classification takes 2 to {MOST_CLASSES} classes: cut it into classes first.",
        )
    if values.nunique() < 2:
        raise FedmodelError(
            f"the label {values.name!r} is '{values.iloc[0]}' in every record",
            where=where,
            fix="There is nothing to learn with one class: name another column.",
        )
    levels = as_levels(values)
    classes = list(levels.cat.categories)
    if positive is None:
        return levels
    if positive not in classes:
        raise FedmodelError(
            f"the positive class {positive!r} is not among the labels",
            where=where,
            fix=nearest(positive, classes, what="they are"),
        )
    if len(classes) > 2:
        raise FedmodelError(
            f"positive is given, and the label {values.name!r} has {len(classes)} classes",
            where=where,
            fix="Leave positive out: only one of two classes can be the positive one.",
        )
    return levels.cat.reorder_categories([*(c for c in classes if c != positive), positive])


def _split(values: pd.Series, *, where: str) -> pd.Series:
    words = as_text(_complete(values, "split", where=where)).str.strip().str.lower()
    if strange := sorted(set(words) - set(SPLITS)):
        raise FedmodelError(
            f"the split column {values.name!r} says {', '.join(map(repr, strange[:MOST_NAMED]))}",
            where=where,
            fix="It may say train, validation and test only: rename what it says now.",
        )
    for word in ("train", "test"):
        if not (words == word).any():
            raise FedmodelError(
                f"the split column {values.name!r} says {word} nowhere",
                where=where,
                fix="Mark some records so, or leave split out: a share of each client is held out.",
            )
    return words


def _features(columns: pd.DataFrame, *, where: str) -> pd.DataFrame:
    """Refuse a column of numbers with some words in it: which of both it is nobody can tell."""
    for name in columns:
        values = columns[name]
        if pd.api.types.is_numeric_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype):
            continue
        given = values.dropna()
        words = pd.to_numeric(given, errors="coerce").isna()
        if words.any() and words.mean() < 0.5:
            shown = list(dict.fromkeys(given[words].astype(str)))[:MOST_NAMED]
            raise FedmodelError(
                f"the column {name!r} mixes numbers with {', '.join(map(repr, shown))}: "
                + _records_named(words),
                where=where,
                fix="Correct these values or empty the cells; in CSV a word that means a missing "
                f"value can be named: missing = [{', '.join(_toml(word) for word in shown)}].",
            )
    return columns


def _separator_of(frame: pd.DataFrame) -> str:
    """What to do about a file whose columns were taken for one; empty if there are several."""
    name = str(frame.columns[0])
    found = next((sign for sign in ";\t|" if sign in name), None)
    if frame.shape[1] > 1 or found is None:
        return ""
    return f"Its columns were read as one: add separator = {json.dumps(found)}."


def _toml(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _records_named(which: pd.Series) -> str:
    """The first records of a mask, counted from 1: ``record 3, 8 and 4 more``."""
    numbers = [int(n) + 1 for n in which.index[which]]
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    return f"record {', '.join(map(str, numbers[:MOST_NAMED]))}{more}"
