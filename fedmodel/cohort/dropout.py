"""Dropout whose masks belong to records: the same wherever, and beside whomever, a record is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from fedmodel.errors import FedmodelError
from fedmodel.randomness import hash_uniforms

__all__ = ["KeyedDropout", "dropout_keys", "with_keyed_dropout"]

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class KeyedDropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) that draws a record's mask from the record's key.

    Without keys (evaluation) it passes its input on. `layer` sets the layers of a model apart.
    """

    def __init__(self, probability: float, *, layer: int, shared_dims: int = 0) -> None:
        super().__init__()
        self.probability, self.shared_dims = probability, shared_dims
        offset = layer * 0x9E3779B97F4A7C15 % 2**64  # far apart, as a signed 64-bit number
        self.offset = offset - 2**64 if offset >= 2**63 else offset
        self.keys: Tensor | None = None

    @property
    def p(self) -> float:
        """Zero, for modules that ask their dropout layer for its probability and drop by themselves.

        Raises:
            FedmodelError: it is not zero; their masks would come from torch's global stream.
        """
        if self.probability > 0:
            raise FedmodelError(
                f"a layer drops with the probability {self.probability} of its dropout layer, from a "
                "stream that is not reproducible",
                where="[model]",
                fix="Set that probability to 0: for Hugging Face models, "
                "attention_probs_dropout_prob (or attention_dropout) of the configuration.",
            )
        return 0.0

    def forward(self, x: Tensor) -> Tensor:  # [B, ...] with keys [B]
        if self.keys is None or self.probability == 0.0:
            return x
        kept_dims = x.shape[1 : x.dim() - self.shared_dims]
        count = kept_dims.numel()
        drawn = hash_uniforms(self.keys + self.offset, count)
        mask = drawn.view(len(x), *kept_dims, *(1,) * self.shared_dims) >= self.probability
        return x * mask / (1.0 - self.probability)


def with_keyed_dropout(module: nn.Module) -> nn.Module:
    """Replace the dropout layers of a module, in place, and refuse dropout that has no layer.

    Raises:
        FedmodelError: a layer that draws masks from torch's global stream.
    """
    found = 0
    for parent_name, parent in list(module.named_modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _DROPOUT):
                # Dropout1d and its kin drop whole channels: one value for all positions of a channel.
                shared = {nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}.get(type(child), 0)
                found += 1
                setattr(parent, name, KeyedDropout(child.p, layer=found, shared_dims=shared))
        inner = getattr(parent, "dropout", None)
        if isinstance(inner, float) and inner > 0:
            raise FedmodelError(
                f"{type(parent).__name__} at {parent_name or 'the top'!r} drops with probability "
                f"{inner} inside itself, from a stream that is not reproducible",
                where="[model]",
                fix="Set its dropout to 0 and put an nn.Dropout layer after it.",
            )
    return module


@contextmanager
def dropout_keys(module: nn.Module, keys: Tensor | None) -> Iterator[None]:
    """Within it, the module's dropout layers draw the masks of these records (keys `[B]`)."""
    layers = [layer for layer in module.modules() if isinstance(layer, KeyedDropout)]
    for layer in layers:
        layer.keys = keys
    try:
        yield
    finally:
        for layer in layers:
            layer.keys = None
