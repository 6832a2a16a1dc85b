"""Loops over arrays as machine code, by numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import unwrap
from typing import Any

from numba import njit

__all__ = ["compiled", "inlined"]

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}  # no branch for a division by zero


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of compiled loops, to be written out where it is called."""
    return njit(unwrap(function), forceinline=True, **_OPTIONS)  # without a type checker


def compiled(loop: Callable[..., None] | None = None, *, reorder: bool = False) -> Any:
    """Compile at the first call, for this machine's widest vectors; keep the code on disk; let other
    threads run meanwhile.

    With `reorder` sums may be formed in another order than written, so that they fill the vectors:
    the last bits can then differ from one kind of processor to another.
    """
    if loop is None:
        return partial(compiled, reorder=reorder)
    options = {**_OPTIONS, "nogil": True, "fastmath": {"reassoc", "contract"} if reorder else False}
    try:
        return njit(unwrap(loop), cache=True, **options)
    except RuntimeError:  # there is no directory it may write to: each process compiles for itself
        return njit(unwrap(loop), **options)
