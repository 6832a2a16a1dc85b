"""Records of another data set, as a saved model reads them: its encoding and its classes, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Shaped

from fedmodel.data.hashing import HashedText
from fedmodel.data.records import Assignment, Records
from fedmodel.data.saved import Reading
from fedmodel.data.unseen import fitted
from fedmodel.errors import FedmodelError, say

__all__ = ["as_saved", "encoded"]


def as_saved(records: Records, reading: Reading) -> Records:
    """The records with the model's classes in the model's order.

    Raises:
        FedmodelError: a label that the model cannot give, or texts for a model of tables.
    """
    texts = isinstance(reading.encoder, HashedText)
    if texts != (records.text is not None):
        raise FedmodelError(
            f"the model reads {'texts' if texts else 'tables'}, and {records.card.name} has "
            f"{'none' if texts else 'texts'}",
            where="[data] name",
            fix="Evaluate it on data of the kind that it was trained on.",
        )
    if strange := [name for name in records.classes if name not in reading.classes]:
        raise FedmodelError(
            f"{records.card.name} has labels that the model does not know: {say(strange)}",
            where="[data] name",
            fix=f"Name them as in training: {', '.join(reading.classes)}.",
        )
    return replace(records, label=records.label.cat.set_categories(list(reading.classes)))


def encoded(
    records: Records, assignment: Assignment, reading: Reading
) -> Shaped[np.ndarray, "N width"]:
    """What the model reads of the records. Columns that it does not read are left out.

    Raises:
        FedmodelError: a column is missing, values do not fit, or a client has no scale of its own.
    """
    encoder = reading.encoder
    if isinstance(encoder, HashedText):
        assert records.text is not None
        return encoder.transform(records.text)
    assert records.features is not None
    spare = [str(name) for name in records.features if name not in reading.columns]
    try:
        table, _ = fitted(records.features, reading, keep=spare, where=records.card.name)
    except FedmodelError as error:
        error.fix = (
            f"The model reads: {', '.join(reading.columns)}. Give these columns, in the units "
        )
        error.fix += "and with the categories of training; leave empty what is not known."
        raise
    if not encoder.clients:
        return encoder.transform(table)
    known = {name: number for number, name in enumerate(encoder.clients)}
    if strange := [name for name in assignment.names if name not in known]:
        raise FedmodelError(
            f"the model has a scale for each client it was trained with, and none for {say(strange[:5])}",
            where="[partition]",
            fix='Evaluate it at these clients, or train it with encode = "pooled" or "public".',
        )
    number = np.array([known[name] for name in assignment.names])
    return encoder.transform(table, number[assignment.client])
