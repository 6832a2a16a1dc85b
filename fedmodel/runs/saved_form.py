"""An experiment as its run folder keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmodel.components import Components
from fedmodel.runs.plugins import bring_along

__all__ = ["saved_form"]


def saved_form(
    raw: Mapping[str, Any], components: Components, *, base: Path, folder: Path
) -> dict[str, Any]:
    """The raw configuration as the run folder keeps it: with absolute paths, its plug-ins brought along."""
    raw = _absolute(raw, components)
    for table, key in (("model", "init"), ("data", "encoder")):
        if key in raw[table]:
            place = base / raw[table][key]
            raw[table] = {**raw[table], key: str(place.absolute())}
    return _plain(bring_along(raw, base=base, folder=folder))


def _absolute(raw: Mapping[str, Any], components: Components) -> dict[str, Any]:
    """The raw configuration with the data set's paths made absolute."""
    data = dict(raw["data"])
    for key, value in components.data.options.items():
        if isinstance(value, Path):
            data[key] = str(value.resolve())
    return {**raw, "data": data}


def _plain(value: Any) -> Any:
    """A mapping that TOML can hold: without None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
