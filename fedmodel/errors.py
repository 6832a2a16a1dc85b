"""The one error a user's mistake raises: what was wrong, where, and what to do; and words for it."""

from __future__ import annotations

import json
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["FedmodelError", "RunFailed"]
__all__ += ["marked_line", "nearest", "plugin_fault", "say", "shown", "user_place", "wanted"]
__all__ += ["what_failed"]

LISTED = 20  # names that an error lists at most
WIDEST = 110  # columns of a quoted line with its place
# Code that is not the user's: this package, Python's own library, installed packages.
LIBRARIES = (
    str(Path(__file__).resolve().parent) + os.sep,
    *(sysconfig.get_path(k) + os.sep for k in ("stdlib", "platstdlib", "purelib", "platlib")),
)

_WANTED = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text in quotes",
    "a valid boolean": "true or false",
    "a valid list": "a list",
    "a valid array": "a list",
    "a valid tuple": "a list",
    " or instance of AdaptiveClip": "",
    "a valid dictionary": "a table",
    "an object": "a table",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "'": '"',
}
_LENGTH = re.compile(
    r"(\w+) should have (at (?:least|most) \d+) (?:character|item)s?(?: after validation.*)?"
)


class FedmodelError(Exception):
    """A mistake the user can mend. The command line prints it and exits with 2.

    `problem` says what is wrong, in lower case and without a full stop; `where` names the place
    (file and line, ``[section] key``, client, round); `fix` says in sentences what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(problem)
        self.problem, self.where, self.fix = problem, where, fix

    def __str__(self) -> str:
        parts = [self.problem]
        if self.where:
            parts.append(self.where if self.where.startswith(" ") else f"  {self.where}")
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
    """An exception in one line, with the last line of the user's own code that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    place = user_place(error) or (_place(frames[-1]) if frames else "")
    return f"{what_failed(error)} at {place}" if place else what_failed(error)


def user_place(error: BaseException) -> str:
    """File, line and function of the user's own code that an exception came through last, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.endswith(".py") and not _installed(f.filename)]
    return _place(own[-1]) if own else ""


def marked_line(name: str, number: int, line: str, column: int = 0, width: int = 0) -> str:
    """``name:number`` beside the line, and a mark under so many of its columns from `column` on.

    >>> print(marked_line("e.toml", 3, "round = 20", 0, 5))
      e.toml:3   round = 20
                 ^^^^^
    """
    prefix, line = f"  {name}:{number}   ", line.replace("\t", " ").rstrip()
    room = max(40, WIDEST - len(prefix))
    if len(line) > room:  # show the part around the mark
        first = max(0, min(column - room // 3, len(line) - room))
        line = "..." * (first > 0) + line[first + 3 * (first > 0) : first + room]
        column -= first
    if not width:
        return prefix + line
    mark = "^" * max(1, min(width, len(line) - column))
    return f"{prefix}{line}\n{' ' * (len(prefix) + column)}{mark}"


def nearest(word: str, known: Iterable[str], *, what: str, show: str | None = None) -> str:
    """A hint for a misspelt word: the nearest known one, and the whole list where it is short."""
    names = sorted(known)
    by_lower = {name.lower(): name for name in names}
    near = [by_lower[match] for match in get_close_matches(word.lower(), by_lower, n=1)]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    listing = show if show is not None else ", ".join(names[:LISTED]) + more
    if what.split()[0] in ("the", "it", "they", "to"):  # else it is a name
        what = what[0].upper() + what[1:]
    listing = f"{what}: {listing or 'nothing'}."
    return f"Did you mean `{near[0]}`? {listing}" if near else listing


def say(words: Sequence[str]) -> str:
    """Words as a spoken list: `a`, `b` and `c`."""
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def shown(value: Any) -> str:
    """A value as one would write it in an experiment, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def wanted(messages: Sequence[str]) -> str:
    """What pydantic's messages ask for, in our words.

    >>> wanted(["Input should be a valid integer", "Input should be a valid list"])
    'It should be a whole number or a list.'
    >>> wanted(["List should have at least 1 item after validation, not 0"])
    'It should be a list of at least 1.'
    """
    asked = [_LENGTH.sub(_of_length, message) for message in dict.fromkeys(messages)]
    asked = [message.removeprefix("Input should ") for message in asked]
    text = " or ".join([asked[0], *(message.removeprefix("be ") for message in asked[1:])])
    for theirs, ours in _WANTED.items():
        text = text.replace(theirs, ours)
    return f"It should {text}."


def what_failed(error: BaseException) -> str:
    """The exception's type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _of_length(found: re.Match[str]) -> str:
    if found[1] == "String":
        return "be text that is not empty"
    return f"be a list of {found[2]}"


def _place(frame: traceback.FrameSummary) -> str:
    inside = "" if frame.name == "<module>" else f" in {frame.name}"
    return f"{frame.filename}:{frame.lineno}{inside}"


def _installed(file: str) -> bool:
    return file.startswith(LIBRARIES) or str(Path(file).resolve()).startswith(LIBRARIES)


def _rebuild(kind: type[FedmodelError], problem: str, where: str, fix: str) -> FedmodelError:
    return kind(problem, where=where, fix=fix)
