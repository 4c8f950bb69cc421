"""Files that are read again only where they have changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TypeVar

Content = TypeVar("Content")

_SETTLED = 100_000_000
"""Age in ns from which on a file is remembered: two changes within one tick of the file system's clock look alike."""
_MOST = 256
"""Files that are remembered by each reader."""


def remembered(read: Callable[[Path], Content]) -> Callable[[Path], Content]:
    """A reader of files with a memory: a file whose time, size and inode are as before is not read again.

    Parameters
    ----------
    read
        Reads a file; its result must not be changed by those who get it.
    """
    known: dict[str, tuple[tuple[int, int, int], Content]] = {}

    @wraps(read)
    def reader(path: Path) -> Content:
        try:
            state = path.stat()
        except OSError:
            return read(path)  # which reports it
        name, key = os.path.abspath(path), (state.st_mtime_ns, state.st_size, state.st_ino)
        found = known.get(name)
        if found is not None and found[0] == key:
            return found[1]
        content = read(path)
        if time.time_ns() - state.st_mtime_ns > _SETTLED:
            if len(known) >= _MOST:
                known.pop(next(iter(known)))
            known[name] = (key, content)
        return content

    return reader
