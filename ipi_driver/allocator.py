"""Memory that a step frees stays with the process, for the next step to use.

By default glibc maps every large tensor anew and unmaps it at the end of the step, so that the kernel clears the
same pages at every step. With the thresholds raised the heap keeps them: the process holds its peak memory until
its end. That heap is the one of the main thread. Other threads have arenas of their own, of pieces of 64 MB, and beyond
that size map and unmap again; the client evaluates the model in such a thread. So all threads share the main one.
"""

from __future__ import annotations

import ctypes
import os

SWITCH = "IPI_DRIVER_ALLOCATOR"
"""Environment variable; ``system`` leaves the allocator as it is."""

# parameters of mallopt(3), from <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_SETTINGS = (
    (_M_MMAP_THRESHOLD, 1 << 30),  # bytes from which a block is mapped by itself
    (_M_TRIM_THRESHOLD, (1 << 31) - 1),  # free bytes at the top of the heap that go back to the system
    (_M_TOP_PAD, 16 << 20),  # bytes by which the heap grows beyond what is asked for
    (_M_ARENA_MAX, 1),  # heaps
)
_USERS = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_MAX_",
    "GLIBC_TUNABLES",
)
_USERS_ARENAS = ("MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST")
"""Often set on clusters, against the memory that many arenas reserve: the other settings are made all the same."""


def keep_freed_memory() -> bool:
    """Have glibc keep the memory that is freed; whether it does.

    Nothing is done with another C library, with settings of the user's own in the environment, or with
    ``IPI_DRIVER_ALLOCATOR=system``. To be called where a program begins, not where a module is imported.
    """
    if os.environ.get(SWITCH) == "system" or any(name in os.environ for name in _USERS):
        return False
    try:
        glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # not a system of this kind
        return False
    if not glibc:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    arenas_are_set = any(name in os.environ for name in _USERS_ARENAS)
    kept = [
        mallopt(parameter, value) == 1
        for parameter, value in _SETTINGS
        if not (parameter == _M_ARENA_MAX and arenas_are_set)
    ]
    return all(kept)
