"""What the Tab key offers. Nothing is imported that the shell would have to wait for."""

from __future__ import annotations

import ast
from pathlib import Path

import typer

__all__ = ["audit_names", "components", "kinds", "names_in", "run_folders", "subjects"]


def kinds(incomplete: str) -> list[str]:
    """Kinds of components."""
    from fedmodel.catalogue import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def names_in(module: str) -> list[str]:
    """The public names of a module of ours, read from its file: it is not imported."""
    import fedmodel

    file = Path(fedmodel.__file__).parent.joinpath(*module.split(".")[1:])
    names: list[str] = []
    for line in ast.parse(file.with_suffix(".py").read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__all__":
            names = ast.literal_eval(line.value)
    return names


def components(kind: str, incomplete: str) -> list[str]:
    """The names of our components of a kind."""
    from fedmodel.catalogue import KINDS

    names = (name for module in KINDS[kind].modules for name in names_in(module))
    return sorted(name for name in names if name.startswith(incomplete))


def audit_names(incomplete: str) -> list[str]:
    """Audits of ours."""
    return components("audit", incomplete)


def run_folders(incomplete: str) -> list[str]:
    """Run folders here, in `runs`, and in the folder that is being typed; the newest first.

    Where there is none, the shell offers files, as it always does.
    """
    begun, slash, _ = incomplete.rpartition("/")
    found = {
        file.parent
        for place in {Path(), Path("runs"), Path(begun + slash)}
        for file in place.glob("*/manifest.json")
        if file.parent.as_posix().startswith(incomplete)
    }
    newest = sorted(found, key=lambda run: (-run.stat().st_mtime, run))
    return [run.as_posix() for run in newest]


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """For `fedmodel show`: run folders and the word data; behind that word, data sets."""
    if context.params.get("run") is None:
        return [*run_folders(incomplete), *(["data"] if "data".startswith(incomplete) else [])]
    return components("dataset", incomplete) if str(context.params["run"]) == "data" else []
