"""The folder of a run's sockets: short, private, and removed with the run, also by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "ipi-driver-"
_PLACE = Path("/tmp")
"""Short, for the system's limit on the length of socket paths; the TMPDIR of a job is often long."""
_YOUNG = 60.0
"""Seconds after its last change in which a folder is left alone."""


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A new folder that no other run has; those of launchers that were killed are removed first."""
    _remove_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PLACE))
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_left_behind() -> None:
    """Remove folders of this user that no launcher holds any more and in which nothing listens."""
    for folder in _PLACE.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's, or just removed
            state = folder.stat()
            # one that has just been made may not be held yet
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < _YOUNG:
                continue
            # links: to sockets that i-PI opens elsewhere
            if any(not (path.is_socket() or path.is_symlink()) for path in folder.iterdir()):
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(handle)
