"""The folder that a command writes its results to."""

from __future__ import annotations

import os
from pathlib import Path

from ipi_driver.errors import UserError


def output_folder(given: Path | None, default: str) -> Path:
    """``given``, or a folder with the name ``default`` here.

    To be asked for before the work, as a result that cannot be written is lost.

    Raises
    ------
    UserError
        If it cannot be a folder, or nothing can be written there.
    """
    folder = given or Path("".join(c if c.isalnum() or c in "-_." else "-" for c in default))
    known = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not known.is_dir():
        raise UserError(f"--output must be a folder, got {folder}, and {known} is a file")
    if not os.access(known, os.W_OK | os.X_OK):
        raise UserError(f"--output {folder}: nothing can be written in {known}; choose another folder")
    return folder
