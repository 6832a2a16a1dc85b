"""What this process takes of the machine: memory that is freed and asked for again, and cores."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["available_cores", "keep_freed_memory", "processor_threads"]

# Numbers of malloc.h and the values to set: mmap threshold (32 MiB is the most that glibc takes),
# trim threshold, one arena for all threads (others cannot keep large blocks).
_OPTIONS = {-3: 32 << 20, -1: 2**31 - 1, -8: 1}
_TOP_PAD, _PAD = -2, 64 << 20  # what the heap grows by at least
_RESERVED = 1 << 30  # address space, which takes memory only as it is written to
_MADV_HUGEPAGE = 14  # mman.h


@cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next step, in huge pages.

    glibc returns large blocks to the system when they are freed, and the system clears every page
    before it gives it out again: a tenth of a private step of a small convolutional model (measured).
    And what a step of a larger model writes lies on more pages of 4 KiB than a processor remembers: a
    step of a Transformer takes two thirds of the time in pages of 2 MiB (measured). So call it early,
    before the memory is in use. After it the process holds on to the most it ever used, and asks for
    64 MiB at a time.

    It lasts until the process ends; a second call does nothing. Tells whether the C library took all
    settings; False on other systems, where nothing happens.

    mallopt(3), madvise(2) of the Linux manual.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL("libc.so.6")
    taken = [library.mallopt(option, value) == 1 for option, value in _OPTIONS.items()]
    taken.append(library.mallopt(_TOP_PAD, _RESERVED) == 1)
    _grow_in_huge_pages(library)
    taken.append(library.mallopt(_TOP_PAD, _PAD) == 1)
    return all(taken)


def _grow_in_huge_pages(library: ctypes.CDLL) -> None:
    """Let the heap grow once, and ask for huge pages there; where the system has none, nothing changes."""
    library.sbrk.restype = library.malloc.restype = ctypes.c_void_p
    library.sbrk.argtypes, library.malloc.argtypes = [ctypes.c_ssize_t], [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    before, blocks = library.sbrk(0), list[int]()
    # The heap may have room for some; only a growth by what was reserved counts.
    while library.sbrk(0) - before < _RESERVED and len(blocks) < 64:
        blocks.append(library.malloc(16 << 20))
    for block in blocks:
        library.free(block)
    page = os.sysconf("SC_PAGE_SIZE")
    start, end = -(-before // page) * page, library.sbrk(0) // page * page
    if end > start:
        library.madvise(start, end - start, _MADV_HUGEPAGE)


def available_cores() -> int:
    """How many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@contextmanager
def processor_threads(number: int) -> Iterator[None]:
    """Within, torch's and BLAS' products use so many threads each, in this thread and in new ones.

    Threads of ours that each call products with threads of their own fight for the cores: a round
    can then take ten times as long (measured).
    """
    before = torch.get_num_threads()
    if before != number:
        torch.set_num_threads(number)
    try:
        with _libraries().limit(limits=number):
            yield
    finally:
        if before != number:
            torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg.blas  # noqa: F401 - loads the library that compiled loops call

    return ThreadpoolController().select(internal_api="openblas")
