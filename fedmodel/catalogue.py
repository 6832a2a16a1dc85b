"""From the name in an experiment to the function it means; its signature is the schema of its options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fedmodel.errors import FedmodelError, nearest, say, shown, wanted
from fedmodel.importing import module_named, public_names

__all__ = ["KINDS", "Catalogue", "Component", "Nested"]


@dataclass(frozen=True)
class Nested:
    """Marks an option whose value is itself a component: ``Annotated[Callable, Nested("aggregator")]``."""

    kind: str


@dataclass(frozen=True)
class Component:
    """A component with its checked options. Call it with what the framework supplies.

    What the component's signature does not ask for is left out of the call.
    """

    kind: str
    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def asks_for(self, keyword: str) -> bool:
        """Whether the signature names this keyword."""
        return keyword in inspect.signature(self.function).parameters

    def needs(self, keyword: str) -> bool:
        """Whether the signature names this keyword and has no default for it."""
        parameter = inspect.signature(self.function).parameters.get(keyword)
        return parameter is not None and parameter.default is parameter.empty

    def __call__(self, *data: Any, **supplied: Any) -> Any:
        accepted = {key: value for key, value in supplied.items() if self.asks_for(key)}
        return self.function(*data, **self.options, **accepted)


class Catalogue:
    """The components of one kind: ours by name, anybody's by address.

    An address is ``package.module:name`` or ``file.py:name``. Packages add modules of their own
    with an entry point in the group ``fedmodel.<kind>``. Other people's modules `beside` are
    looked into for what somebody may mean. Parameters with `reserved` names are supplied; of those
    that are `data` a component takes at least one.
    """

    def __init__(
        self,
        kind: str,
        *modules: str,
        data: Iterable[str] = (),
        reserved: Iterable[str] = (),
        beside: Iterable[str] = (),
    ) -> None:
        self.kind, self.modules, self.beside = kind, modules, tuple(beside)
        self.data, self.reserved = frozenset(data), frozenset((*data, *reserved))

    @property
    def plural(self) -> str:
        """Several of the kind."""
        return self.kind[:-1] + "ies" if self.kind.endswith("y") else self.kind + "s"

    def names(self) -> dict[str, str]:
        """Every name and the module that defines it."""
        added = (point.value for point in entry_points(group=f"fedmodel.{self.kind}"))
        return {
            name: module
            for module in (*self.modules, *added)
            for name in import_module(module).__all__
        }

    def find(self, name: str, *, base: Path, where: str = "") -> Callable[..., Any]:
        """The function or class behind a name or an address; addresses of files start at `base`."""
        module_name, colon, attribute = name.rpartition(":")
        if not colon:
            known = self.names()
            if name not in known:
                raise FedmodelError(
                    f"no {self.kind} is called {shown(name)}", where=where, fix=self._other(name)
                )
            module_name, attribute = known[name], name
        module = module_named(module_name, base=base, where=where)
        if not hasattr(module, attribute):
            raise FedmodelError(
                f"{module_name} has no {shown(attribute)}",
                where=where,
                fix=nearest(attribute, public_names(module), what="it has"),
            )
        found = getattr(module, attribute)
        if not callable(found):
            raise FedmodelError(
                f"{name} is neither a function nor a class, but of type {type(found).__name__}",
                where=where,
                fix=nearest("", public_names(module), what="it has"),
            )
        return found

    def _other(self, name: str) -> str:
        """What to write in place of a name that nobody has."""
        address = "Your own is written `file.py:name` or `package.module:name`."
        for module in self.beside:
            if name in public_names(import_module(module)):
                return f"Did you mean `{module}:{name}`? {address}"
        if "." in name:
            module, _, attribute = name.rpartition(".")
            return f"Did you mean `{module}:{attribute}`? {address}"
        if not (known := self.names()):
            return address
        return f"{nearest(name, known, what=f'the {self.plural} are')} {address}"

    def bind(
        self,
        spec: str | Mapping[str, Any],
        *,
        base: Path,
        where: Callable[..., str] = lambda *keys: "",
        fixed: Iterable[str] = (),
    ) -> Component:
        """The component that a piece of an experiment describes, its options checked and typed.

        `spec` is a name, or a table with `name` and options. `where` says where a key stands, below
        the piece; `fixed` are the keys that may stand there beside options.

        Raises:
            FedmodelError: no such name, no such option, or a value of the wrong type.
        """
        example = f'name = "{next(iter(self.names()), "file.py:name")}"'
        if not isinstance(spec, str | Mapping):
            raise FedmodelError(
                f"{shown(spec)} does not name a component of kind {self.kind}",
                where=where(),
                fix=f"Write a name in quotes, or a table with options, e.g. {{ {example} }}.",
            )
        table = {"name": spec} if isinstance(spec, str) else dict(spec)
        if not isinstance(table.get("name"), str):
            raise FedmodelError(
                f"this {self.kind} has no name", where=where(), fix=f"Write e.g. {example}."
            )
        name = table.pop("name")
        place = where() if isinstance(spec, str) else where("name")
        function = self.find(name, base=base, where=place)
        options = self._options(name, function, table, base=base, where=where, fixed=fixed)
        return Component(self.kind, name, function, options)

    def schema(self, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
        """The options of a component: its parameters less those that the framework supplies."""
        parameters = inspect.signature(function).parameters
        return {
            name: parameter
            for name, parameter in parameters.items()
            if name not in self.reserved
            and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        }

    def _options(self, name, function, table, *, base, where, fixed) -> dict[str, Any]:
        schema, hints = self.schema(function), _hints(function)
        takes = f"{name} takes: {_describe(schema)}."
        for key in table:
            if key in schema:
                continue
            if key in self.reserved and key in inspect.signature(function).parameters:
                fix = f"Leave it out: {name} gets it from the experiment."
            else:
                also = f", beside {', '.join(sorted(fixed))}" if fixed else ""
                known, show = {*schema, *fixed}, _describe(schema) + also
                fix = nearest(key, known, what=f"{name} takes", show=show)
            raise FedmodelError(f"{name} has no option `{key}`", where=where(key), fix=fix)
        missing = [k for k, p in schema.items() if p.default is p.empty and k not in table]
        given = ""
        if self.data and not self.data & set(inspect.signature(function).parameters):
            given = f"What a component of kind {self.kind} is given is called {say(sorted(self.reserved))}."
        if missing:
            raise FedmodelError(
                f"{name} needs {say(missing)}", where=where(), fix=f"{takes} {given}".rstrip()
            )
        if given:
            raise FedmodelError(
                f"{name} takes nothing that a component of kind {self.kind} works on",
                where=where("name"),
                fix=f"{given} It has to take {' or '.join(f'`{own}`' for own in sorted(self.data))}.",
            )
        return {
            key: self._option(name, key, value, hints.get(key, Any), base=base, where=where)
            for key, value in table.items()
        }

    def _option(self, name, key, value, hint, *, base, where) -> Any:
        kind = _nested(hint)
        if kind is None:
            typed = _typed(name, key, value, hint, where=where)
            return base / typed if isinstance(typed, Path) else typed
        several = _holds_several(hint)
        if several != isinstance(value, list):
            raise FedmodelError(
                f"`{key}` of {name} takes {'a list' if several else 'one'} of kind {kind}, "
                f"not {shown(value)}",
                where=where(key),
                fix=f'Write {key} = ["..."].' if several else f'Write {key} = "...".',
            )
        if not several:
            return KINDS[kind].bind(value, base=base, where=lambda *keys: where(key, *keys))
        return [
            KINDS[kind].bind(item, base=base, where=lambda *keys, i=i: where(key, i, *keys))
            for i, item in enumerate(value)
        ]


def _typed(name: str, key: str, value: Any, hint: Any, *, where) -> Any:
    model: type[BaseModel] = create_model(
        "Option",
        __config__=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False),
        value=(hint, ...),
    )
    try:
        # As JSON a list may become a tuple and a text a path, but "3" no number.
        checked = model.model_validate_json(json.dumps({"value": value}, default=str), strict=True)
    except ValidationError as error:
        raise FedmodelError(
            f"`{key}` of {name} cannot be {shown(value)}",
            where=where(key),
            fix=wanted([fault["msg"] for fault in error.errors()]),
        ) from None
    return checked.value  # type: ignore[attr-defined]


def _nested(hint: Any) -> str | None:
    """The kind of component that an option holds, also inside a list or an optional."""
    if get_origin(hint) is Annotated:
        for mark in get_args(hint)[1:]:
            if isinstance(mark, Nested):
                return mark.kind
    return next((kind for inner in get_args(hint) if (kind := _nested(inner))), None)


def _holds_several(hint: Any) -> bool:
    origin = get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return True
    return origin is not Annotated and any(map(_holds_several, get_args(hint)))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function.__init__ if inspect.isclass(function) else function  # type: ignore[misc]
    try:
        return get_type_hints(target, include_extras=True)
    except Exception:  # somebody's annotations that cannot be read: no type check, that is all
        return {}


def _describe(schema: Mapping[str, inspect.Parameter]) -> str:
    parts = []
    for name, parameter in schema.items():
        needed = parameter.default is parameter.empty
        parts.append(f"{name} (required)" if needed else f"{name} (default {parameter.default!r})")
    return ", ".join(parts) or "no options"


KINDS: dict[str, Catalogue] = {
    catalogue.kind: catalogue
    for catalogue in (
        Catalogue(
            "dataset",
            "fedmodel.data.medical",
            "fedmodel.data.hospitals",
            "fedmodel.data.financial",
            "fedmodel.data.loans",
            "fedmodel.data.text",
            "fedmodel.data.newswire",
            "fedmodel.data.image",
            "fedmodel.data.tables",
            "fedmodel.data.federation",
            "fedmodel.data.hub",
            reserved=("epsilon_column",),
        ),
        Catalogue(
            "partitioner",
            "fedmodel.data.partition",
            "fedmodel.data.partition_mix",
            "fedmodel.data.partition_sizes",
            data=("records",),
            reserved=("seed",),
        ),
        Catalogue(
            "model",
            "fedmodel.models.tabular",
            "fedmodel.models.text",
            "fedmodel.models.image",
            reserved=("num_features", "num_classes", "vocabulary"),
        ),
        Catalogue(
            "client",
            "fedmodel.clients.sgd",
            "fedmodel.clients.dp_sgd",
            "fedmodel.clients.opacus",
            reserved=("cohort", "start"),  # of the method `train`
        ),
        Catalogue(
            "attack",
            "fedmodel.clients.poisoning",
            "fedmodel.clients.byzantine",
            data=("labels", "own"),
            reserved=("num_classes", "honest", "generator", "clients"),
        ),
        Catalogue(
            "strategy",
            "fedmodel.strategies.compose",
            reserved=("seed", "num_rounds"),
            beside=("flwr.serverapp.strategy",),
        ),
        Catalogue(
            "aggregator",
            "fedmodel.strategies.averaging",
            "fedmodel.strategies.robust",
            data=("delta",),
            reserved=("weights",),
        ),
        Catalogue(
            "transform", "fedmodel.strategies.transforms", data=("delta",), reserved=("generator",)
        ),
        Catalogue("weighting", "fedmodel.strategies.weighting", data=("reports",)),
        Catalogue(
            "optimiser",
            "fedmodel.strategies.server_optimisers",
            data=("step",),
            reserved=("memory", "round"),
        ),
        Catalogue(
            "schedule", "fedmodel.strategies.schedules", data=("round",), reserved=("rounds",)
        ),
        Catalogue("metric", data=("confusion",)),
        Catalogue(
            "audit",
            "fedmodel.audits.membership",
            "fedmodel.audits.canaries",
            "fedmodel.audits.inversion",
            "fedmodel.audits.inference",
            data=("experiment",),
        ),
    )
}
