"""One run at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipi_driver.errors import UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, so that no second run writes to the same files; the lock ends with the process.

    Raises
    ------
    UserError
        If another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another ipi-driver runs in {folder}; give another --output") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
