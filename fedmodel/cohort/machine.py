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
# trim threshold, top pad, one arena for all threads (others cannot keep large blocks).
_OPTIONS = {-3: 32 << 20, -1: 2**31 - 1, -2: 64 << 20, -8: 1}


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next step instead of handing it back each time.

    glibc returns large blocks to the system when they are freed, and the system clears every page
    before it gives it out again: a tenth of a private step of a small convolutional model (measured).
    After this call the process holds on to the most it ever used, and asks for 64 MiB at a time.
    It lasts until the process ends. Tells whether the C library took all settings; False on other
    systems, where nothing happens.

    mallopt(3) of the Linux manual.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL("libc.so.6")
    return all(library.mallopt(option, value) == 1 for option, value in _OPTIONS.items())


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
