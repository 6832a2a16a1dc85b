"""A device that is not there: tensors on the CPU that say they lie on "meta" and refuse CPU company.

As on a GPU, an operation on tensors of both devices raises, and values come back only by `.cpu()`
and `.item()`. So code that forgets to move a tensor fails here, without a GPU.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXED = (torch.ops.aten.index.Tensor,)  # takes indices of the CPU, as CUDA does


class Elsewhere(torch.Tensor):
    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, values=(), options=None):
        return _answer(function, values, options or {})


class _Everywhere(TorchDispatchMode):
    """Also for operations that make tensors, and take none of that device."""

    def __torch_dispatch__(self, function, types, values=(), options=None):
        return _answer(function, values, options or {})


class _Literals(TorchFunctionMode):
    """Tensors of lists, whose numbers torch itself would not keep for "meta"."""

    def __torch_function__(self, function, types, values=(), options=None):
        options = options or {}
        if function is torch.tensor and "device" in options:
            device = options.pop("device")
            return torch.tensor(*values, **options).to(device)
        if function is torch.Tensor.__getitem__:
            place = values[1] if isinstance(values[1], tuple) else (values[1],)
            place = tuple(torch.tensor(x) if isinstance(x, list) else x for x in place)
            return function(values[0], place)
        return function(*values, **options)


def _answer(function, values, options):
    given = [x for x in tree_leaves((values, options)) if isinstance(x, torch.Tensor)]
    there = [x for x in given if isinstance(x, Elsewhere)]
    here = [x for x in given if not isinstance(x, Elsewhere) and x.dim() > 0]
    if there and here and function not in (*MOVES, *INDEXED):
        raise RuntimeError(f"{function}: tensors on two devices")
    asked = options.get("device")
    away = bool(there) if asked is None else torch.device(asked) == DEVICE
    options = {**options, "device": "cpu"} if asked is not None else options
    values, options = tree_map(_held, (values, options))
    made = function(*values, **options)
    if function._schema.is_mutable:  # what was changed is what was given
        outs = [x for x in given if any(x is y or _held(x) is y for y in tree_leaves(made))]
        if outs and isinstance(made, torch.Tensor):
            return outs[0] if isinstance(outs[0], Elsewhere) else made
    return tree_map(lambda x: Elsewhere(x) if away and isinstance(x, torch.Tensor) else x, made)


def _held(value):
    return value.held if isinstance(value, Elsewhere) else value


@contextmanager
def elsewhere():
    with _Literals(), _Everywhere():
        yield str(DEVICE)
