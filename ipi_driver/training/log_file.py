"""The log of a training, ``log.csv``: a row for each evaluation."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipi_driver.whole_file import write_whole


def append_row(path: Path, values: Mapping[str, Any]) -> None:
    """Add a row; a new file gets a header, and a log that an older version began keeps its columns."""
    columns = _header(path)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(values), extrasaction="ignore")
        if not columns:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})


def cut_rows(path: Path, step: int) -> None:
    """Leave the rows up to ``step``: what came after the checkpoint is done again, and its row may be half a row."""
    columns = _header(path)
    if "step" not in columns:
        return
    with path.open(newline="") as file:
        head, *lines = file.readlines()
    kept = [
        line
        for line, row in zip(lines, csv.reader(lines), strict=False)
        if _is_whole(line, row, columns, step)
    ]
    if len(kept) < len(lines):
        write_whole(path, "".join([head, *kept]))


def _header(path: Path) -> list[str]:
    """Columns of the file; none where it is missing or empty."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def _is_whole(line: str, row: list[str], columns: list[str], step: int) -> bool:
    """Whether a row is complete, and not of a later step."""
    place = columns.index("step")
    return (
        line.endswith("\n") and len(row) == len(columns) and row[place].isdigit() and int(row[place]) <= step
    )
