"""A user's plug-in files go along into the run folder, so that the run can be resumed and repeated."""

from __future__ import annotations

import shutil
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
                target = folder / "plugins" / source.name
                target.parent.mkdir(exist_ok=True)
                if source != target.resolve():
                    shutil.copyfile(source, target)
                return f"plugins/{source.name}:{name}"
        return value

    return visit(raw)
