"""From records and an assignment to the federation that everything else works on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from fedmodel.data.encode import fit_encoder
from fedmodel.data.encoder import Encoder
from fedmodel.data.flower import assignment_by
from fedmodel.data.hashing import HashedText
from fedmodel.data.ranges import Encode
from fedmodel.data.records import Assignment, Records
from fedmodel.data.reuse import encoded
from fedmodel.data.saved import Reading
from fedmodel.data.scales import Release
from fedmodel.data.split import split
from fedmodel.errors import FedmodelError
from fedmodel.types import SPLITS, FederatedData

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

__all__ = ["check_assignment", "federate"]


def federate(
    records: Records,
    assignment: Assignment | Partitioner,
    *,
    encode: Encode = "pooled",
    ranges: Mapping[str, Sequence[float] | Sequence[str]] | None = None,
    test: float = 0.2,
    validation: float = 0.0,
    reading: Reading | None = None,
    only_test: bool = False,
    seed: int,
    release: Release | None = None,
) -> FederatedData:
    """Split each client's records, encode them, and lay them out client by client.

    `assignment` is a partitioner's, or any partitioner of Flower Datasets.

    1. `split` holds out test and validation records of each client, or the split column does.
    2. `encode` says what is fitted on the training records (`fedmodel.data.encode`); texts are
       hashed, whatever it says. `release` noises the sums of "private".
       With `reading` nothing is fitted: records are encoded as for a saved model.
    3. Rows are ordered by client, then train, validation, test, then as they were.

    Raises:
        FedmodelError: the assignment does not fit the records; what `split` and `fit_encoder`
            raise.
    """
    if not isinstance(assignment, Assignment):
        assignment = assignment_by(assignment, records)
    check_assignment(records, assignment)
    if only_test and records.split is None:
        parts = np.full(len(records), SPLITS.index("test"))
    else:
        parts = split(assignment, test=test, validation=validation, given=records.split, seed=seed)
    cell = assignment.client * len(SPLITS) + parts
    order = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=len(assignment.names) * len(SPLITS))
    ends = sizes.cumsum().reshape(-1, len(SPLITS))
    starts = np.append(0, ends[:-1, -1])
    encoder, x, names, outside = _encoded(
        records,
        assignment,
        training=parts == 0,
        encode=encode,
        ranges=ranges,
        reading=reading,
        release=release,
    )
    levels = [records.sensitive[name].cat.codes.to_numpy() for name in records.attributes]
    group = np.column_stack(levels) if levels else np.empty((len(records), 0))
    return FederatedData(
        x=torch.from_numpy(x[order]),
        y=torch.from_numpy(records.label.cat.codes.to_numpy(dtype=np.int64)[order]),
        group=torch.from_numpy(group.astype(np.int64)[order]),
        bounds=torch.from_numpy(np.column_stack([starts, ends])),
        clients=assignment.names,
        classes=records.classes,
        attributes=records.attributes,
        features=names,
        card=records.card,
        outside=outside,
        vocabulary=encoder.buckets if isinstance(encoder, HashedText) else 0,
        origin=_hash(*_told(records), *assignment.names, assignment.client.tobytes()),
        parts=_hash(parts.astype(np.int8).tobytes()),
        encoder=encoder,
    )


def _encoded(
    records: Records,
    assignment: Assignment,
    *,
    training: np.ndarray,
    encode: Encode,
    ranges: Mapping[str, Sequence[float] | Sequence[str]] | None,
    reading: Reading | None,
    release: Release | None,
) -> tuple[Encoder | HashedText, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The encoder, the numbers or token ids ``[N, ...]``, the features' names, what was out of range."""
    if reading is not None:
        encoder = reading.encoder
        names = () if isinstance(encoder, HashedText) else encoder.names
        return encoder, encoded(records, assignment, reading), names, ()
    if records.text is not None:
        if ranges:
            raise FedmodelError(
                "ranges have no effect on texts", where="[data.ranges]", fix="Leave them out."
            )
        if encode == "private":
            raise FedmodelError(
                'encode = "private" has no effect on texts',
                where="[data] encode",
                fix="Leave it out, and `encoding_epsilon` too: texts are hashed, nothing is fitted.",
            )
        column = str(records.text.name or "text")
        hashed = HashedText(max_tokens=records.max_tokens, buckets=records.buckets, column=column)
        return hashed, hashed.transform(records.text), (), ()
    assert records.features is not None
    fitted, outside = fit_encoder(
        records, assignment, training=training, encode=encode, ranges=ranges, release=release
    )
    return fitted, fitted.transform(records.features, assignment.client), fitted.names, outside


def _told(records: Records) -> Iterator[bytes]:
    """What the records say: features or texts, labels, sensitive attributes."""
    for part in (records.features, records.text, records.label, records.sensitive):
        if part is not None and len(part):
            yield pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes()


def _hash(*parts: bytes | str) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\0" if isinstance(part, str) else part)
    return digest.hexdigest()


def check_assignment(records: Records, assignment: Assignment) -> None:
    """Raise FedmodelError unless every record has a client, and every client a record and a name."""
    client, num_clients = np.asarray(assignment.client), len(assignment.names)
    if not np.issubdtype(client.dtype, np.integer):
        problem = f"its client numbers are of type {client.dtype}, not whole numbers"
    elif client.shape != (len(records),):
        problem = f"it assigns {client.shape} records of {len(records)}"
    elif len(client) and not 0 <= client.min() <= client.max() < num_clients:
        problem = f"it has {num_clients} names, and client numbers {client.min()} to {client.max()}"
    elif len(set(assignment.names)) < num_clients:
        problem = "two clients have the same name"
    elif empty := num_clients - len(np.unique(client)):
        problem = f"it leaves {empty} of {num_clients} clients without a record"
    else:
        return
    raise FedmodelError(
        f"the partition is wrong: {problem}",
        where="[partition]",
        fix="Give each record a client number from 0 to K - 1, each client a record and a name.",
    )
