"""Any table or set of texts of the Hugging Face Hub, by name, or a folder of the same form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fedmodel.data.columns import records_of
from fedmodel.data.records import Records
from fedmodel.errors import FedmodelError
from fedmodel.types import SPLITS, Card

__all__ = ["hf"]

SPLIT = "split of the data set"  # a column of ours: which split a record came in


def hf(
    *,
    dataset: str | None = None,
    folder: Path | None = None,
    subset: str | None = None,
    revision: str | None = None,
    label: str,
    sensitive: tuple[str, ...] = (),
    bins: Mapping[str, tuple[float, ...]] | None = None,
    client: str | None = None,
    features: tuple[str, ...] | None = None,
    positive: str | None = None,
    text: str | None = None,
    max_tokens: int = 64,
    buckets: int = 8192,
) -> Records:
    """A Hugging Face data set of rows, by name from the Hub, or a folder of data files.

    Its splits train, validation and test are kept if it has train and test; otherwise these
    records are taken together, and a share is held out as usual. What it is read from lies in
    the cache of `datasets` from then on; with HF_HUB_OFFLINE=1 nothing else is looked up.

    Args:
        dataset: name on the Hub, "owner/name".
        folder: in place of `dataset`, a folder with train and test files (CSV, Parquet, JSON).
        subset: configuration, where the data set has several.
        revision: branch, tag or commit on the Hub; name one for results that last.
        label: column of the class; the names of its classes are kept, in their order.
        sensitive: as for `csv`, and so are the options that follow.
        bins: edges at which to cut sensitive numbers.
        client: column that says which client a record belongs to.
        features: columns to learn from; default: all but label and client.
        positive: the positive class of two; default: the last.
        text: column with texts to learn from, in place of features.
        max_tokens: texts only, tokens kept of each record.
        buckets: texts only, size of the hashed vocabulary.

    Raises:
        FedmodelError: not exactly one of `dataset` and `folder`; it cannot be loaded, has no
            split named train, or a column cannot be used as asked.
    """
    if (dataset is None) == (folder is None):
        raise FedmodelError(
            "the data set hf takes either a dataset or a folder",
            where="[data]",
            fix='Write dataset = "owner/name" for one of the Hub, or folder = "path" for your own.',
        )
    name = dataset if dataset is not None else str(folder)
    loaded = _loaded(name, folder=folder, subset=subset, revision=revision)
    parts = [split for split in SPLITS if split in loaded]
    if "train" not in parts:
        raise FedmodelError(
            f"{name} has no split named train",
            where="[data]",
            fix=f"It has {', '.join(map(str, loaded))}: save what you need of it, and read it by "
            'name = "parquet".',
        )
    frame = pd.concat([_frame(loaded[part]).assign(**{SPLIT: part}) for part in parts])
    frame = frame.reset_index(drop=True)
    if "test" not in parts:
        frame = frame.drop(columns=SPLIT)
    records = records_of(
        frame,
        Path(name),
        label=label,
        sensitive=sensitive,
        bins=bins,
        client=client,
        features=features,
        split=SPLIT if SPLIT in frame else None,
        positive=positive,
        text=text,
        max_tokens=max_tokens,
        buckets=buckets,
    )
    info = loaded["train"].info
    card = Card(
        name=Path(name).name,
        title=Path(name).name,
        source=f"https://huggingface.co/datasets/{name}" if folder is None else Path(name).name,
        licence=info.license or "not stated here: see where it comes from",
        citation=info.citation,
    )
    return replace(records, card=card)


def _loaded(name: str, *, folder: Path | None, subset: str | None, revision: str | None) -> Any:
    """The splits by name."""
    if folder is not None and not folder.is_dir():
        raise FedmodelError(
            f"there is no folder {folder.name}",
            where=str(folder),
            fix="Check the path; it is relative to the experiment's file.",
        )
    import datasets

    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, subset, revision=revision)
    except Exception as error:  # of many kinds: network, names, formats
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FedmodelError(
            f"the data set {name} cannot be loaded: {reason}",
            where="[data] dataset" if folder is None else "[data] folder",
            fix="Check its name, its subset and the network; without a network it has to be in "
            "the cache, or in a folder.",
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()


def _frame(split: Any) -> pd.DataFrame:
    """A split as a table; numbers of classes become their names, no class (-1) missing."""
    frame = split.to_pandas()
    for column, kind in split.features.items():
        if hasattr(kind, "int2str"):
            codes = frame[column].fillna(-1).astype(int)
            frame[column] = pd.Categorical.from_codes(codes, categories=kind.names)
    return frame
