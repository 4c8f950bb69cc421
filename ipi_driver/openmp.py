"""Threads of the model that are given back when another thread of the process is about to use the model.

GNU's OpenMP, which torch comes with, keeps a team of workers for every thread that has computed in parallel. They wait
for the next parallel part without sleeping, which costs little, as the parts follow each other within microseconds. As
soon as all teams together have more threads than there are cores, they fall asleep at once instead, and every part
waits for them to wake: with a model loaded by the main thread and evaluated by another one, all threads of two cores, a
step took a third longer (`benchmarks/speed.md`).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_SOFT = 1
"""``omp_pause_soft`` of OpenMP 5.0: the library may be used again as before."""


def release_workers() -> bool:
    """End the workers that wait for the calling thread; whether a library did so.

    The next parallel part begins new ones, which takes 0.1 ms.
    """
    released = [library.omp_pause_resource_all(_SOFT) == 0 for library in _libraries()]
    return any(released)


_known: list[ctypes.CDLL] = []


def _libraries() -> list[ctypes.CDLL]:
    """Every GNU OpenMP that this process has loaded (torch's, the system's); none where it is not on Linux."""
    if not _known:  # a model that is loaded later may bring the first
        try:
            lines = Path("/proc/self/maps").read_text().splitlines()
        except OSError:
            return []
        paths = {line.split(maxsplit=5)[-1] for line in lines}
        for path in sorted(path for path in paths if Path(path).name.startswith("libgomp")):
            try:
                library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
            except OSError:  # replaced on the disk since
                continue
            if hasattr(library, "omp_pause_resource_all"):
                _known.append(library)
    return _known
