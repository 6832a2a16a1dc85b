"""The text of an experiment, and where in it each key stands: `tomllib` gives no positions."""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from pathlib import Path

from fedmodel.errors import marked_line

__all__ = ["Keys", "Source", "places"]

Keys = tuple[str | int, ...]  # names of tables and keys, numbers of items in lists

_TOKEN = re.compile(
    r"#[^\n]*"
    r'|"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|[][{}=,\n]"
    r"""|[^][{}=,\s#"']+""",
    re.DOTALL,
)


class Source:
    """The text behind a configuration, to point at the line of a key."""

    def __init__(self, path: Path | None, text: str, overridden: frozenset[str] = frozenset()):
        self.path, self.text, self.overridden = path, text, overridden

    @property
    def base(self) -> Path:
        """The folder that relative paths of the experiment start from."""
        return self.path.parent if self.path else Path.cwd()

    def where(self, *keys: str | int) -> str:
        """``file:line``, the line and a mark under the key, or under the table that lacks it."""
        dotted = ".".join(map(str, keys))
        for key in sorted(self.overridden):
            if f"{dotted}.".startswith(f"{key}.") or (
                key.startswith(f"{dotted}.") and keys not in self._places
            ):
                return f"  --set {key}"
        if self.path is None:
            return f"  {dotted}"
        written = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in self._places), ())
        if not written:
            return f"  {self.path}"
        begin, width = self._places[written]
        number = self.text.count("\n", 0, begin)
        start = self.text.rfind("\n", 0, begin) + 1
        line = self.text[start:].split("\n", 1)[0]
        return marked_line(self.path.name, number + 1, line, begin - start, width)

    def place(self, where: str) -> str:
        """The line of what code that knows no file calls ``[section] key``; anything else unchanged."""
        named = re.match(r"\[([\w.]+)\](?: (.+?))?(?: = .*)?$", where)
        if named is None:
            return where
        return self.where(*named[1].split("."), *([named[2]] if named[2] else []))

    @cached_property
    def _places(self) -> dict[Keys, tuple[int, int]]:
        return places(self.text)


def places(text: str) -> dict[Keys, tuple[int, int]]:
    """Offset and width of every table's name, every key and every item of a list in valid TOML.

    >>> places('[a]\\nb = [1, {c = 2}]')[("a", "b", 1, "c")]
    (13, 1)
    """
    return _Reader(text).document()


class _Reader:
    """Walks once through a text that `tomllib` has accepted, so nothing can be out of order."""

    def __init__(self, text: str) -> None:
        self.tokens = [(m[0], m.start()) for m in _TOKEN.finditer(text) if m[0][0] != "#"]
        self.at = 0
        self.found: dict[Keys, tuple[int, int]] = {}
        self.tables: dict[Keys, int] = {}  # the latest of the [[tables]] of a name

    def document(self) -> dict[Keys, tuple[int, int]]:
        table: Keys = ()
        while self.at < len(self.tokens):
            token, _ = self.tokens[self.at]
            if token == "\n":
                self.at += 1
            elif token == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.found

    def header(self) -> Keys:
        """``[table]`` or ``[[table of a list]]``."""
        brackets = 2 if self.tokens[self.at + 1][0] == "[" else 1
        self.at += brackets
        table, span = self.key(())
        if brackets == 2:
            name = table[:-1] if isinstance(table[-1], int) else table
            self.tables[name] = self.tables.get(name, -1) + 1
            table = (*name, self.tables[name])
        self.found[table] = span
        self.at += brackets
        return table

    def pair(self, table: Keys) -> None:
        """``key = value``."""
        path, _ = self.key(table)
        self.at += 1
        self.value(path)

    def key(self, table: Keys) -> tuple[Keys, tuple[int, int]]:
        """A key with all its dots, and the span of its last word."""
        span = (0, 0)
        while (token := self.tokens[self.at])[0] not in ("=", "]"):
            for word, *span_of_word in _words(*token):
                table, span = (*table, word), (span_of_word[0], span_of_word[1])
                self.found.setdefault(table, span)
                if table in self.tables:
                    table = (*table, self.tables[table])
            self.at += 1
        return table, span

    def value(self, path: Keys) -> None:
        """A list, an inline table, or anything else up to the end of its line or list."""
        token, _ = self.tokens[self.at]
        self.at += 1
        if token == "[":
            number = 0
            while (item := self.next_in_brackets())[0] != "]":
                own = (*path, number)
                self.found[own] = (item[1], len(item[0].split("\n")[0]))
                self.value(own)
                number += 1
            self.at += 1
        elif token == "{":
            while self.next_in_brackets()[0] != "}":
                self.pair(path)
            self.at += 1
        else:  # a date and a time are two tokens
            while self.at < len(self.tokens) and self.tokens[self.at][0] not in (
                "\n",
                ",",
                "]",
                "}",
            ):
                self.at += 1

    def next_in_brackets(self) -> tuple[str, int]:
        while self.tokens[self.at][0] in ("\n", ","):
            self.at += 1
        return self.tokens[self.at]


def _words(token: str, begin: int) -> list[tuple[str, int, int]]:
    """The words of a piece of a key with offset and width: ``a.b`` has two, ``"a.b"`` one."""
    if token[0] in "\"'":
        return [(tomllib.loads(f"key = {token}")["key"], begin, len(token))]
    return [(m[0], begin + m.start(), len(m[0])) for m in re.finditer(r"[^.]+", token)]
