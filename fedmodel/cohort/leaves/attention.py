"""Attention with several heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.linear import Linear
from fedmodel.cohort.leaves.step import NotStacked, Step

__all__ = ["Attention"]


class Attention(Leaf):
    """nn.MultiheadAttention (Vaswani et al. 2017): the projections are leaves, the rest is ordinary."""

    def __init__(self, layer: nn.MultiheadAttention, step: Step, names: Mapping[str, str]) -> None:
        if layer.bias_k is not None or layer.add_zero_attn:
            raise NotStacked("it attends to a further key (add_bias_kv, add_zero_attn)")
        if not layer._qkv_same_embed_dim:
            raise NotStacked("its keys or values have a width of their own (kdim, vdim)")
        if layer.dropout:
            raise NotStacked("it drops attention weights")
        super().__init__(layer, step, names)
        self.own_row_dim = 0 if layer.batch_first else 1
        self.project_in = Linear(layer, step, names, weight="in_proj_weight", bias="in_proj_bias")
        self.project_out = Linear(
            layer, step, names, weight="out_proj.weight", bias="out_proj.bias"
        )

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if self.shapes is not None:
            masks = key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            return self.observe(query.shape, query, key, value, *masks)
        if is_causal and attn_mask is None:
            raise NotStacked("is_causal is a hint about a mask, and there is none")
        q, k, v = self.projected(query, key, value)
        # As in torch: a causal mask goes by its name where nothing is to be added to it.
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self.mask(attn_mask, key_padding_mask, q, k)
        weights = None
        if need_weights:
            scores = (q / q.shape[-1] ** 0.5) @ k.mT
            weights = (scores if mask is None else scores + mask).softmax(-1)
            y = weights @ v
        else:
            y = scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
        y = self.leave(self.project_out.answer(y.transpose(1, 2).flatten(2)))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        return y, weights

    def projected(
        self, query: Tensor, key: Tensor, value: Tensor
    ) -> list[Float[Tensor, "R h T n"]]:
        """Queries, keys and values by head. Each of them that has its own input projects it anew."""
        shares: dict[int, tuple[Tensor, ...]] = {}
        for x in (query, key, value):
            if id(x) not in shares:
                shares[id(x)] = self.project_in.answer(self.enter(x)).chunk(3, -1)
        parts = [shares[id(x)][place] for place, x in enumerate((query, key, value))]
        return [x.unflatten(-1, (self.layer.num_heads, -1)).transpose(1, 2) for x in parts]

    def mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor
    ) -> Float[Tensor, " #R #h #T S"] | None:
        """What is added to the scores: minus infinity where a mask of booleans is true."""
        added = None
        if attn_mask is not None:
            added = _additive(attn_mask, q.dtype)
            shape = (1, 1) if attn_mask.dim() == 2 else (len(q), q.shape[1])
            added = added.view(*shape, q.shape[2], k.shape[2])
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, q.dtype).view(len(k), 1, 1, k.shape[2])
            added = padding if added is None else added + padding
        return added


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -torch.inf)
