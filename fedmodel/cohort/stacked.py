"""The clients of a cohort as one batch of rows: the model itself runs, on layers that know the clients.

Every layer without parameters sees an ordinary batch. The layers that hold trained parameters are
replaced by leaves (`fedmodel.cohort.leaves`) with views of the clients' vectors ``[K, d]``, and work
by batched products. Clipped sums take one forward and one backward pass (Li et al., ICLR 2022, Bu et
al., ICML 2023): norms first, from what each leaf was given and what came back, then rescaled sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fedmodel.cohort.clipping import ClippingStyle, record_factors
from fedmodel.cohort.cohort import Batch
from fedmodel.cohort.dropout import KeyedDropout
from fedmodel.cohort.leaves import Leaf, NotStacked, Rows, Step, leaf_kind
from fedmodel.cohort.leaves.uses import squared_norm
from fedmodel.cohort.model import FlatModel, as_logits

__all__ = ["NotStacked", "StackedModel"]

# When to leave out a batch's padding, at the price of going client by client: what one more call
# costs, against the arithmetic of the padding (measured on one core).
SECONDS_PER_CALL, FLOPS_PER_SECOND = 5e-6, 5e10
# Elements that the leaves give out in one pass: so many clients go together.
BATCH_ELEMENTS = 64 << 20

Scale = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # squared norms of records to factors


class StackedModel:
    """A flat model made ready for clients side by side. It works on a copy; the module stays as it is.

    Raises:
        NotStacked: the module cannot be computed this way.
    """

    def __init__(self, model: FlatModel, example: Tensor, like: Tensor) -> None:
        self.names, self.shapes, self.counts = model.names, model.shapes, model.counts
        self.step = Step(like)
        self.leaves: list[Leaf] = []
        self.module, self.pairs = self._converted(model, like)
        self.dropouts = [m for m in self.module.modules() if isinstance(m, KeyedDropout)]
        # Of one record's forward pass: operations, and elements that the leaves give out.
        self.flops, self.elements = self._observe(example, like)
        self.lock = Lock()

    def loss_sum_gradient(
        self, local: Float[Tensor, "K d"], batch: Batch
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        """Gradient and value of each client's summed loss over its records in the batch."""
        return self._gradient(local, batch, None)

    def clipped_gradient_sum(
        self,
        local: Float[Tensor, "K d"],
        batch: Batch,
        *,
        clip: float,
        style: ClippingStyle = "flat",
    ) -> Float[Tensor, "K d"]:
        """Sum over a client's records of the gradient, each scaled to the bound."""
        return self._gradient(local, batch, partial(record_factors, clip=clip, style=style))[0]

    @torch.no_grad()
    def _gradient(
        self, local: Tensor, batch: Batch, scale: Scale | None
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        total, loss = torch.zeros_like(local), local.new_zeros(len(local))
        size = max(1, BATCH_ELEMENTS // max(1, int(self.elements * batch.y.shape[1])))
        with self.lock:
            for own, original in self.pairs:
                if own.training != original.training:
                    own.training = original.training
            for first in range(0, len(local), size):
                some = slice(first, first + size)
                part = batch.part(some, slice(None))
                self._pass(local[some].detach(), part, total[some], loss[some], scale)
        return total, loss

    def _pass(
        self, local: Tensor, batch: Batch, total: Tensor, loss: Tensor, scale: Scale | None
    ) -> None:
        """One forward and one backward pass; gradients and losses are added to the totals."""
        rows = Rows(batch.present, segments=self._in_segments(batch))
        if not rows.number:
            return
        keys = rows.take(batch.keys)
        for layer in self.dropouts:
            layer.keys = keys
        self.step.begin(rows, self._views(local), self._views(total), keeps_uses=scale is not None)
        try:
            rows.add_rows(loss, self._backward(rows, batch, local.dtype))
            self.step.sum_up(None if scale is None else scale(self._squared_norms(loss)))
        finally:
            self.step.clear()
            for layer in self.dropouts:
                layer.keys = None

    def _backward(self, rows: Rows, batch: Batch, dtype: torch.dtype) -> Float[Tensor, " R"]:
        """Each record's loss; on the way every leaf notes its uses."""
        x, y = rows.take(batch.x), rows.take(batch.y)[:, None]
        with _ordinary_attention(), torch.enable_grad():
            logits = as_logits(self.module(x.to(dtype) if x.is_floating_point() else x))
        if logits.dim() != 2 or len(logits) != rows.number:
            raise NotStacked(f"its answer has shape {tuple(logits.shape)}, not one row a record")
        log_probability = logits.detach().log_softmax(1)
        losses = log_probability.gather(1, y).squeeze(1).neg_()
        gradient = log_probability.exp_()
        gradient.scatter_add_(1, y, -torch.ones_like(y, dtype=dtype))
        if rows.block is not None:  # slots that are not present may hold anything
            absent = ~rows.take(batch.present)
            gradient.masked_fill_(absent[:, None], 0.0)
            losses.masked_fill_(absent, 0.0)
        torch.autograd.backward(logits, gradient)
        return losses

    def _squared_norms(self, like: Tensor) -> dict[str, Float[Tensor, " R"]]:
        uses, none = self.step.uses, like.new_zeros(self.step.rows.number)
        return {name: squared_norm(uses[name]) if name in uses else none for name in self.names}

    def _views(self, vectors: Float[Tensor, "K d"]) -> dict[str, Float[Tensor, "K ..."]]:
        parts = vectors.split(self.counts, dim=1)
        return {
            name: part.view(len(vectors), *shape)
            for name, part, shape in zip(self.names, parts, self.shapes)
        }

    def _in_segments(self, batch: Batch) -> bool:
        """Whether leaving out the padding saves more than going client by client costs."""
        padding = batch.present.numel() - int(batch.present.sum())
        saved = 3 * padding * self.flops / FLOPS_PER_SECOND
        return saved > 3 * len(batch.present) * len(self.leaves) * SECONDS_PER_CALL

    # Conversion

    def _converted(
        self, model: FlatModel, like: Tensor
    ) -> tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]:
        """A copy of the module with leaves for the layers that are trained; all else is shared."""
        trained = {id(model.module.get_parameter(name)): name for name in self.names}
        memo: dict[int, Any] = {}
        inside: set[nn.Module] = set()
        for name, layer in model.module.named_modules():
            if layer in inside:
                continue
            own = {n: trained[id(p)] for n, p in layer.named_parameters() if id(p) in trained}
            kind = leaf_kind(layer)
            if own and kind is not None:
                try:
                    leaf = memo[id(layer)] = kind(layer, self.step, own)
                except NotStacked as reason:
                    raise NotStacked(f"{type(layer).__name__} at {name!r}: {reason}") from None
                self.leaves.append(leaf)
                inside.update(layer.modules())
            elif any(id(p) in trained for p in layer.parameters(recurse=False)):
                raise NotStacked(f"{type(layer).__name__} at {name!r} holds parameters of its own")
        for tensor in (*model.module.parameters(), *model.module.buffers()):
            if id(tensor) in trained:
                memo[id(tensor)] = _Elsewhere(trained[id(tensor)])
            else:
                memo[id(tensor)] = (
                    tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)
                )
        module = deepcopy(model.module, memo)
        kept = [layer for layer in model.module.modules() if layer not in inside]
        return module, [(memo[id(layer)], layer) for layer in kept]

    @torch.no_grad()
    def _observe(self, x: Tensor, like: Tensor) -> tuple[float, float]:
        """Show the module two records, then three, and tell each leaf what came: what has grown is
        where its rows are. The operations and elements a record takes."""
        x = x.to(like) if x.is_floating_point() else x
        shapes = []
        for rows in ([0, -1], [0, -1, 0]):  # the same records, in case lengths depend on them
            for leaf in self.leaves:
                leaf.shapes = []
            with _ordinary_attention(), FlopCounterMode(display=False) as counter:
                self.module(x[rows])
            shapes.append([leaf.shapes for leaf in self.leaves])
        for leaf, two, three in zip(self.leaves, *shapes):
            leaf.shapes = None
            leaf.settle(two, three)
        return counter.get_total_flops() / 3, self.step.elements / 5


class _Elsewhere:
    """In place of a trained parameter that something besides its layer refers to."""

    def __init__(self, name: str) -> None:
        self.__dict__["name"] = name

    def __getattr__(self, attribute: str) -> Any:
        raise NotStacked(f"{self.name} is used outside of its layer")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        raise NotStacked(
            f"a trained parameter is used outside of its layer, in {function.__name__}"
        )


@contextmanager
def _ordinary_attention() -> Iterator[None]:
    """Without torch's fast path for inference, which reads the parameters past their layers."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
