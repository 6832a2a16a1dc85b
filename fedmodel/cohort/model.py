"""A model as one vector: what is trained, sent and aggregated is a row of d numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedmodel.cohort.dropout import KeyedDropout, with_keyed_dropout
from fedmodel.cohort.precision import Precision, products
from fedmodel.errors import FedmodelError

__all__ = ["FlatModel", "as_logits"]

_MIXES_RECORDS = (nn.modules.batchnorm._BatchNorm,)


class FlatModel:
    """An ordinary module whose trainable parameters are seen as one vector ``[d]``.

    Frozen parameters and buffers stay in the module, shared by all clients. Tied weights appear
    once. Dropout layers are replaced by keyed ones. Passes for gradients multiply in `precision`,
    predictions in float32. The module stays on the CPU; other devices get copies of what is shared.

    Raises:
        FedmodelError: the module mixes records (BatchNorm), or has nothing to train.
    """

    def __init__(self, module: nn.Module, *, precision: Precision = "float32") -> None:
        for name, layer in module.named_modules():
            if isinstance(layer, _MIXES_RECORDS):
                raise FedmodelError(
                    f"{type(layer).__name__} at {name or 'the top'!r} mixes the records of a batch: "
                    "no record's gradient is its own, and its running statistics leave the client",
                    where="[model]",
                    fix="Use GroupNorm or LayerNorm instead.",
                )
        self.module, self.precision = with_keyed_dropout(module), precision
        self.has_dropout = any(isinstance(layer, KeyedDropout) for layer in module.modules())
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise FedmodelError(
                f"{type(module).__name__} has no trainable parameter",
                where="[model]",
                fix="At least one parameter needs requires_grad = True.",
            )
        self.names = tuple(trained)
        self.shapes = tuple(tuple(p.shape) for p in trained.values())
        self.counts = tuple(prod(shape) for shape in self.shapes)
        self.initial = torch.cat([p.detach().reshape(-1).float() for p in trained.values()])

    @property
    def size(self) -> int:
        """Number of trained parameters, d."""
        return len(self.initial)

    def split(self, vector: Float[Tensor, "*batch d"]) -> dict[str, Tensor]:
        """The named parameters as views of a vector, or of a stack of vectors."""
        parts = vector.split(self.counts, dim=-1)
        return {
            name: part.view(*vector.shape[:-1], *shape)
            for name, part, shape in zip(self.names, parts, self.shapes)
        }

    def join(self, parameters: Mapping[str, Tensor]) -> Float[Tensor, " d"]:
        """The vector of named parameters; the inverse of `split`.

        Raises:
            KeyError: a parameter is missing.
        """
        return torch.cat([parameters[name].reshape(-1).float() for name in self.names])

    def logits(self, parameters: Mapping[str, Tensor], x: Tensor) -> Float[Tensor, "B C"]:
        """The module's answer with these parameters; a single output counts as the logit of class 1."""
        everything = {**self.shared(x.device), **parameters}
        return as_logits(torch.func.functional_call(self.module, everything, (x,)))

    def shared(self, device: torch.device) -> dict[str, Tensor]:
        """What is not trained, where the module itself does not have it: copied once to a device."""
        if device.type == "cpu":
            return {}
        copies = self.__dict__.setdefault("_copies", {})
        if device not in copies:
            held = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
            rest = {name: value for name, value in held.items() if name not in self.names}
            copies[device] = {name: value.detach().to(device) for name, value in rest.items()}
        return copies[device]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copies"}

    def state_dict(self, vector: Float[Tensor, " d"]) -> dict[str, Tensor]:
        """Everything that `module.load_state_dict` needs, with these parameters."""
        state = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        split = self.split(vector)
        for name, tied in self.module.named_parameters(remove_duplicate=False):
            for own in self.names:
                if tied is self.module.get_parameter(own):
                    state[name] = split[own].detach().clone()
        return state

    @torch.no_grad()
    def predict(
        self, vector: Float[Tensor, " d"], x: Tensor, *, chunk: int = 8192
    ) -> Float[Tensor, "N C"]:
        """Logits of many records with one parameter vector, on its device."""
        parameters = self.split(vector)
        training = self.module.training
        self.module.eval()
        try:
            with products("float32", vector.device):
                answers = [
                    self.logits(parameters, part.to(vector.device)) for part in x.split(chunk)
                ]
            return torch.cat(answers)
        finally:
            self.module.train(training)


def as_logits(answer: Any) -> Float[Tensor, "B C"]:
    """A module's answer as a logit a class; a single output counts as the logit of class 1."""
    answer = getattr(answer, "logits", answer)  # a Hugging Face output
    if answer.dim() == 1:
        answer = answer[:, None]
    if answer.shape[-1] == 1:
        answer = torch.cat([torch.zeros_like(answer), answer], dim=-1)
    return answer
