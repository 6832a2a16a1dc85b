"""Modules of the user's and of other packages, and what is wrong with one that cannot be imported."""

from __future__ import annotations

import importlib.util
import sys
from difflib import get_close_matches
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from types import ModuleType

from fedmodel.errors import FedmodelError, marked_line, shown, user_place

__all__ = ["module_named", "plugin_module", "public_names"]


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, else the functions and classes that it or its parts define."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if callable(getattr(module, name, None))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and f"{getattr(value, '__module__', None)}.".startswith(f"{module.__name__}.")
    ]


def module_named(name: str, *, base: Path, where: str = "") -> ModuleType:
    """A module by its import name, or by its file, whose path starts at `base`.

    Raises:
        FedmodelError: there is none, or it cannot be imported.
    """
    if name.endswith(".py"):
        return plugin_module(base / name, where=where)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise FedmodelError(
                f"there is no module {shown(name)}",
                where=where,
                fix="Install the package, or give a file beside the experiment: `file.py:name`.",
            ) from None
        raise _unimportable(name, error, where=where) from error
    except Exception as error:
        raise _unimportable(name, error, where=where) from error


def plugin_module(path: Path, *, where: str = "") -> ModuleType:
    """A user's file as a module, pickled by value so that worker processes get it too."""
    import cloudpickle  # type: ignore[import-untyped]

    path = path.resolve()
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*.py")]
        near = get_close_matches(path.name, beside, n=1)
        raise FedmodelError(
            f"there is no file {path}",
            where=where,
            fix=f"Did you mean `{near[0]}`?" if near else "Paths start at the experiment's folder.",
        )
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
        raise _unimportable(path.name, error, where=str(path)) from error
    cloudpickle.register_pickle_by_value(module)
    try:  # Ray brings its own copy of cloudpickle
        import ray.cloudpickle as ray_pickle

        ray_pickle.register_pickle_by_value(module)
    except ImportError:
        pass
    return module


def _unimportable(name: str, error: Exception, *, where: str) -> FedmodelError:
    """What an import raised, at the line of the user's file that raised it."""
    place = user_place(error) or where
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        column, line = (error.offset or 1) - 1, (error.text or "").rstrip("\n")
        place = marked_line(error.filename, error.lineno, line, column, 1)
    reason = error.msg if isinstance(error, SyntaxError) else error
    return FedmodelError(
        f"{name} cannot be imported: {type(error).__name__}: {reason}",
        where=place,
        fix="Mend the file; `fedmodel check FILE.py:NAME` tries it alone."
        if name.endswith(".py")
        else "Mend or install what it needs.",
    )
