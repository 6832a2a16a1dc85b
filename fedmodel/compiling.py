"""Loops over arrays as machine code, by numba, on several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from inspect import getsource, unwrap
from itertools import pairwise
from types import ModuleType
from typing import Any
from zlib import crc32

from numba import njit

__all__ = ["compiled", "in_threads", "inlined"]

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}  # no branch for a division by zero


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of compiled loops, to be written out where it is called."""
    return njit(unwrap(function), forceinline=True, **_OPTIONS)  # without a type checker


def compiled(
    loop: Callable[..., None] | None = None,
    *,
    reorder: bool = False,
    parts: tuple[ModuleType, ...] = (),
) -> Any:
    """Compile at the first call, for this machine's widest vectors; keep the code on disk; let other
    threads run meanwhile.

    With `reorder` sums may be formed in another order than written, so that they fill the vectors:
    the last bits can then differ from one kind of processor to another. `parts` are modules whose
    functions it calls: the code on disk is of no use once they change.
    """
    if loop is None:
        return partial(compiled, reorder=reorder, parts=parts)
    options = {**_OPTIONS, "nogil": True, "fastmath": {"reassoc", "contract"} if reorder else False}
    loop = unwrap(loop)
    if parts:  # numba looks at the loop's own file alone, and names what it keeps by this
        loop.__qualname__ += f"-{_digest(parts):x}"
    try:
        return njit(loop, cache=True, **options)
    except RuntimeError:  # there is no directory it may write to: each process compiles for itself
        return njit(loop, **options)


@cache
def _digest(parts: tuple[ModuleType, ...]) -> int:
    return crc32("".join(map(getsource, parts)).encode())


def in_threads(work: Callable[[slice], None], number: int, threads: int) -> None:
    """Call `work` with slices that make up ``range(number)``, each on a thread of its own.

    Of use where the work is compiled loops, which let other threads run. The first slice is for the
    thread that calls.
    """
    edges = [number * part // threads for part in range(threads + 1)]
    slices = [slice(a, b) for a, b in pairwise(edges) if a < b]
    others = [_pool(threads).submit(work, some) for some in slices[1:]]
    for some in slices[:1]:
        work(some)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fedmodel-loops")
