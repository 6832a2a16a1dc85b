"""The clients of a cohort as one batch of rows: the model itself runs, on layers that know the clients.

Every layer without parameters sees an ordinary batch. The layers that hold trained parameters are
replaced by leaves (`fedmodel.cohort.leaves`) with views of the clients' vectors ``[K, d]``, and work
by batched products. Clipped sums take one forward and one backward pass (Li et al., ICLR 2022, Bu et
al., ICML 2023): norms first, from what each leaf was given and what came back, then rescaled sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fedmodel.cohort.clipping import ClippingStyle, record_factors
from fedmodel.cohort.cohort import Batch
from fedmodel.cohort.conversion import convert
from fedmodel.cohort.dropout import KeyedDropout
from fedmodel.cohort.leaves import NotStacked, Rows, Step
from fedmodel.cohort.leaves.uses import squared_norm
from fedmodel.cohort.model import FlatModel, as_logits
from fedmodel.cohort.precision import products

__all__ = ["NotStacked", "StackedModel"]

# When to leave out a batch's padding, at the price of going client by client: what one more call
# costs, against the arithmetic of the padding (measured on one core).
SECONDS_PER_CALL, FLOPS_PER_SECOND = 5e-6, 5e10
# Elements that the leaves give out in one pass: so many clients go together, on the CPU and elsewhere.
BATCH_ELEMENTS, DEVICE_ELEMENTS = 4 << 20, 64 << 20

Scale = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # squared norms of records to factors


class StackedModel:
    """A flat model made ready for clients side by side, for one thread at a time.

    It works on a copy; the module stays as it is.

    Raises:
        NotStacked: the module cannot be computed this way.
    """

    def __init__(self, model: FlatModel, example: Tensor, like: Tensor) -> None:
        self.names, self.shapes, self.counts = model.names, model.shapes, model.counts
        self.precision = model.precision
        self.step = Step(like)
        self.converted = convert(model, self.step, like)
        layers = self.converted.module.modules()
        self.dropouts = [layer for layer in layers if isinstance(layer, KeyedDropout)]
        # Of one record's forward pass: operations, and elements that the leaves give out.
        self.flops, self.elements = self._observe(example, like)

    def loss_sum_gradient(
        self,
        local: Float[Tensor, "K d"],
        batch: Batch,
        *,
        weight: Float[Tensor, " K"] | None = None,
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        """Gradient, times each client's `weight`, and value of the summed loss over its records."""
        gradient, loss = self._gradient(local, batch, None)
        return gradient if weight is None else gradient.mul_(weight[:, None]), loss

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
        total, loss = torch.empty_like(local), local.new_empty(len(local))
        most = BATCH_ELEMENTS if local.device.type == "cpu" else DEVICE_ELEMENTS
        segments = self._in_segments(batch)
        slots = int(batch.present.sum()) if segments else batch.present.numel()
        size = max(1, round(most * len(local) / max(1.0, self.elements * slots)))
        with _ordinary_attention(), products("float32", local.device):
            self.converted.follow()
            for first in range(0, len(local), size):
                some = slice(first, first + size)
                part = batch.part(some, slice(None))
                loss[some] = self._pass(
                    local[some].detach(), part, scale, segments=segments, out=total[some]
                )
        return total, loss

    def _pass(
        self,
        local: Float[Tensor, "k d"],
        batch: Batch,
        scale: Scale | None,
        *,
        segments: bool,
        out: Float[Tensor, "k d"],
    ) -> Float[Tensor, " k"]:
        """One forward and one backward pass of some clients: their gradients to `out`, their losses."""
        rows = Rows(batch.present, segments=segments)
        if not rows.number:
            out.zero_()
            return local.new_zeros(len(local))
        keys = rows.take(batch.keys)
        for layer in self.dropouts:
            layer.keys = keys
        try:
            with products(self.precision, local.device) as lower:
                parameters = self._views(local if lower is None else local.to(lower))
                totals = self._views(out)
                self.step.begin(rows, parameters, totals, keeps_uses=scale is not None)
                each = self._backward(rows, batch, local.dtype)
            losses = rows.sums(each)
            self.step.sum_up(None if scale is None else scale(self._squared_norms(losses)))
        finally:
            self.step.end()
            for layer in self.dropouts:
                layer.keys = None
        return losses

    def _backward(self, rows: Rows, batch: Batch, dtype: torch.dtype) -> Float[Tensor, " R"]:
        """Each record's loss; on the way every leaf notes its uses."""
        x, y = rows.take(batch.x), rows.take(batch.y)[:, None]
        with torch.enable_grad():
            self.converted.give_shared()
            answer = self.converted.module(x.to(dtype) if x.is_floating_point() else x)
            logits = as_logits(answer)
        if logits.dim() != 2 or len(logits) != rows.number:
            raise NotStacked(f"its answer has shape {tuple(logits.shape)}, not one row a record")
        log_probability = logits.detach().to(dtype).log_softmax(1)
        losses = log_probability.gather(1, y).squeeze(1).neg_()
        gradient = log_probability.exp_()
        gradient.scatter_add_(1, y, -torch.ones_like(y, dtype=dtype))
        if batch.weight is not None:
            gradient.mul_(rows.take(batch.weight)[:, None])
        if rows.block is not None:  # slots that are not present may hold anything
            absent = ~rows.take(batch.present)
            gradient.masked_fill_(absent[:, None], 0.0)
            losses.masked_fill_(absent, 0.0)
        torch.autograd.backward(logits, gradient.to(logits.dtype))
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
        if batch.present.device.type != "cpu":
            return False
        padding = batch.present.numel() - int(batch.present.sum())
        saved = 3 * padding * self.flops / FLOPS_PER_SECOND
        return saved > 3 * len(batch.present) * len(self.converted.leaves) * SECONDS_PER_CALL

    @torch.no_grad()
    def _observe(self, x: Tensor, like: Tensor) -> tuple[float, float]:
        """Show the module two records, then three, and tell each leaf what came: what has grown is
        where its rows are. The operations and elements a record takes."""
        leaves, x = self.converted.leaves, x.to(like) if x.is_floating_point() else x
        for holder, attribute, shared in self.converted.shared:
            holder._parameters[attribute] = shared.layer.get_parameter(attribute).to(like)
        shapes = []
        for rows in ([0, -1], [0, -1, 0]):  # the same records, in case lengths depend on them
            for leaf in leaves:
                leaf.shapes = []
            with _ordinary_attention(), FlopCounterMode(display=False) as counter:
                self.converted.module(x[rows])
            shapes.append([leaf.shapes for leaf in leaves])
        for leaf, two, three in zip(leaves, *shapes):
            leaf.shapes = None
            leaf.settle(two, three)
        return counter.get_total_flops() / 3, self.step.elements / 5


_ATTENTION = Lock()
_at_work = 0  # passes that go on now, in any thread
_enabled = True  # what to put back when the last of them is done


@contextmanager
def _ordinary_attention() -> Iterator[None]:
    """Without torch's fast path for inference, which reads the parameters past their layers."""
    global _at_work, _enabled
    with _ATTENTION:
        if not _at_work:
            _enabled = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _at_work += 1
    try:
        yield
    finally:
        with _ATTENTION:
            _at_work -= 1
            if not _at_work:
                torch.backends.mha.set_fastpath_enabled(_enabled)
