"""What a running simulation has written so far: the last step, temperature and conserved quantity."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.ipi_files.input import read_input

_COLUMN = re.compile(r"#\s*(?:column|cols\.)\s*(\d+)(?:\s*-\s*\d+)?\s*-->\s*([\w()]+)(?:\{([^}]*)\})?")
_SYMBOLS = {"electronvolt": "eV", "kelvin": "K", "": "a.u."}


@dataclass(frozen=True)
class Progress:
    """Last complete row of the property file.

    Attributes
    ----------
    step
        i-PI step; -1 before the first row.
    temperature, conserved
        In the unit that the file prints, NaN where it has no such column.
    change
        Of the conserved quantity since the first row.
    text
        Temperature (or potential) and conserved quantity with units, for a line of progress.
    """

    step: int = -1
    temperature: float = math.nan
    conserved: float = math.nan
    change: float = math.nan
    text: str = ""


class PropertyMonitor:
    """Reads what is appended to a property file and keeps the last row.

    Parameters
    ----------
    folder
        Run folder with i-PI's ``input.xml``.
    """

    def __init__(self, folder: Path) -> None:
        outputs = [o for o in read_input(folder / "input.xml").outputs if o.kind == "properties"]
        stepped = [o for o in outputs if re.search(r"\bstep\b", o.content)]
        self.path = folder / stepped[0].stem if stepped else None
        self._offset = 0
        self._rest = b""
        self._columns: dict[str, tuple[int, str]] = {}
        self._first: float | None = None
        self.last = Progress()

    def update(self) -> Progress:
        """Read what is new; returns the last complete row."""
        if self.path is None or not self.path.is_file():
            return self.last
        if self.path.stat().st_size < self._offset:  # a new file took its place
            self._offset, self._rest = 0, b""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        self._offset += len(content)
        lines = (self._rest + content).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"#") and (found := _COLUMN.match(line.decode(errors="replace"))):
                self._columns.setdefault(found[2], (int(found[1]) - 1, found[3] or ""))
        rows = [line.split() for line in lines if line.strip() and not line.startswith(b"#")]
        if rows:
            if self._first is None:
                self._first = self._value(rows[0], "conserved")
            self._keep(rows[-1])
        return self.last

    def _keep(self, row: list[bytes]) -> None:
        step, temperature = self._value(row, "step"), self._value(row, "temperature")
        conserved = self._value(row, "conserved")
        if math.isnan(step):
            return
        change = conserved - (self._first if self._first is not None else math.nan)
        parts = []
        if not math.isnan(temperature):
            parts.append(f"T {temperature:.4g} {self._unit('temperature')}")
        elif not math.isnan(potential := self._value(row, "potential")):  # a minimisation
            parts.append(f"potential {potential:.9g} {self._unit('potential')}")
        if not math.isnan(conserved):
            parts.append(f"conserved {conserved:.9g} {self._unit('conserved')} ({change:+.2g})")
        self.last = Progress(int(step), temperature, conserved, change, "  ".join(parts))

    def _value(self, row: list[bytes], name: str) -> float:
        column = self._columns.get(name, (len(row), ""))[0]
        try:
            return float(row[column])
        except (IndexError, ValueError):  # what is shown must not end a run
            return math.nan

    def _unit(self, name: str) -> str:
        unit = self._columns[name][1]
        return _SYMBOLS.get(unit, unit)
