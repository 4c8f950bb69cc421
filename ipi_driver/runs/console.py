"""Consoles whose reader may go away: what cannot be written any more is left out, and ends nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TextIO, cast

from rich.console import Console


class _Lenient:
    """A text stream that drops what cannot be written: the disk is full, or the reader of the pipe has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed
            return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lenient_console(stream: TextIO | None, quiet: bool = False) -> Console:
    """A console on ``stream`` (None: one that was closed) for which nothing that is lost is an error.

    Parameters
    ----------
    stream
        ``sys.stderr`` or ``sys.stdout``.
    quiet
        Print nothing.
    """
    if stream is None:
        return Console(quiet=True)
    return Console(file=cast(TextIO, _Lenient(stream)), quiet=quiet)
