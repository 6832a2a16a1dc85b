"""An experiment file as frozen, typed values; every mistake named with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedmodel.catalogue import nearest
from fedmodel.errors import FedmodelError

__all__ = ["Config", "Source", "changes_of", "read_config"]

# What pydantic adds to a fault's place to name the branch of a union; it is no key of the file.
_UNION_BRANCH = r"[\[\]() ]|^(float|int|str|bool|dict)$|^constrained-"

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A table of the experiment file with fixed keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Open(Section):
    """A table that names a component and may hold that component's options beside the fixed keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: str

    @property
    def spec(self) -> dict[str, Any]:
        """The name and the options, as the catalogue takes them."""
        return {"name": self.name, **(self.__pydantic_extra__ or {})}


class Data(Open):
    """[data]: the data set, how it is encoded and split."""

    encode: Literal["pooled", "client", "public", "none"] = "pooled"
    test: Share = 0.2
    validation: Share = 0.0
    ranges: dict[str, list[Any]] = {}


class Client(Open):
    """[client]: the client behaviour; `dropout` is the share of sampled clients lost each round."""

    dropout: Share = 0.0


class Privacy(Section):
    """[privacy]: what is promised to whom. The clip bounds the norm of one record's gradient."""

    unit: Literal["record"] = "record"
    epsilon: Annotated[float, Field(gt=0)] | None = None
    noise_multiplier: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 1.0
    participations: Annotated[int, Field(ge=1)] | None = None
    accountant: Literal["prv", "rdp", "gdp"] = "prv"
    noise: Literal["seeded", "secure"] = "seeded"


class Attack(Open):
    """[attack]: what the dishonest clients do; `clients` is a share or a list of their ids."""

    clients: Annotated[float, Field(gt=0, lt=1)] | list[str | int] = 0.1


class Evaluation(Section):
    """[evaluation]: how often, what beside the built-in metrics, and against which references."""

    every: Annotated[int, Field(ge=1)] = 1
    references: list[Literal["pooled", "local", "non_private"]] = []
    metrics: list[str | dict[str, Any]] = []


class Engine(Section):
    """[engine]: where clients execute. Results do not depend on it."""

    name: Literal["inline", "ray", "flower"] = "inline"
    workers: Annotated[int, Field(ge=1)] | None = None
    address: str | None = None
    device: str = "cpu"
    on_failure: Literal["retry", "drop", "abort"] = "retry"


class Config(Section):
    """A whole experiment."""

    name: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    rounds: Annotated[int, Field(ge=1)]
    data: Data
    partition: Open = Open(name="natural")
    model: Open
    client: Client
    privacy: Privacy | None = None
    attack: Attack | None = None
    strategy: Open = Open(name="compose")
    evaluation: Evaluation = Evaluation()
    engine: Engine = Engine()


class Source:
    """The text behind a configuration, to point at the line of a key."""

    def __init__(self, path: Path | None, text: str, overridden: frozenset[str] = frozenset()):
        self.path, self.text, self.overridden = path, text, overridden

    @property
    def base(self) -> Path:
        """The folder that relative paths of the experiment start from."""
        return self.path.parent if self.path else Path.cwd()

    def where(self, *keys: str | int) -> str:
        """``file:line`` with the line and a mark under the key; the key alone if it is not in the file."""
        dotted = ".".join(map(str, keys))
        if dotted in self.overridden:
            return f"  --set {dotted}"
        words = [str(key) for key in keys if not isinstance(key, int)]
        number, column = _find(self.text.splitlines(), words)
        if self.path is None or number is None:
            return f"  {dotted}" if dotted else f"  {self.path or ''}"
        line = self.text.splitlines()[number]
        prefix = f"  {self.path.name}:{number + 1}   "
        mark = " " * (len(prefix) + column) + "^" * max(1, len(words[-1]) if words else 1)
        return f"{prefix}{line}\n{mark}"


def _find(lines: list[str], words: list[str]) -> tuple[int | None, int]:
    """The line and column of a key path; of its table where the key itself is not written."""
    best: tuple[int | None, int] = (None, 0)
    depth = 0
    table: list[str] = []
    for number, line in enumerate(lines):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+\s*(#.*)?$", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here, column = table, line.index(header[1])
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = table + [part.strip("\"'") for part in key[1].split(".")]
            column = line.index(key[1])
        else:
            continue
        common = 0
        while common < min(len(here), len(words)) and here[common] == words[common]:
            common += 1
        if common < len(here) or common <= depth:
            continue
        depth, best = common, (number, column)
        for word in words[common:]:  # an inline table: the key further along the line
            if inner := re.search(rf"[{{,]\s*({re.escape(word)})\s*=", line):
                depth, best = depth + 1, (number, inner.start(1))
    return best


def read_config(
    path: Path | str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, Source, dict[str, Any]]:
    """The configuration in a file (or a mapping), after dotted overrides; with its source and raw form.

    Raises:
        FedmodelError: no such file, broken TOML, unknown key, wrong type, missing section.
    """
    if isinstance(path, Mapping):
        source, raw = Source(None, ""), _copy(path)
    else:
        path = Path(path)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise FedmodelError(
                f"{path} {what}", fix="Give the path of an experiment file (.toml)."
            )
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise FedmodelError(f"{path} is empty", fix="`fedmodel run --help` shows an example.")
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise FedmodelError(
                f"{path} is not valid TOML: {error}",
                where=_toml_place(path, text, str(error)),
                fix='Text needs quotes: name = "adult"; a table starts with [data].',
            ) from None
        source = Source(path, text, frozenset(overrides or ()))
    for key, value in (overrides or {}).items():
        _override(raw, key, value)
    try:
        return Config.model_validate(raw), source, raw
    except ValidationError as error:
        raise _explain(error, source) from None


def changes_of(
    overrides: Mapping[str, Any], *, engine: str | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Overrides by dotted key, with the engine and the seed among them.

    Another engine than the file's leaves the settings behind that were meant for the file's.
    """
    changes = dict(overrides)
    if engine is not None:
        changes = {"engine.name": engine, "engine.address": None, **changes}
        if engine == "inline":
            changes = {"engine.workers": None, **changes}
    if seed is not None:
        changes["seed"] = seed
    return changes


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def _toml_place(path: Path, text: str, message: str) -> str:
    match = re.search(r"line (\d+), column (\d+)", message)
    lines = text.splitlines()
    number = int(match[1]) if match else len(lines)
    line = lines[min(number, len(lines)) - 1]
    prefix = f"  {path.name}:{number}   "
    column = min(int(match[2]) - 1, len(line)) if match else len(line)
    return f"{prefix}{line}\n{' ' * (len(prefix) + column)}^"


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *tables, last = dotted.split(".")
    for name in tables:
        raw = raw.setdefault(name, {})
        if not isinstance(raw, dict):
            raise FedmodelError(f"{name} is not a table", where=f"--set {dotted}")
    if value is None:
        raw.pop(last, None)
    else:
        raw[last] = value


def _explain(error: ValidationError, source: Source) -> FedmodelError:
    """The first fault that pydantic found, in our words and at its line."""
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    keys = tuple(
        key
        for key in fault["loc"]
        if isinstance(key, int) or not re.search(_UNION_BRANCH, str(key))
    )
    name, table = str(keys[-1]), ".".join(map(str, keys[:-1]))
    place = f"[{table}]" if table else "the experiment"
    if fault["type"] == "extra_forbidden":
        section: Any = Config
        for key in keys[:-1]:
            section = _section(section, str(key))
        known = section.model_fields if section else {}
        return FedmodelError(
            f"{place} has no key `{name}`",
            where=source.where(*keys),
            fix=nearest(name, known, what=f"{place} takes"),
        )
    if fault["type"] == "missing":
        example = {"rounds": "rounds = 20"}.get(name, f'[{name}] with name = "..."')
        if keys[:-1]:
            example = f'{name} = "..."'
        return FedmodelError(
            f"{place} needs `{name}`", where=source.where(*keys[:-1]), fix=f"Add {example}."
        )
    return FedmodelError(
        f"`{'.'.join(map(str, keys))}` cannot be {fault['input']!r}",
        where=source.where(*keys),
        fix=_sentence(fault["msg"]),
    )


def _sentence(message: str) -> str:
    message = message.replace("Input should", "It should").replace("'", '"')
    return message if message.endswith(".") else message + "."


def _section(section: Any, key: str) -> Any:
    annotation = section.model_fields[key].annotation if section else None
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
