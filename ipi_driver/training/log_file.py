"""The log of a training, ``log.csv``: a row for each evaluation."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_row(path: Path, values: Mapping[str, Any]) -> None:
    """Add a row; a new file gets a header, and a log that an older version began keeps its columns."""
    columns = list(values)
    new = not path.exists()
    if not new:
        columns = path.read_text().partition("\n")[0].strip().split(",")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
