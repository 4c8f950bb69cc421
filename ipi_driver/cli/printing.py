"""``--quiet`` and ``--json``, the same in every command that prints results."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

_KEPT = ("error: ", "warning: ")
"""First words of the lines that ``--quiet`` leaves."""


def add_printing(parser: argparse.ArgumentParser, quiet: bool = True) -> None:
    """Add ``--json``, and ``--quiet`` where the command has none of its own."""
    if quiet:
        parser.add_argument("--quiet", "-q", action="store_true", help="print errors and warnings alone")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON on standard output, and nothing else there",
    )
    parser.set_defaults(prints_result=True, silences=quiet)


def set_result(args: argparse.Namespace, result: Any, folder: Path | None = None) -> None:
    """The result that ``--json`` prints: values for JSON, or a JSON file; with the folder that was written."""
    if isinstance(result, Path):
        result = json.loads(result.read_text(encoding="utf-8"))
    if folder is not None and isinstance(result, dict):
        result = {"folder": str(folder), **result}
    args.result = result


@contextmanager
def printed(args: argparse.Namespace) -> Iterator[None]:
    """What a command prints goes where ``--quiet`` and ``--json`` direct it; the result is printed at the end."""
    if not getattr(args, "prints_result", False):
        yield
        return
    output = sys.stdout
    with ExitStack() as stack:
        if args.quiet and args.silences:
            nothing = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nothing))
            stack.enter_context(redirect_stderr(_ErrorsAlone(sys.stderr)))
        elif args.json:
            stack.enter_context(redirect_stdout(sys.stderr))
        yield
    if args.json and hasattr(args, "result"):
        print(json.dumps(args.result, indent=2), file=output)


class _ErrorsAlone(io.TextIOBase):
    """Passes on the lines that begin as errors and warnings do."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line = stream, ""

    def writable(self) -> bool:
        """It can be written to."""
        return True

    def write(self, text: str) -> int:
        """Take a part of a line, or lines."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.startswith(_KEPT):
                self._stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        """Flush what was passed on."""
        self._stream.flush()
