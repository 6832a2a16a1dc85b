"""Data sets of images that come with fedmodel: tables with a column for each pixel."""

from __future__ import annotations

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Records
from fedmodel.types import Card

__all__ = ["digits"]

DIGITS_CARD = Card(
    name="digits",
    title="Handwritten digits",
    source="UCI Machine Learning Repository, id 80, https://doi.org/10.24432/C50P49",
    licence="CC BY 4.0",
    citation=(
        "Alpaydin, E., Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI. "
        "The 1,797 images of 13 writers published for testing."
    ),
    harms=(
        "Handwriting belongs to people: who recovers an image learns how somebody writes. 13 "
        "writers say nothing about how well others would be read."
    ),
    cautions=(
        "Images of one writer lie in training and in test records: the accuracy is that for "
        "writers who are known.",
        "8 x 8 pixels: attacks that recover these images need not do so for large ones.",
    ),
)


def digits() -> Records:
    """1,797 grey images of the digits 0 to 9, 8 x 8 pixels from 0 (paper) to 1 (ink). No clients.

    With `encode = "none"` a record stays 64 numbers, row by row, and nothing is fitted.
    """
    frame = read_shipped("digits")
    pixels = frame.drop(columns="digit") / 16.0  # counts of dark dots in blocks of 4 x 4
    return Records(
        card=DIGITS_CARD,
        label=frame["digit"],
        features=pixels,
        ranges={str(name): (0.0, 1.0) for name in pixels},
    )
