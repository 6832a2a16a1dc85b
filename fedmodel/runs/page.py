"""What a page is made of, and its rendering: one HTML file that needs nothing but a browser.

A section is a list of blocks: a string (a paragraph), a `Figure`, a `Table`, `Facts`, a `Listing`
`Code` or `Pictures`. The template escapes every text; the drawing library is inlined once for all figures.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedmodel.runs.style import CONFIG, VEGA_LITE
from fedmodel.runs.words import Kind, write

__all__ = ["Block", "Code", "Column", "Facts", "Figure", "Listing", "Page", "Pictures", "Section"]
__all__ += ["Table"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart: `spec` in Vega-Lite, `description` for those who do not see it."""

    title: str
    spec: dict
    description: str
    caption: str = ""
    wide: bool = False  # takes the whole line


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's heading, how its values are written, and what it means."""

    label: str
    kind: Kind = "number"
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of raw values; the columns say how to write them.

    `folded` hides the table behind its caption; `terms` explains names in its cells.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]
    folded: bool = False
    sortable: bool = False
    note: str = ""
    terms: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and what they are; a tuple of texts makes several lines."""

    pairs: Sequence[tuple[str, str | tuple[str, ...]]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Statements, one a line; `weight="caution"` sets them apart."""

    caption: str
    items: Sequence[str]
    weight: str = ""


@dataclass(frozen=True, kw_only=True)
class Code:
    """Text to copy as it stands."""

    caption: str
    text: str
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Small grey pictures, a line of them for each name: arrays ``[height, width]``, 0 white to 1 black."""

    caption: str
    lines: Sequence[tuple[str, Sequence[np.ndarray]]]
    note: str = ""
    folded: bool = False


Block = str | Figure | Table | Facts | Listing | Code | Pictures


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it. Figures that follow each other share a line."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower()).strip("-")

    @property
    def groups(self) -> list[list[Block]]:
        """The blocks, with neighbouring figures together."""
        groups: list[list[Block]] = []
        for block in self.blocks:
            if groups and isinstance(block, Figure) and isinstance(groups[-1][-1], Figure):
                groups[-1].append(block)
            else:
                groups.append([block])
        return groups


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report: what one reads first, then the sections."""

    title: str
    about: Sequence[str]  # a line of small facts
    headline: str
    warning: str = ""
    key_figures: Sequence[tuple[str, str, str]] = ()  # label, value, remark
    notes: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=tuple)

    def render(self) -> str:
        """The page as one HTML text that loads nothing from anywhere."""
        figures = [b for s in self.sections for b in s.blocks if isinstance(b, Figure)]
        return _template().render(
            page=self,
            number_of=[id(figure) for figure in figures].index,
            specs=_script_json([figure.spec for figure in figures]),
            config=_script_json(CONFIG),
            library=Markup(_library()) if figures else "",
            style=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
        )


def _template():
    environment = Environment(
        loader=PackageLoader("fedmodel.runs", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(write=write, identity=id, sortable=_sortable, png=_png)
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    return environment.get_template("page.html")


def _sortable(value: float) -> str:
    """A number as JavaScript reads it."""
    return repr(float(value)).replace("inf", "Infinity")


def _png(picture: np.ndarray) -> str:
    """A grey picture as a data address: PNG, 8 bits a pixel, each line without a filter."""
    height, width = picture.shape
    grey = np.rint(255 * (1 - np.clip(np.nan_to_num(picture), 0, 1))).astype(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = np.insert(grey, 0, 0, axis=1).tobytes()
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        check = zlib.crc32(kind + body)
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _script_json(value: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", r"\u003c").replace("\u2028", r"\u2028"))


def _asset(name: str) -> str:
    return files("fedmodel.runs").joinpath(name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed in the versions that our charts are written for."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", r"<\/script")
