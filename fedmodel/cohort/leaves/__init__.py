"""Layers that hold each client's parameters, one module a family: which of them stands for which layer."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from fedmodel.cohort.leaves.attention import Attention
from fedmodel.cohort.leaves.convolution import Convolution
from fedmodel.cohort.leaves.embedding import Embedding
from fedmodel.cohort.leaves.leaf import Leaf
from fedmodel.cohort.leaves.linear import Linear
from fedmodel.cohort.leaves.norm import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from fedmodel.cohort.leaves.recurrent import Recurrent
from fedmodel.cohort.leaves.rows import Rows
from fedmodel.cohort.leaves.shared import Shared
from fedmodel.cohort.leaves.step import NotStacked, Step

__all__ = ["Leaf", "NotStacked", "Rows", "Shared", "Step", "leaf_kind"]

_KINDS: tuple[tuple[type[nn.Module], type[Leaf]], ...] = (
    (nn.Linear, Linear),
    (nn.Embedding, Embedding),
    (nn.Conv1d, Convolution),
    (nn.Conv2d, Convolution),
    (nn.Conv3d, Convolution),
    (nn.LayerNorm, LayerNorm),
    (nn.RMSNorm, RMSNorm),
    (nn.GroupNorm, GroupNorm),
    (nn.InstanceNorm1d, InstanceNorm),
    (nn.InstanceNorm2d, InstanceNorm),
    (nn.InstanceNorm3d, InstanceNorm),
    (nn.RNN, Recurrent),
    (nn.GRU, Recurrent),
    (nn.LSTM, Recurrent),
    (nn.MultiheadAttention, Attention),
)


def leaf_kind(layer: nn.Module) -> type[Leaf] | None:
    """The leaf that computes what this layer computes; None where there is none.

    A subclass counts as its parent as long as it inherits the computation. A layer with hooks or
    parametrised weights has none.
    """
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_hooks)
    if any(hooks) or is_parametrized(layer):
        return None
    for kind, leaf in _KINDS:
        if type(layer).forward is kind.forward and isinstance(layer, kind):
            return leaf
    return None
