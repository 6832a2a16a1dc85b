"""A saved model at work on records that nobody had when it was trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fedmodel.catalogue import KINDS
from fedmodel.cohort import FlatModel
from fedmodel.config import Config
from fedmodel.config_file import read_config
from fedmodel.data.hashing import HashedText
from fedmodel.data.saved import Reading
from fedmodel.data.unseen import fitted, read_unseen
from fedmodel.errors import FedmodelError, nearest, shown
from fedmodel.models.drawing import initial_draws
from fedmodel.models.start import put_in, read_parameters
from fedmodel.runs.folder import RunFolder
from fedmodel.runs.states import whole

__all__ = ["predict", "predict_file", "saved_model"]

SUFFIXES = r"(\.(csv|tsv|txt|parquet|pq))?(\.(gz|bz2|zip|xz|zst))?$"


def saved_model(run: Path, *, best: bool = False) -> FlatModel:
    """The model after the last round, or at the best one. The training data need not be there.

    Raises:
        FedmodelError: it is not in the run folder, or damaged.
    """
    file = run / ("best.safetensors" if best else "model.safetensors")
    if not file.is_file():
        raise FedmodelError(
            f"{run} holds no {file.name}",
            fix="A best model is kept where there are validation records: set data.validation."
            if best
            else f"It is written at the end of the run: `fedmodel resume {run}`.",
        )
    config, source, _ = read_config(run / "config.toml")
    reading = Reading.at(run)
    component = KINDS["model"].bind(config.model.spec, base=source.base, where=source.where)
    with initial_draws(config.seed):
        module = component(
            num_features=reading.num_features,
            num_classes=len(reading.classes),
            vocabulary=reading.vocabulary,
        )
    model = FlatModel(module)
    put_in(model.module, read_parameters(file, where=str(file)), where=str(file))
    model.module.eval()
    return model


def predict(
    run: Path,
    frame: pd.DataFrame,
    *,
    best: bool = False,
    client: str | None = None,
    allow_unknown: bool = False,
    keep: Sequence[str] = (),
    where: str = "the records",
) -> pd.DataFrame:
    """Class and probabilities of each record; see `Run.predict`."""
    reading, model = Reading.at(run), saved_model(run, best=best)
    whose = _client(reading, client)
    names = [f"probability_{name}" for name in reading.classes]
    if clash := sorted({"prediction", *names} & set(keep)):
        raise FedmodelError(
            f"a column {clash[0]!r} cannot be kept: the predictions have one of this name",
            where=where,
            fix="Rename it.",
        )
    table, notes = fitted(frame, reading, keep=keep, allow_unknown=allow_unknown, where=where)
    if isinstance(reading.encoder, HashedText):
        x = reading.encoder.transform(table[reading.encoder.column])
    else:
        x = reading.encoder.transform(table, np.full(len(table), whose))
    logits = model.predict(model.join(dict(model.module.named_parameters())), torch.from_numpy(x))
    probability = logits.double().softmax(1).numpy()
    out = frame[list(keep)].copy()
    out["prediction"] = np.array(reading.classes, dtype=object)[probability.argmax(1)]
    out[names] = probability
    out.attrs["notes"] = [*notes, *filter(None, [RunFolder(run).cut_short])]
    return out


def predict_file(
    run: Path,
    file: Path,
    *,
    out: Path | None = None,
    best: bool = False,
    client: str | None = None,
    allow_unknown: bool = False,
    keep: Sequence[str] = (),
) -> tuple[pd.DataFrame, Path]:
    """`predict` on a CSV or Parquet file; the predictions and the new CSV file that holds them.

    Raises:
        FedmodelError: as `predict`; the file cannot be read, or the new one is there already.
    """
    RunFolder.open(run)
    out = out or file.with_name(f"{re.sub(SUFFIXES, '', file.name)}-predictions.csv")
    if out.exists():
        raise FedmodelError(
            f"{out} is there already", where="--out", fix="Name another file, or move this one."
        )
    options = _csv_options(read_config(run / "config.toml")[0])
    frame = read_unseen(file, Reading.at(run), **options)
    predicted = predict(
        run,
        frame,
        best=best,
        client=client,
        allow_unknown=allow_unknown,
        keep=keep,
        where=file.name,
    )
    with whole(out) as draft:
        if out.suffix == ".parquet":
            predicted.to_parquet(draft, index=False)
        else:
            predicted.to_csv(draft, index=False)
    return predicted, out


def _client(reading: Reading, client: str | None) -> int:
    """The number of the client whose scale is meant."""
    clients = () if isinstance(reading.encoder, HashedText) else reading.encoder.clients
    if not clients:
        if client is None:
            return 0
        raise FedmodelError(
            "a client has no effect here: all share one encoding",
            where="--client",
            fix="Leave it out; it is for runs with encode = client.",
        )
    if client is None:
        raise FedmodelError(
            "each client has a scale of its own, and no client is named",
            where="[data] encode = client",
            fix=f"Say whose records these are: `--client {clients[0]}`. "
            + nearest("", clients, what="the clients are"),
        )
    if client not in clients:
        raise FedmodelError(
            f"there is no client {shown(client)}",
            where="--client",
            fix=nearest(client, clients, what="the clients are"),
        )
    return clients.index(client)


def _csv_options(config: Config) -> dict[str, Any]:
    """How the run's own CSV file was read, if it had one."""
    spec = config.data.spec if config.data.name == "csv" else {}
    return {key: spec[key] for key in ("separator", "missing") if key in spec}
