"""Text of a file that may be compressed: gzip, xz and bzip2 are recognized by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import Path

from ipi_driver.errors import UserError

_GZIP, _XZ, _BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\x00", b"BZh"


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
        elif content.startswith(_BZIP2):
            content = bz2.decompress(content)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked: {error}; fetch or compress it again") from error
    try:
        lines = content.decode("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file; expected {expected}") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; expected {expected}")
    return lines
