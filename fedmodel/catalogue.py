"""From the name in an experiment to the function it means; its signature is the schema of its options."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fedmodel.errors import FedmodelError

__all__ = ["KINDS", "Catalogue", "Component", "Nested", "nearest", "plugin_module", "say"]


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

    def __call__(self, *data: Any, **supplied: Any) -> Any:
        accepted = {key: value for key, value in supplied.items() if self.asks_for(key)}
        return self.function(*data, **self.options, **accepted)


class Catalogue:
    """The components of one kind: ours by name, anybody's by address.

    An address is ``package.module:name`` or ``file.py:name``. Packages add modules of their own
    with an entry point in the group ``fedmodel.<kind>``.
    """

    def __init__(self, kind: str, *modules: str, reserved: Iterable[str] = ()) -> None:
        self.kind, self.modules, self.reserved = kind, modules, frozenset(reserved)

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
                    f"no {self.kind} is called {name!r}",
                    where=where,
                    fix=nearest(name, known, what=f"the {self.kind}s are")
                    + " Your own is written `file.py:name` or `package.module:name`.",
                )
            module_name, attribute = known[name], name
        module = _module(module_name, base=base, where=where)
        if not hasattr(module, attribute):
            public = [n for n in dir(module) if not n.startswith("_")]
            raise FedmodelError(
                f"{module_name} has no {attribute!r}",
                where=where,
                fix=nearest(attribute, public, what="it has"),
            )
        return getattr(module, attribute)

    def bind(
        self,
        spec: str | Mapping[str, Any],
        *,
        base: Path,
        where: Callable[[str | None], str] = lambda key: "",
    ) -> Component:
        """The component that a piece of an experiment describes, its options checked and typed.

        `spec` is a name, or a table with `name` and options. `where` says where a key stands.

        Raises:
            FedmodelError: no such name, no such option, or a value of the wrong type.
        """
        table = {"name": spec} if isinstance(spec, str) else dict(spec)
        if not isinstance(table.get("name"), str):
            raise FedmodelError(
                f"this {self.kind} has no name",
                where=where(None),
                fix=f'Write e.g. name = "{next(iter(self.names()))}".',
            )
        name = table.pop("name")
        function = self.find(name, base=base, where=where("name"))
        if not callable(function):
            raise FedmodelError(f"{name} is not a function or a class", where=where("name"))
        options = self._options(name, function, table, base=base, where=where)
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

    def _options(self, name, function, table, *, base, where) -> dict[str, Any]:
        schema, hints = self.schema(function), _hints(function)
        for key in table:
            if key not in schema:
                supplied = " It is supplied, not chosen." if key in self.reserved else ""
                raise FedmodelError(
                    f"{name} has no option `{key}`",
                    where=where(key),
                    fix=nearest(key, schema, what=f"{name} takes", show=_describe(schema))
                    + supplied,
                )
        missing = [k for k, p in schema.items() if p.default is p.empty and k not in table]
        if missing:
            raise FedmodelError(
                f"{name} needs {say(missing)}",
                where=where(None),
                fix=f"{name} takes: {_describe(schema)}.",
            )
        options = {}
        for key, value in table.items():
            hint = hints.get(key, Any)
            if kind := _nested(hint):
                inner = KINDS[kind]
                place = lambda k, key=key: where(key if k is None else f"{key}.{k}")  # noqa: E731
                options[key] = (
                    [inner.bind(item, base=base, where=place) for item in value]
                    if isinstance(value, list)
                    else inner.bind(value, base=base, where=place)
                )
            else:
                options[key] = _typed(name, key, value, hint, where=where)
                if isinstance(options[key], Path):
                    options[key] = base / options[key]
        return options


def _typed(name: str, key: str, value: Any, hint: Any, *, where) -> Any:
    if isinstance(hint, type) and hint is bool and not isinstance(value, bool):
        hint_name = "true or false"
    try:
        model: type[BaseModel] = create_model(
            "Option",
            __config__=ConfigDict(arbitrary_types_allowed=True),
            value=(hint, ...),
        )
        return model(value=value).value  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors()[0]
        hint_name = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
        raise FedmodelError(
            f"`{key}` of {name} cannot be {value!r}: {first['msg'].lower()}",
            where=where(key),
            fix=f"`{key}` is of type {hint_name.replace('typing.', '')}.",
        ) from None


def _nested(hint: Any) -> str | None:
    """The kind of component that an option holds, also inside a list or an optional."""
    if get_origin(hint) is Annotated:
        for mark in get_args(hint)[1:]:
            if isinstance(mark, Nested):
                return mark.kind
    return next((kind for inner in get_args(hint) if (kind := _nested(inner))), None)


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


def nearest(word: str, known: Iterable[str], *, what: str, show: str | None = None) -> str:
    """A hint for a misspelt word: the nearest known one and the whole list."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    listing = f"{what}: {show if show is not None else ', '.join(names[:40]) or 'nothing'}."
    listing = listing[0].upper() + listing[1:]
    return f"Did you mean `{near[0]}`? {listing}" if near else listing


def say(words: Sequence[str]) -> str:
    """Words as a spoken list: `a`, `b` and `c`."""
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _module(name: str, *, base: Path, where: str) -> ModuleType:
    if name.endswith(".py"):
        return plugin_module(base / name, where=where)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise FedmodelError(
            f"there is no module {name!r}",
            where=where,
            fix="Install the package, or give a file beside the experiment: `file.py:name`.",
        ) from None


def plugin_module(path: Path, *, where: str = "") -> ModuleType:
    """A user's file as a module, pickled by value so that worker processes get it too."""
    import cloudpickle  # type: ignore[import-untyped]

    path = path.resolve()
    if not path.is_file():
        raise FedmodelError(f"there is no file {path}", where=where, fix="Check the path.")
    digest = blake2b(str(path).encode(), digest_size=4).hexdigest()
    name = f"fedmodel_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
        frame = error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == str(path):
                line = frame.tb_lineno
            frame = frame.tb_next
        raise FedmodelError(
            f"{path.name} cannot be imported: {type(error).__name__}: {error}",
            where=f"{path}:{line or 1}",
            fix="Mend the file; `fedmodel check FILE.py:NAME` tries it alone.",
        ) from error
    cloudpickle.register_pickle_by_value(module)
    try:  # Ray brings its own copy of cloudpickle
        import ray.cloudpickle as ray_pickle

        ray_pickle.register_pickle_by_value(module)
    except ImportError:
        pass
    return module


KINDS: dict[str, Catalogue] = {
    catalogue.kind: catalogue
    for catalogue in (
        Catalogue(
            "dataset",
            "fedmodel.data.medical",
            "fedmodel.data.financial",
            "fedmodel.data.text",
            "fedmodel.data.tables",
        ),
        Catalogue("partitioner", "fedmodel.data.partition", reserved=("records", "seed")),
        Catalogue(
            "model",
            "fedmodel.models.tabular",
            "fedmodel.models.text",
            reserved=("num_features", "num_classes", "vocabulary"),
        ),
        Catalogue(
            "client", "fedmodel.clients.sgd", "fedmodel.clients.dp_sgd", "fedmodel.clients.opacus"
        ),
        Catalogue(
            "attack",
            "fedmodel.clients.poisoning",
            "fedmodel.clients.byzantine",
            reserved=("labels", "num_classes", "own", "honest", "generator", "clients"),
        ),
        Catalogue("strategy", "fedmodel.strategies.compose", reserved=("seed",)),
        Catalogue(
            "aggregator",
            "fedmodel.strategies.averaging",
            "fedmodel.strategies.robust",
            reserved=("delta", "weights"),
        ),
        Catalogue("transform", "fedmodel.strategies.transforms", reserved=("delta", "generator")),
        Catalogue("weighting", "fedmodel.strategies.weighting", reserved=("reports",)),
        Catalogue("metric", reserved=("confusion",)),
    )
}
