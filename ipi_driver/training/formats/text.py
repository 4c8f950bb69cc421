"""Text of a file that may be compressed: gzip and xz are recognized by their first bytes."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

from ipi_driver.errors import UserError

_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


def read_lines(path: Path, expected: str = "extended XYZ") -> list[str]:
    """Lines of a text file with their line ends, unpacked where it is compressed.

    Parameters
    ----------
    path
        File.
    expected
        What the file should hold, for the messages.

    Raises
    ------
    UserError
        If the file is missing, empty, broken or not text.
    """
    if not path.is_file():
        raise UserError(f"no data file {path}")
    content = path.read_bytes()
    try:
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        elif content.startswith(_XZ):
            content = lzma.decompress(content)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path} cannot be unpacked: {error}; fetch or compress it again") from error
    try:
        lines = content.decode("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file; expected {expected}") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; expected {expected}")
    return lines
