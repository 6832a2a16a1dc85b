"""A saved model on other records: an experiment without rounds, whose run is a run like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmodel.config_file import read_config
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.runs.folder import RunFolder

__all__ = ["evaluation_of"]


def evaluation_of(
    run: Path, config: Path | str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Experiment:
    """The experiment that evaluates a run's last model on the data of an experiment file.

    Of the file [data], [partition], [evaluation], [engine], name and seed count. Model, encoding and
    classes are the run's; what has to do with training is left out.

    Raises:
        FedmodelError: there is no finished run, or the file has a mistake.
    """
    folder = RunFolder.open(run).path.resolve()
    if not (folder / "model.safetensors").is_file():
        raise FedmodelError(
            f"{run} holds no model yet", fix=f"Finish the run first: `fedmodel resume {run}`."
        )
    model = dict(read_config(folder / "config.toml")[2]["model"])
    if ".py:" in model["name"]:
        model["name"] = str(folder / model["name"])
    left_out = ("strategy", "privacy", "secure_aggregation", "attack", "data.encode", "data.ranges")
    return Experiment.read(
        config,
        {
            **(overrides or {}),
            **dict.fromkeys(left_out),
            "rounds": 0,
            "model": {**model, "init": str(folder / "model.safetensors")},
            "client": {"name": "sgd", "learning_rate": 1.0},
            "data.encoder": str(folder / "encoder.json"),
            "evaluation.references": [],
        },
    )
