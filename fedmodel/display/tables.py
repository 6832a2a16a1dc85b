"""Tables of the terminal that look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["bare_table", "plain_table", "text_table"]


def bare_table(title: str) -> Table:
    """A table without lines and, so far, without columns."""
    return Table(
        title=escape(title) or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def plain_table(title: str, first: str, *others: str) -> Table:
    """A table without lines; words to the left, figures to the right."""
    table = bare_table(title)
    table.add_column(first, overflow="fold")
    for name in others:
        least = max(map(len, name.split()), default=0) if title == "" else None
        justify: Any = "left" if name in ("measure", "interval") else "right"
        table.add_column(escape(name), justify=justify, min_width=least)
    return table


def text_table(frame: DataFrame, title: str) -> Table:
    """A table of texts; the first column says what a line is of."""
    table = bare_table(title)
    for number, column in enumerate(frame.columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in row))
    return table
