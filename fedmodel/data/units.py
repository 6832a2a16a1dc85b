"""Units that records come in, and how one is turned into another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["KNOWN", "Conversion", "conversion", "plain", "shown", "split_unit"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """value in `target` = scale * (value in `source`) + offset; for one substance or for any."""

    source: str
    target: str
    scale: float
    offset: float = 0.0
    of: str = ""  # how the column of a substance is called, as its beginning

    @property
    def back(self) -> Conversion:
        """The other way round."""
        return Conversion(
            source=self.target,
            target=self.source,
            scale=1 / self.scale,
            offset=-self.offset / self.scale,
            of=self.of,
        )


# Definitions of the units; for amounts of substance in mg/dL per mmol/L a tenth of the molar mass
# in g/mol (glucose 180.16, cholesterol 386.65, creatinine 113.12, urea nitrogen 28.01,
# calcium 40.08, bilirubin 584.66), for triglycerides, a mixture, the usual 88.57.
_ONE_WAY = (
    Conversion(source="lb", target="kg", scale=0.45359237),
    Conversion(source="g", target="kg", scale=0.001),
    Conversion(source="in", target="cm", scale=2.54),
    Conversion(source="m", target="cm", scale=100.0),
    Conversion(source="mm", target="cm", scale=0.1),
    Conversion(source="ft", target="cm", scale=30.48),
    Conversion(source="f", target="c", scale=5 / 9, offset=-160 / 9),
    Conversion(source="k", target="c", scale=1.0, offset=-273.15),
    Conversion(source="months", target="years", scale=1 / 12),
    Conversion(source="days", target="years", scale=1 / 365.25),
    Conversion(source="hours", target="days", scale=1 / 24),
    Conversion(source="minutes", target="hours", scale=1 / 60),
    Conversion(source="kpa", target="mmhg", scale=7.50062),
    Conversion(source="fraction", target="percent", scale=100.0),
    Conversion(source="g_l", target="g_dl", scale=0.1),
    Conversion(source="g_l", target="mg_dl", scale=100.0),
    Conversion(source="mmol_l", target="mg_dl", scale=18.016, of="glucose"),
    Conversion(source="mmol_l", target="mg_dl", scale=38.665, of="chol"),
    Conversion(source="mmol_l", target="mg_dl", scale=38.665, of="hdl"),
    Conversion(source="mmol_l", target="mg_dl", scale=38.665, of="ldl"),
    Conversion(source="mmol_l", target="mg_dl", scale=88.57, of="trig"),
    Conversion(source="mmol_l", target="mg_dl", scale=2.801, of="bun"),
    Conversion(source="mmol_l", target="mg_dl", scale=4.008, of="calcium"),
    Conversion(source="umol_l", target="mg_dl", scale=1 / 88.4, of="creat"),
    Conversion(source="umol_l", target="mg_dl", scale=1 / 17.1, of="bili"),
)
KNOWN: tuple[Conversion, ...] = tuple(c for one in _ONE_WAY for c in (one, one.back))
UNITS = {unit for c in KNOWN for unit in (c.source, c.target)}
SPELT = {
    "lbs": "lb", "pounds": "lb", "kgs": "kg", "inch": "in", "inches": "in", "fahrenheit": "f",
    "celsius": "c", "deg_c": "c", "deg_f": "f", "yrs": "years", "yr": "years", "month": "months",
    "day": "days", "pct": "percent", "µmol_l": "umol_l", "μmol_l": "umol_l", "mm_hg": "mmhg",
}  # fmt: skip
WRITTEN = {
    "mmol_l": "mmol/L", "umol_l": "µmol/L", "mg_dl": "mg/dL", "g_dl": "g/dL", "g_l": "g/L",
    "f": "°F", "c": "°C", "k": "K", "mmhg": "mmHg", "kpa": "kPa",
}  # fmt: skip
# These are words or letters of many meanings at the end of a name.
AMBIGUOUS = {"in", "m", "f", "c", "k", "g"}


def plain(name: str) -> str:
    """A name or a unit in lower case, one _ between words.

    >>> plain("Glucose (mg/dL)"), plain("°C"), plain("%")
    ('glucose_mg_dl', 'c', 'percent')
    """
    words = re.findall(r"\w+", name.replace("%", " percent ").replace("_", " ").lower())
    word = "_".join(words)
    return SPELT.get(word, word)


def shown(unit: str) -> str:
    """A plain unit as people write it."""
    return WRITTEN.get(unit, unit)


def split_unit(name: str) -> tuple[str, str]:
    """The plain name of a column without its unit, and the unit if the name ends in one.

    >>> split_unit("Weight_lbs"), split_unit("Glucose (mmol/L)"), split_unit("temp (F)")
    (('weight', 'lb'), ('glucose', 'mmol_l'), ('temp', 'f'))
    >>> split_unit("vitamin_c")
    ('vitamin_c', '')
    """
    whole = plain(name)
    words = whole.split("_")
    for length in (2, 1):
        unit = plain("_".join(words[-length:]))
        bracketed = re.search(r"[(\[]", name) is not None
        if len(words) > length and unit in UNITS and (bracketed or unit not in AMBIGUOUS):
            return "_".join(words[:-length]), unit
    return whole, ""


def conversion(source: str, target: str, *, column: str) -> Conversion | None:
    """How a column's values turn from one unit into another; None if that is not known here.

    >>> conversion("mmol/L", "mg/dL", column="Glucose").scale
    18.016
    """
    a, b = plain(source), plain(target)
    if a == b:
        return Conversion(source=source, target=target, scale=1.0)
    return next(_of_column(a, b, plain(column)), None)


def _of_column(source: str, target: str, column: str) -> Iterator[Conversion]:
    for known in KNOWN:
        if (known.source, known.target) == (source, target) and known.of in column:
            yield known
