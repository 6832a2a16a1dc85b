"""A user's plug-in files go along into the run folder, so that the run can be resumed and repeated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["bring_along"]


def bring_along(raw: Mapping[str, Any], *, base: Path, folder: Path) -> dict[str, Any]:
    """Copy each ``file.py`` that a ``file.py:name`` refers to; the configuration with the new places."""

    def visit(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: visit(item) for key, item in value.items()}
        if isinstance(value, list):
            return [visit(item) for item in value]
        if isinstance(value, str) and ".py:" in value:
            file, _, name = value.rpartition(":")
            source = (base / file).resolve()
            if source.is_file():
                target = _place(source, folder / "plugins")
                return f"plugins/{target.name}:{name}"
        return value

    return visit(raw)


def _place(source: Path, folder: Path) -> Path:
    """Copy a file to a name that no other file has."""
    folder.mkdir(exist_ok=True)
    text, number, target = source.read_bytes(), 2, folder / source.name
    while target.exists() and target.read_bytes() != text:
        target = folder / f"{source.stem}_{number}{source.suffix}"
        number += 1
    target.write_bytes(text)
    return target
