"""Reading i-PI extras files: what the client sent with each evaluation, as JSON or as columns of numbers.

``#EXTRAS(raw)# Step:  N`` followed by the text of that step; i-PI prints a parsed JSON reply as a Python
literal.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ipi_driver.errors import UserError

_HEADER = re.compile(r"^\s*#EXTRAS\w*\(([^)]*)\)#\s*Step:\s*(\d+)")


def iterate_extras(path: str | Path) -> Iterator[tuple[int, Any]]:
    """(step, content) of each entry: a dict for JSON, an array for numbers, else the text.

    An entry that the file ends within is dropped where it does not parse.

    Raises
    ------
    UserError
        If the file is missing or does not start with an extras header.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no extras file {path}: check that the run has started and its <output> section")
    step: int | None = None
    lines: list[str] = []
    with path.open(errors="replace") as stream:
        for line in stream:
            match = _HEADER.match(line)
            if match is None:
                if step is None:
                    raise UserError(f"{path}: expected `#EXTRAS(...)# Step: N`, got {line.strip()[:40]!r}")
                lines.append(line)
                continue
            if step is not None:
                yield step, _parse("".join(lines))
            step, lines = int(match.group(2)), []
    if step is not None and lines and lines[-1].endswith("\n"):
        yield step, _parse("".join(lines))


def _parse(text: str) -> Any:
    stripped = text.strip()
    if stripped.startswith(("{", "[")):
        for parser in (json.loads, ast.literal_eval):
            try:
                return _unwrap(parser(stripped))
            except (ValueError, SyntaxError):
                continue
    try:
        return np.array([[float(word) for word in row.split()] for row in stripped.splitlines()]).squeeze()
    except ValueError:
        return stripped


def _unwrap(content: Any) -> Any:
    """i-PI holds one value per bead in a list, and the unparsed reply under `raw`; with one bead both go."""
    if not isinstance(content, dict):
        return content
    return {
        key: value[0] if isinstance(value, list) and len(value) == 1 else value
        for key, value in content.items()
        if not (key == "raw" and len(content) > 1)
    }
