"""In which precision the passes of a model multiply. Parameters, norms and clipped sums stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch

__all__ = ["Precision", "exact", "products", "unsupported"]

Precision = Literal["float32", "tf32", "bf16"]

_exact: ContextVar[bool] = ContextVar("exact", default=False)


@contextmanager
def exact() -> Iterator[None]:
    """Within it, everything is computed in float32, whatever a model asks for: to check its structure."""
    before = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(before)


@contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[torch.dtype | None]:
    """Within it, forward and backward passes multiply so; gives the dtype to lower parameters to, if any.

    - ``float32``: with all 24 bits. A GPU would otherwise take fewer for convolutions.
    - ``tf32``: float32 whose factors are rounded to 11 bits (NVIDIA GPUs since Ampere); sums are float32.
    - ``bf16``: factors and results rounded to 8 bits, sums are float32; what is sensitive to rounding
      (softmax, norms) stays float32, as `torch.autocast` has it (Micikevicius et al., ICLR 2018).

    The flags for tf32 are those of the whole process: one thread a process trains on a GPU.
    """
    if _exact.get():
        precision = "float32"
    with _tf32(precision == "tf32", device):
        if precision != "bf16":
            yield None
            return
        # The cache of lowered parameters would outlive `torch.func`'s transformations.
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
            yield torch.bfloat16


def unsupported(precision: Precision, device: str) -> str:
    """Why there is no use in a precision on a device; "" if there is."""
    cpu = device == "cpu"
    if precision == "tf32":
        if cpu:
            return "tf32 is a mode of NVIDIA GPUs, and the device is the CPU"
        if torch.cuda.get_device_capability(device)[0] < 8:
            return "this GPU is older than tf32"
    if precision == "bf16":
        if cpu and not _cpu_multiplies_bf16():
            return "this CPU has no instructions for bf16: it would be slower than float32"
        if not cpu and not torch.cuda.is_bf16_supported(including_emulation=False):
            return "this GPU has no bf16"
    return ""


def _cpu_multiplies_bf16() -> bool:
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def _tf32(allowed: bool, device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    places: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before):
            place.fp32_precision = value
