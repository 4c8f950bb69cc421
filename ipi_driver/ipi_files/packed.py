"""Files that are compressed, for readers that jump back and forth in them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipi_driver.errors import UserError

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file itself, or, of a .gz, .bz2 or .xz, a plain copy under its name without that ending, while it is used.

    ASE jumps back in the files that it reads, and each jump back in a packed file unpacks it anew from its beginning:
    900 structures would take hours. What decides by the content of a file decides by that of the copy.

    Raises
    ------
    UserError
        If the file cannot be unpacked.
    """
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ipi-driver-") as folder:
        plain = Path(folder) / path.stem
        try:
            with opener(path, "rb") as source, plain.open("wb") as target:
                shutil.copyfileobj(source, target)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise UserError(f"{path} cannot be read: {error}; fetch or compress it again") from error
        yield plain
