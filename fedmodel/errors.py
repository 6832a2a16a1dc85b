"""The one error a user's mistake raises: what was wrong, where, and what to do."""

from __future__ import annotations

import traceback
from pathlib import Path

__all__ = ["FedmodelError", "RunFailed", "plugin_fault"]


class FedmodelError(Exception):
    """A mistake the user can mend. The command line prints it and exits with 2.

    `problem` says what is wrong, `where` names the place (file and line, key, client, round),
    `fix` says what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(problem)
        self.problem, self.where, self.fix = problem, where, fix

    def __str__(self) -> str:
        parts = [self.problem]
        if self.where:
            parts.append(f"  {self.where}" if "\n" not in self.where else self.where)
        if self.fix:
            parts.append(f"  {self.fix}")
        return "\n\n".join(parts)

    def __reduce__(self):
        # Raised in a worker process, it must arrive whole in the driver.
        return _rebuild, (type(self), self.problem, self.where, self.fix)


class RunFailed(FedmodelError):  # noqa: N818 - it reads as what happened
    """A run that started well and could not go on. The command line exits with 1."""

    exit_code = 1


def plugin_fault(error: BaseException) -> str:
    """An exception in one line, with the last file and line that is not this package's or a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).resolve().parent)
    own = [f for f in frames if "site-packages" not in f.filename and ours not in f.filename]
    own = [f for f in own if f.filename.endswith(".py") and "/lib/python" not in f.filename]
    frame = own[-1] if own else frames[-1] if frames else None
    place = f" at {frame.filename}:{frame.lineno} in {frame.name}" if frame else ""
    return f"{type(error).__name__}: {error}{place}"


def _rebuild(kind: type[FedmodelError], problem: str, where: str, fix: str) -> FedmodelError:
    return kind(problem, where=where, fix=fix)
