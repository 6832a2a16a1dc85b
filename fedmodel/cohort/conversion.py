"""From a module to the same module on leaves, which give each row its client's parameters."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fedmodel.cohort.leaves import Leaf, NotStacked, Shared, Step, leaf_kind
from fedmodel.cohort.model import FlatModel

__all__ = ["Converted", "convert"]


@dataclass(frozen=True)
class Converted:
    """A copy of a module that computes with the parameters of a step."""

    module: nn.Module
    leaves: list[Leaf]  # in place of layers
    shared: list[tuple[nn.Module, str, Shared]]  # in place of parameters: the holder, the attribute
    pairs: list[tuple[nn.Module, nn.Module]]  # each layer that is no leaf, and its original

    def follow(self) -> None:
        """Train or evaluate as the original does."""
        for copy, original in self.pairs:
            if copy.training != original.training:
                copy.training = original.training

    def give_shared(self) -> None:
        """Put each row's copy of the shared parameters in their place, for one pass."""
        for holder, attribute, shared in self.shared:
            holder._parameters[attribute] = shared.give()  # type: ignore[assignment]


def convert(model: FlatModel, step: Step, like: Tensor) -> Converted:
    """Copy the module, with leaves for the layers that hold trained parameters.

    Frozen parameters and buffers are shared with the original, cast to the dtype and device of
    `like` if need be. Layers that are one object in the original are one leaf.

    Raises:
        NotStacked: a trained parameter has no leaf; its holder is named.
    """
    module = model.module
    trained = {id(module.get_parameter(name)): name for name in model.names}
    copies: dict[int, Any] = {}  # what stands for an object of the original, by its identity
    for tensor in (*module.parameters(), *module.buffers()):
        if id(tensor) in trained:
            copies[id(tensor)] = _Elsewhere()
        else:
            floating = tensor.is_floating_point()
            copies[id(tensor)] = tensor.to(like) if floating else tensor.to(like.device)
    leaves, shared, inside = [], [], set()
    for name, layer in module.named_modules():
        held = dict(layer.named_parameters(remove_duplicate=False))
        names = {n: trained[id(p)] for n, p in held.items() if id(p) in trained}
        kind = leaf_kind(layer)
        if layer in inside or not names:
            continue
        place = f"{type(layer).__name__} at {name or 'the top'!r}"
        if kind is not None:
            try:
                leaf = copies[id(layer)] = kind(layer, step, names)
            except NotStacked as reason:
                raise NotStacked(f"{place}: {reason}") from None
            leaves.append(leaf)
            inside.update(layer.modules())
            continue
        for attribute in [n for n in names if n in layer._parameters]:
            if held[attribute].dim() < 2 or len(held[attribute]) != 1:
                raise NotStacked(f"{place} computes with a parameter of its own, {attribute}")
            shared.append((layer, attribute, Shared(layer, step, {attribute: names[attribute]})))
    copy = deepcopy(module, copies)
    return Converted(
        copy,
        leaves,
        [(copies[id(holder)], attribute, leaf) for holder, attribute, leaf in shared],
        [(copies[id(own)], own) for own in module.modules() if own not in inside],
    )


class _Elsewhere:
    """In place of a trained parameter, for all who would compute with it outside of its layer."""

    def __getattr__(self, attribute: str) -> Any:
        raise NotStacked("a trained parameter is used outside of its layer")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, values: Any = (), options: Any = None):
        raise NotStacked(f"a trained parameter is used outside of its layer, by {function}")
