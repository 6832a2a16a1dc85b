"""A layer that holds another set of parameters for each client, in a batch of rows of all clients."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedmodel.cohort.leaves.rows import Rows
from fedmodel.cohort.leaves.step import NotStacked, Step
from fedmodel.cohort.leaves.uses import Use

__all__ = ["Leaf"]


class Leaf(nn.Module):
    """Stands in for a layer. A kind of layer says what comes out (`value`) and what goes back (`pull`).

    `names` maps those of the layer's parameters that are trained to their names in the model.

    Raises:
        NotStacked: the layer has an option that is not covered.
    """

    own_row_dim: int | None = None  # where the layer itself looks for rows, if it minds

    def __init__(self, layer: nn.Module, step: Step, names: Mapping[str, str]) -> None:
        super().__init__()
        self.anchor = step.anchor  # tells dtype and device to who asks a module's parameters
        self.__dict__.update(layer=layer, step=step, names=names)  # the layer is not a child
        self.held = {name for name, _ in layer.named_parameters(remove_duplicate=False)}
        self.copies: dict[Any, Tensor] = {}  # of frozen parameters
        self.row_dim: int | None = 0
        self.shapes: list[torch.Size] | None = None  # of what came, while being shown records

    def value(self, x: Tensor) -> Tensor:
        """The layer's answer, in memory of its own (a view could not be changed in place)."""
        raise NotImplementedError

    def pull(self, g: Tensor, x: Tensor, *, wanted: bool) -> Tensor | None:
        """Note the uses of the parameters; the gradient of `x`, if it is wanted."""
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        if self.shapes is not None:
            return self.observe(x.shape, x)
        return self.leave(self.answer(self.enter(x)))

    def answer(self, x: Tensor) -> Tensor:
        """The layer's answer where rows are in front, part of autograd's graph."""
        return _Answer.apply(self, self.lowered(x), self.step.anchor)

    def lowered(self, x: Tensor) -> Tensor:
        """In the precision of the step's parameters, whatever came."""
        return x.to(self.step.dtype) if x.is_floating_point() else x

    # Where the rows are

    def observe(self, shape: torch.Size, *inputs: Any, **options: Any) -> Any:
        """The ordinary layer's answer; the shape of what came is remembered."""
        self.shapes = [*(self.shapes or []), shape]
        layer, own = self.layer, next(self.layer.parameters())
        if (own.dtype, own.device) != (self.anchor.dtype, self.anchor.device):
            layer = deepcopy(layer).to(self.anchor)
        answer = layer(*inputs, **options)
        self.step.elements += (answer[0] if isinstance(answer, tuple) else answer).data.numel()
        return answer

    def settle(self, two: list[torch.Size], three: list[torch.Size]) -> None:
        """Learn where the rows are from the shapes that came with two of them, and with three."""
        found = {_row_dim(a, b) for a, b in zip(two, three)}
        if len(two) != len(three) or len(found) > 1:
            raise NotStacked(f"{self.title} meets its records now here, now there")
        self.row_dim = found.pop() if found else 0
        if self.own_row_dim is not None and self.row_dim != self.own_row_dim:
            raise NotStacked(f"{self.title} meets its records in dimension {self.row_dim}")

    def enter(self, x: Tensor) -> Tensor:
        """Bring the rows to the front. What all records share, such as positions, becomes a row's own."""
        rows = self.rows.number
        if self.row_dim is None:
            x = x if x.dim() > 1 and len(x) == 1 else x[None]
            return x.expand(rows, *x.shape[1:])
        if x.dim() <= self.row_dim or x.shape[self.row_dim] % rows:
            raise NotStacked(f"{self.title} meets a batch of another shape than before")
        return x.movedim(self.row_dim, 0) if self.row_dim else x

    def leave(self, y: Tensor) -> Tensor:
        """Bring the rows back to where they were."""
        return y.movedim(0, self.row_dim) if self.row_dim else y

    # The layer's parameters

    @property
    def rows(self) -> Rows:
        return self.step.rows

    @property
    def title(self) -> str:
        return type(self.layer).__name__

    def parameter(self, name: str) -> Float[Tensor, "K ..."]:
        """Each client's own; where it is frozen, the same for all."""
        if name in self.names:
            return self.step.parameters[self.names[name]]
        shared = self.frozen(name)
        return shared.expand(self.rows.num_clients, *shared.shape)

    def frozen(self, name: str) -> Tensor:
        """A parameter that is not trained; copied once where it is elsewhere, or of another precision."""
        own, place = self.layer.get_parameter(name).detach(), (self.anchor.device, self.step.dtype)
        if (own.device, own.dtype) == place:
            return own
        if (name, place) not in self.copies:
            self.copies[name, place] = own.to(*place)
        return self.copies[name, place]

    def optional(self, name: str) -> Float[Tensor, "K ..."] | None:
        """The same, or None where the layer has no such parameter."""
        return self.parameter(name) if name in self.held else None

    def note(self, name: str, use: Use, *, again: bool = False) -> None:
        """A use of a parameter, if it is trained."""
        if name in self.names:
            self.step.note(self.names[name], use, again=again)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "layer" not in self.__dict__:
                raise
        # The layer's options may be read; its parameters are no longer those of one model.
        value = getattr(self.layer, name)
        if isinstance(value, Tensor):
            raise NotStacked(f"{self.title} is asked for its {name}, and each client has another")
        return value


class _Answer(torch.autograd.Function):
    """A leaf in autograd's graph. The parameters are no inputs: their gradients go to the step."""

    @staticmethod
    def forward(ctx: Any, leaf: Leaf, x: Tensor, anchor: Tensor) -> Tensor:
        ctx.leaf = leaf
        ctx.save_for_backward(x)
        return leaf.value(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor | None, None]:
        (g,), (x,) = gradients, ctx.saved_tensors
        return None, ctx.leaf.pull(g, x.detach(), wanted=ctx.needs_input_grad[1]), None


def _row_dim(two: torch.Size, three: torch.Size) -> int | None:
    """The dimension that grows with the rows; None where all records share what came."""
    grown = [dim for dim, (a, b) in enumerate(zip(two, three)) if a != b]
    if not grown:
        return None
    if len(grown) > 1 or two[grown[0]] * 3 != three[grown[0]] * 2:
        raise NotStacked(f"shapes {tuple(two)} and {tuple(three)} with two and with three records")
    return grown[0]
