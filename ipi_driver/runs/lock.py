"""One run at a time in a run folder, also where it lies on a file system that several nodes share."""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.run_folder import LOCK
from ipi_driver.runs.live import read_status

_ALIVE = 60.0
"""Seconds since its last sign of life after which a run on another node is over; a network file system may show a file
as it was so long ago."""
_LOOK = 1.0
"""Seconds between two looks at that sign."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, so that no second run writes to the same files; the lock ends with the process.

    The lock is on a regular file in it: network file systems share such locks between nodes, those on folders they do
    not. Where they share none at all, what the launcher on another node writes to ``status.json`` is looked at: a run
    whose last sign of life is of the last minute is waited for, until it gives another one or the minute is over.

    Raises
    ------
    UserError
        If another process holds it.
    """
    handle = _open(folder)
    try:
        if handle is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another ipi-driver runs in {folder}; give another --output") from None
            except OSError as error:
                _warn(folder, str(error))
        _check_other_nodes(folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _open(folder: Path) -> int | None:
    try:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:  # a full disk
        _warn(folder, str(error))
        return None


@functools.cache
def _warn(folder: Path, reason: str) -> None:
    """Once for each folder."""
    print(
        f"warning: {folder} cannot be locked ({reason}): make sure that no second run writes to it",
        file=sys.stderr,
    )


def _check_other_nodes(folder: Path) -> None:
    first = read_status(folder)
    if not _runs_elsewhere(first):
        return
    host = first.get("host")
    print(f"{folder} is that of a run on {host}: waiting whether it is still there", file=sys.stderr)
    now, end = first, time.monotonic() + _ALIVE  # the other clock may be hours ahead
    while _runs_elsewhere(now) and time.monotonic() < end:
        if now.get("updated") != first.get("updated"):
            raise UserError(f"another ipi-driver runs in {folder}, on {host}; give another --output")
        time.sleep(_LOOK)
        now = read_status(folder)


def _runs_elsewhere(status: dict[str, Any]) -> bool:
    """Whether the launcher on another node has given a sign of life lately; clocks may differ a little."""
    if status.get("state") != "running" or status.get("host") == platform.node():
        return False
    return time.time() - float(status.get("updated") or 0.0) < _ALIVE
