"""What an experiment can name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedmodel.catalogue import KINDS
from fedmodel.errors import FedmodelError, nearest, shown

if TYPE_CHECKING:
    pass

__all__ = ["catalogue_tables", "data_card"]


def catalogue_tables(kind: str | None) -> Iterator[Table]:
    """One table a kind: names, options and what they are."""
    chosen = {n: c for n, c in KINDS.items() if kind in (None, n, c.plural)}
    if kind is not None and not chosen:
        raise FedmodelError(
            f"there is no kind {shown(kind)}", fix=nearest(kind, KINDS, what="the kinds are")
        )
    for name, catalogue in chosen.items():
        table = Table(title=catalogue.plural, title_justify="left")
        for column in ("name", "options", "what it is"):
            table.add_column(column, overflow="fold")
        from pathlib import Path

        for component in sorted(catalogue.names()):
            function = catalogue.find(component, base=Path.cwd())
            options = ", ".join(
                option
                if parameter.default is parameter.empty
                else f"{option} = {_value(parameter.default)}"
                for option, parameter in catalogue.schema(function).items()
            )
            first = (function.__doc__ or "").strip().splitlines()[0]
            table.add_row(component, escape(options), escape(first))
        if table.row_count:
            yield table
        elif kind is not None:
            raise FedmodelError(
                f"no {name} has a name of its own", fix="Yours is written `file.py:name`."
            )


def data_card(name: str) -> RenderableType:
    """The card of a data set and what it holds; of one that reads a user's data, what it is.

    Raises:
        FedmodelError: no such data set, or one that cannot be loaded.
    """
    import inspect
    from pathlib import Path

    from fedmodel.data.describe import summary_of

    datasets = KINDS["dataset"]
    function = datasets.find(name, base=Path.cwd())
    if any(option.default is option.empty for option in datasets.schema(function).values()):
        about = (inspect.getdoc(function) or "").split("\n\nArgs:")[0].split("\n\nRaises:")[0]
        paragraphs = [" ".join(paragraph.split()) for paragraph in about.split("\n\n")]
        return Text("\n\n".join([f"{name} reads data that you name.", *paragraphs]))
    records = datasets.bind(name, base=Path.cwd())()
    card = records.card
    table = Table(title=escape(card.title), title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    lines = {"name": card.name, "source": card.source, "licence": card.licence}
    lines |= {"citation": card.citation, **summary_of(records), "known harms": card.harms}
    for key, text in lines.items():
        if text:
            table.add_row(escape(key), escape(text))
    for number, text in enumerate(card.cautions):
        table.add_row("" if number else "be careful", f"[yellow]{escape(text)}[/]")
    return table


def _value(default: Any) -> str:
    return getattr(default, "__name__", None) or repr(default)
