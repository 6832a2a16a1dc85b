"""A model to start from: parameters in a file, put into a module that they fit, or refused."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedmodel.errors import FedmodelError, nearest

__all__ = ["put_in", "read_parameters"]

WHERE = "[model] init"
MOST_NAMED = 3


def read_parameters(path: Path, *, where: str = WHERE) -> dict[str, Tensor]:
    """The named parameters in a safetensors file, a saved state dict, or a run folder (its last model).

    `where` is the place that an error names.

    A state dict is what ``torch.save(module.state_dict(), path)`` writes; nothing in it is run.

    Raises:
        FedmodelError: it is not there, cannot be read, or holds something else or no finite numbers.
    """
    if (path / "config.toml").is_file():
        path = path / "model.safetensors"
    if not path.is_file():
        raise FedmodelError(
            f"there is no model file {path}",
            where=where,
            fix="Give a .safetensors file, a saved state dict, or the folder of a run; a relative "
            "path starts at the experiment file.",
        )
    try:
        if path.suffix == ".safetensors":
            held = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError):
        raise FedmodelError(
            f"{path.name} cannot be read as a model: it is damaged, of another kind, or holds objects "
            "beside tensors",
            where=where,
            fix="Write it anew with safetensors or torch.save(module.state_dict(), path), or run the experiment "
            "that wrote it again.",
        ) from None
    if not isinstance(held, Mapping) or not all(isinstance(v, Tensor) for v in held.values()):
        raise FedmodelError(
            f"{path.name} holds more than named tensors, or none",
            where=where,
            fix="Save the state dict alone: torch.save(module.state_dict(), path).",
        )
    endless = [n for n, v in held.items() if v.is_floating_point() and not v.isfinite().all()]
    if endless:
        raise FedmodelError(
            f"{endless[0]} in {path.name} holds NaN or infinity",
            where=where,
            fix="It is of a run that diverged: take another one.",
        )
    return dict(held)


def put_in(module: nn.Module, parameters: Mapping[str, Tensor], *, where: str = WHERE) -> None:
    """Give a module these parameters and buffers.

    Raises:
        FedmodelError: one is missing, one too many, or of another shape.
    """
    own = module.state_dict()
    lacking = [name for name in own if name not in parameters]
    strange = [name for name in parameters if name not in own]
    if lacking:
        raise FedmodelError(
            f"the saved model has no {_some(lacking)}, which this model needs",
            where=where,
            fix=nearest(lacking[0], strange or parameters, what="it has")
            + " Use the model that was saved, or rename its parameters.",
        )
    if strange:
        raise FedmodelError(
            f"the saved model holds {_some(strange)}, which this model does not have",
            where=where,
            fix=f"Use the model that was saved. This one has: {', '.join(own)}.",
        )
    for name, value in own.items():
        if value.shape != parameters[name].shape:
            raise FedmodelError(
                f"{name} is {_shape(parameters[name])} in the saved model, and {_shape(value)} here",
                where=where,
                fix="Sizes follow from the options of the model, the encoded features and the classes "
                "of the data: use those that it was trained with. `[data] encoder` takes the encoder.json "
                "of its run.",
            )
    module.load_state_dict(parameters)


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
