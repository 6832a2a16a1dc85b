"""The schema of a federation: what its columns mean, and how each client writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from fedmodel.config import Section
from fedmodel.config_file import explain, parsed
from fedmodel.data.client_file import ClientFile
from fedmodel.data.units import conversion
from fedmodel.errors import FedmodelError, nearest
from fedmodel.source import Source

__all__ = ["Column", "Local", "Schema", "read_schema"]


class Local(Section):
    """[columns.NAME.at.CLIENT]: how one client writes a column.

    A number there becomes scale * number + offset, a word what `values` says it means.
    """

    name: str | None = None
    unit: str | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    offset: Annotated[float, Field(allow_inf_nan=False)] | None = None
    values: dict[str, str] = Field(default={})


class Column(Section):
    """[columns.NAME]: one column as the model sees it, whoever has it."""

    kind: Literal["number", "category"]
    unit: str = ""
    names: list[str] = Field(default=[])  # other names that mean it, at any client
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    categories: list[str] = Field(default=[])  # all that are allowed; none named: any
    values: dict[str, str] = Field(default={})  # words that mean a category, at any client
    outside: Literal["refuse", "missing"] = "refuse"  # what lies outside range and categories
    missing: Literal["mark", "drop", "refuse"] = "mark"  # records that lack a value
    fill: float | str | None = None  # a value for them
    at: dict[str, Local] = Field(default={})


class File(Section):
    """[clients.NAME]: where a client's records are; relative to the schema."""

    file: str
    separator: Annotated[str, Field(min_length=1)] = ","
    decimal: Literal[".", ","] = "."
    missing: list[str] = Field(default=[])


class Schema(Section):
    """A schema file."""

    label: str | None = None
    positive: str | None = None
    sensitive: list[str] = Field(default=[])
    bins: dict[str, list[float]] = Field(default={})
    split: str | None = None
    public: bool = False  # whether ranges and categories are known without looking at a record
    missing: list[str] = Field(default=[])  # words that mean "no value" at all clients
    drop: list[str] = Field(default=[])  # columns that are known and not used
    clients: Annotated[dict[str, File], Field(min_length=1)]
    columns: Annotated[dict[str, Column], Field(min_length=1)]

    def files(self, base: Path) -> list[ClientFile]:
        """The clients' files, which start at the folder `base`."""
        return [
            ClientFile(
                client=name,
                path=base / file.file,
                separator=file.separator,
                decimal=file.decimal,
                missing=(*self.missing, *file.missing),
            )
            for name, file in self.clients.items()
        ]

    def local(self, column: str, client: str) -> tuple[float, float, dict[str, str]]:
        """Scale, offset and meanings of words of a column at a client.

        They are what is written; a scale that is not written follows from the units.
        """
        own = self.columns[column]
        at = own.at.get(client, Local())
        known = conversion(at.unit or own.unit, own.unit, column=column)
        if at.scale is not None or at.offset is not None or known is None:
            scale, offset = at.scale or 1.0, at.offset or 0.0
        else:
            scale, offset = known.scale, known.offset
        return scale, offset, {**own.values, **at.values}


def read_schema(path: Path) -> tuple[Schema, Source]:
    """The schema in a TOML file, checked, and its text, to point at the line of a key.

    Raises:
        FedmodelError: no file, no TOML, an unknown key, or keys that contradict each other; with
            the line.
    """
    if not path.is_file():
        raise FedmodelError(
            f"there is no schema {path.name}",
            where=str(path),
            fix=f"`fedmodel schema FILE... --out {path.name}` writes one, with the clients' files in "
            "place of FILE...; the experiment names it relative to itself.",
        )
    raw, text = parsed(path)
    source = Source(path, text)
    try:
        schema = Schema.model_validate(raw)
    except ValidationError as error:
        raise explain(error, source, root=Schema, whole="the schema") from None
    for keys, problem, fix in _faults(schema):
        raise FedmodelError(problem, where=source.where(*keys), fix=fix or "Correct the schema.")
    return schema, source


Fault = tuple[tuple[str | int, ...], str, str]  # keys, problem, fix


def _faults(schema: Schema) -> Iterator[Fault]:
    """What contradicts itself, in the order of the file."""
    yield from _roles(schema)
    claimed: dict[str, str] = {}
    for name, column in schema.columns.items():
        keys = ("columns", name)
        for other in (name, *column.names):
            if other in claimed or other in schema.drop:
                place = f"[columns.{claimed[other]}]" if other in claimed else "`drop`"
                yield keys, f"{other!r} means {name!r}, and also {place}", "Leave it in one place."
            claimed[other] = name
        yield from _column(name, column)
        for client, local in column.at.items():
            below = (*keys, "at", client)
            if client not in schema.clients:
                fix = nearest(client, schema.clients, what="the clients are")
                yield below, f"there is no client {client!r}", fix
            yield from _local(below, name, column, local)


def _roles(schema: Schema) -> Iterator[Fault]:
    roles: list[tuple[str, list[str]]] = [
        ("label", [schema.label] if schema.label is not None else []),
        ("split", [schema.split] if schema.split is not None else []),
        ("sensitive", schema.sensitive),
        ("bins", list(schema.bins)),
    ]
    for role, names in roles:
        for name in names:
            if name not in schema.columns:
                fix = nearest(name, schema.columns, what="the columns are")
                yield (role,), f"the schema has no column {name!r}", fix
    if schema.label is not None:
        label = schema.columns.get(schema.label)
        if label is not None and label.kind != "category":
            fix = 'A label is a class: write kind = "category".'
            yield ("columns", schema.label, "kind"), f"the label {schema.label!r} is a number", fix


def _column(name: str, column: Column) -> Iterator[Fault]:
    keys = ("columns", name)
    if column.kind == "number":
        for key, given in (("categories", column.categories), ("values", column.values)):
            if given:
                fix = f'Leave it out, or write kind = "category" in [columns.{name}].'
                yield (*keys, key), f"{name!r} is a number, and `{key}` is for categories", fix
    if column.range is not None:
        if column.kind == "category":
            fix = "List its categories: categories = [...]."
            yield (*keys, "range"), f"{name!r} is a category, and `range` is for numbers", fix
        if column.range[0] >= column.range[1]:
            fix = "Give the lowest and the highest value, e.g. range = [0, 100]."
            yield (*keys, "range"), f"the range of {name!r} is {column.range}", fix
    yield from _meanings((*keys, "values"), name, column, column.values)
    if column.fill is None:
        return
    if column.missing != "mark":
        fix = 'Leave out one of the two: what is filled is not "missing" any more.'
        yield (*keys, "fill"), f"{name!r} has both fill and missing = {column.missing!r}", fix
    if isinstance(column.fill, str) != (column.kind == "category"):
        fix = "Give a number for a number, and a category as text."
        yield (*keys, "fill"), f"{name!r} is a {column.kind}, filled with {column.fill!r}", fix
    if isinstance(column.fill, str):
        yield from _meanings((*keys, "fill"), name, column, {"": column.fill})


def _local(keys: tuple[str, ...], name: str, column: Column, local: Local) -> Iterator[Fault]:
    if column.kind == "category":
        if local.scale is not None or local.offset is not None or local.unit is not None:
            fix = 'Say what its words mean: values = { "M" = "male" }.'
            yield keys, f"{name!r} is a category, which no scale or unit changes", fix
    elif local.values:
        yield (*keys, "values"), f"{name!r} is a number, and `values` is for categories", ""
    elif (
        local.unit is not None
        and local.scale is None
        and local.offset is None
        and conversion(local.unit, column.unit, column=name) is None
    ):
        fix = f"Add it: scale = 2.5 where one {local.unit} is 2.5 {column.unit or 'of its unit'}."
        have = f"how {local.unit!r} of {name!r} becomes {column.unit!r} is not known here"
        yield (*keys, "unit"), have, fix
    yield from _meanings((*keys, "values"), name, column, local.values)


def _meanings(
    keys: tuple[str, ...], name: str, column: Column, values: dict[str, str]
) -> Iterator[Fault]:
    for meaning in values.values():
        if column.categories and meaning not in column.categories:
            fix = nearest(meaning, column.categories, what="they are")
            yield keys, f"{meaning!r} is not among the categories of {name!r}", fix
