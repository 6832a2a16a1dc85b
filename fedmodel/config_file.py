"""Reading experiment files: overrides, and every mistake named with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fedmodel.config import Config, Section
from fedmodel.errors import FedmodelError, marked_line, nearest, shown, wanted
from fedmodel.source import Source

__all__ = ["changes_of", "explain", "parsed", "read_config"]

_SEEDS = ("seed", "seeds")  # go up to 2^64, and are checked for that
# What pydantic adds to a fault's place to name the branch of a union; it is no key of the file.
_UNION_BRANCH = r"[\[\]() ]|^(float|int|str|bool|dict|AdaptiveClip|Targets)$|^constrained-"


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
        raw, text = parsed(path)
        source = Source(path, text, frozenset(overrides or ()))
    for key, value in (overrides or {}).items():
        _override(raw, key, value)
    if "seeds" in (overrides or {}) and "seed" not in (overrides or {}):
        raw.pop("seed", None)  # the file's one seed gives way to several
    _check_sizes(raw, source)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise explain(error, source) from None
    if config.seeds is not None:
        _check_seeds(config.seeds, raw, source, given="seed" in (overrides or {}))
        config = config.model_copy(update={"seed": config.seeds[0]})
    return config, source, raw


def parsed(path: Path) -> tuple[dict[str, Any], str]:
    """What is in a TOML file, and its text.

    Raises:
        FedmodelError: it is not there or no TOML; with the line.
    """
    text = _text(path)
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, text, str(error)) from None


def _check_sizes(value: Any, source: Source, keys: tuple[str | int, ...] = ()) -> None:
    """Refuse whole numbers of more than 64 bits, which TOML need not know and no array holds."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_sizes(item, source, (*keys, key))
    elif isinstance(value, int) and not -(2**63) <= value < 2**63 and keys[0] not in _SEEDS:
        raise FedmodelError(
            f"`{'.'.join(map(str, keys))}` cannot be {shown(value)}",
            where=source.where(*keys),
            fix="It should be a whole number of at most 64 bits, with its sign.",
        )


def _check_seeds(seeds: list[int], raw: Mapping[str, Any], source: Source, *, given: bool) -> None:
    """Refuse seeds that clash; `given` says that `seed` is an override."""
    if "seed" in raw:
        raise FedmodelError(
            "`seed` and `seeds` are both given",
            where="--seed, or --set seed" if given else source.where("seed"),
            fix="Leave it out, or take `seeds` out of the experiment."
            if given
            else "Keep `seed` for one run, or `seeds` for a run with each.",
        )
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise FedmodelError(
            f"seed {twice} is listed twice: the second run would be the first one again",
            where=source.where("seeds"),
            fix="List each seed once.",
        )
    if len(seeds) < 2:
        raise FedmodelError(
            "`seeds` lists fewer than two seeds, and one run has no interval",
            where=source.where("seeds"),
            fix="List two or more, or write e.g. `seed = 1` for one run.",
        )


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


def _text(path: Path) -> str:
    """What is in an experiment file."""
    fix = "Give the path of an experiment file (.toml); `fedmodel run --help` shows one."
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FedmodelError(f"{path} {what}", fix=fix)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FedmodelError(f"{path} is not a text in UTF-8", fix=fix) from None
    except OSError as error:
        raise FedmodelError(f"{path} cannot be read: {error.strerror}", fix=fix) from None
    if not text.strip():
        raise FedmodelError(f"{path} is empty", fix=fix)
    return text


def _broken(path: Path, text: str, message: str) -> FedmodelError:
    """What `tomllib` found, at its line."""
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    lines = text.rstrip("\n").split("\n")
    number = min(int(found[1]), len(lines)) if found and found[1] else len(lines)
    column = int(found[2]) - 1 if found and found[2] else len(lines[-1])
    reason = message[: found.start()] if found else message
    # It writes the tables of a key as a tuple.
    reason = re.sub(
        r"\(('.*'),?\)", lambda m: f"[{m[1].replace(chr(39), '').replace(', ', '.')}]", reason
    )
    twice = "twice" in reason or "overwrite" in reason
    return FedmodelError(
        f"{path.name} is not valid TOML: {reason[:1].lower()}{reason[1:]}",
        where=marked_line(path.name, number, lines[number - 1], column, 1),
        fix="A table or a key may be there once: write all of it in one place."
        if twice
        else 'Text needs quotes, e.g. name = "adult"; a table starts with a line like [data].',
    )


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *tables, last = dotted.split(".")
    if not all((*tables, last)):
        raise FedmodelError(
            f"{shown(dotted)} is not a dotted key",
            where=f"--set {dotted}",
            fix="Write the table, a dot and the key, e.g. client.learning_rate.",
        )
    for number, name in enumerate(tables, 1):
        raw = raw.setdefault(name, {})
        if not isinstance(raw, dict):
            raise FedmodelError(
                f"`{'.'.join(tables[:number])}` is not a table, so it has no key `{last}`",
                where=f"--set {dotted}",
                fix="Name a key of a table, e.g. client.learning_rate.",
            )
    if value is None:
        raw.pop(last, None)
    else:
        raw[last] = value


def explain(
    error: ValidationError,
    source: Source,
    *,
    root: type[BaseModel] | None = None,
    whole: str = "the experiment",
) -> FedmodelError:
    """The first fault that pydantic found, in our words and at its line.

    `root` is the model of the `whole` file; default: an experiment.
    """
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    keys = _keys(fault["loc"])
    if isinstance(fault["input"], Mapping | list):  # one branch is a number: the fault is inside
        below = (f for f in faults if _keys(f["loc"])[:-1] == keys)
        fault = next(below, fault)
        keys = _keys(fault["loc"])
    name, table = str(keys[-1]), ".".join(map(str, keys[:-1]))
    place = f"[{table}]" if table else whole
    if fault["type"] == "extra_forbidden":
        section: Any = root or Config
        for key in keys[:-1]:
            section = _section(section, str(key))
        known = section.model_fields if section else {}
        return FedmodelError(
            f"{place} has no key `{name}`",
            where=source.where(*keys),
            fix=nearest(name, known, what=f"{place} takes"),
        )
    if fault["type"] == "missing":
        example = f'{name} = "..."' if keys[:-1] else f'a table [{name}] with name = "..."'
        if name == "rounds":
            example = "e.g. rounds = 20"
        return FedmodelError(
            f"{place} needs `{name}`", where=source.where(*keys[:-1]), fix=f"Add {example}."
        )
    dotted = ".".join(key for key in keys if isinstance(key, str))
    verb = "hold" if isinstance(keys[-1], int) else "be"
    messages = [f["msg"] for f in faults if _keys(f["loc"]) == keys]
    return FedmodelError(
        f"`{dotted}` cannot {verb} {shown(fault['input'])}",
        where=source.where(*keys),
        fix="It should be a table with keys of its own."
        if fault["type"] == "model_type"
        else wanted(messages),
    )


def _keys(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The keys of a fault's place, without the branches of unions."""
    return tuple(key for key in place if isinstance(key, int) or not re.search(_UNION_BRANCH, key))


def _section(section: Any, key: str) -> Any:
    if section and key not in section.model_fields:
        return section  # the name of one table of several
    waiting = [section.model_fields[key].annotation if section else None]
    while waiting:
        candidate = waiting.pop(0)
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
        waiting += get_args(candidate)
    return None
