"""One training at a time in an output folder."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipi_driver.errors import UserError

LOCK = ".training.lock"
"""Empty file that the training holds; it stays, for another one may hold it."""


@contextmanager
def held(output: Path, resume: bool = False) -> Iterator[None]:
    """Hold the ``output`` of a training, so that no second one writes to the same files; it ends with the process.

    Of several processes of ``torchrun`` the first one holds it.

    Raises
    ------
    UserError
        If another process holds it.
    """
    if int(os.environ.get("RANK", "0")) > 0 or (resume and not output.is_dir()):
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    handle = os.open(output / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process trains in {output}; wait for its end, or choose another output"
            ) from None
        except OSError as error:  # a file system without locks
            text = f"warning: {output} cannot be locked ({error}): make sure that no second training writes to it"
            print(text, file=sys.stderr)
        yield
    finally:
        os.close(handle)
