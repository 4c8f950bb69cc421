"""Threads of the model that are given back when another thread of the process is about to use the model.

GNU's OpenMP, which torch comes with, keeps a team of workers for every thread that has computed in parallel. They wait
for the next parallel part without sleeping, which costs little, as the parts follow each other within microseconds. As
soon as all teams together have more threads than there are cores, they fall asleep at once instead, and every part
waits for them to wake: with a model loaded by the main thread and evaluated by another one, all threads of two cores, a
step took a third longer (`benchmarks/speed.md`).
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

_SOFT = 1
"""``omp_pause_soft`` of OpenMP 5.0: the library may be used again as before."""


def release_workers() -> bool:
    """End the workers that wait for the calling thread; whether there is a library that does so.

    The next parallel part begins new ones, which takes 0.1 ms.
    """
    library = _libgomp()
    return library is not None and library.omp_pause_resource_all(_SOFT) == 0


@cache
def _libgomp() -> ctypes.CDLL | None:
    """GNU's OpenMP as this process has loaded it; None where it is another one."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # not Linux
        return None
    for line in lines:
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith("libgomp"):
            library = ctypes.CDLL(path)
            return library if hasattr(library, "omp_pause_resource_all") else None
    return None
