"""The records of an experiment, and which client holds which."""

from __future__ import annotations

from fedmodel.components import Components, bind
from fedmodel.config import Config
from fedmodel.data.federate import check_assignment
from fedmodel.data.flower import assignment_by
from fedmodel.data.records import Assignment, Records
from fedmodel.data.reuse import as_saved
from fedmodel.data.saved import Reading
from fedmodel.errors import FedmodelError
from fedmodel.source import Source
from fedmodel.supplied import supplied

__all__ = ["dealt_out", "load_records", "reading_of"]


def load_records(config: Config, bound: Components, reading: Reading | None) -> Records:
    """The records of an experiment before they are dealt out; its seed has no part in them.

    `reading` is what `reading_of` gives.
    """
    column = config.privacy.epsilon_column if config.privacy else None
    records = supplied(bound.data, "data", returns=Records, epsilon_column=column)
    return records if reading is None else as_saved(records, reading)


def dealt_out(config: Config, source: Source) -> tuple[Records, Assignment]:
    """The records of an experiment and which client holds which; no model, nothing encoded.

    Raises:
        FedmodelError: as `build`.
    """
    try:
        bound = bind(config, source)
        records = load_records(config, bound, reading_of(config, source))
        assignment = supplied(bound.partition, "partition", records, seed=config.seed)
        if not isinstance(assignment, Assignment):
            assignment = assignment_by(assignment, records)
        check_assignment(records, assignment)
    except FedmodelError as error:
        error.where = source.place(error.where)
        raise
    return records, assignment


def reading_of(config: Config, source: Source) -> Reading | None:
    """How a saved model reads records, if they are to be read like that."""
    if not config.data.encoder:
        return None
    return Reading.at(source.base / config.data.encoder, where="[data] encoder")
