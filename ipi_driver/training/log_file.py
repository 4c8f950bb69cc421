"""The log of a training, ``log.csv``: a row for each evaluation."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipi_driver.whole_file import write_whole


@dataclass
class LogRow:
    """One line of ``log.csv``; errors in meV/Å and meV per structure.

    ``forward_evaluations_per_step`` is the time of a step divided by that of a forward evaluation of as many structures
    that records the graph for derivatives.
    The symmetry errors of the validation and of some unlabelled structures, meV/Å, are NaN without a penalty.
    """

    epoch: int
    step: int
    hours: float
    learning_rate: float
    train_loss: float
    train_force_mae: float
    train_energy_mae: float
    val_force_mae: float
    val_force_rmse: float
    val_energy_mae: float
    best_val_force_mae: float
    steps_per_second: float
    forward_evaluations_per_step: float
    val_symmetry_mae: float
    unlabelled_symmetry_mae: float


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
