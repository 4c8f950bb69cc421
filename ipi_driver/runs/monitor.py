"""What a running simulation has written so far: the last step, temperature and conserved quantity."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.ipi_files.input import read_input
from ipi_driver.ipi_files.properties import Column, header_column

_SYMBOLS = {"electronvolt": "eV", "kelvin": "K", "": "a.u."}


@dataclass(frozen=True)
class Progress:
    """One complete row of the property file.

    Attributes
    ----------
    step
        i-PI step; -1 before the first row.
    temperature, conserved, potential
        In the unit that the file prints, NaN where it has no such column.
    change
        Of the conserved quantity since the first row.
    units
        Of the temperature, the conserved quantity and the potential.
    columns
        Names of the columns that the file has.
    """

    step: int = -1
    temperature: float = math.nan
    conserved: float = math.nan
    change: float = math.nan
    potential: float = math.nan
    units: tuple[str, str, str] = ("", "", "")
    columns: frozenset[str] = frozenset()

    @property
    def parts(self) -> list[str]:
        """Change of the conserved quantity and temperature, or the potential, with units, for a line of progress."""
        parts = []
        if not math.isnan(self.change):
            parts.append(f"conserved {self.change:+.2g} {self.units[1]}")
        if not math.isnan(self.temperature):
            parts.append(f"T {self.temperature:.4g} {self.units[0]}")
        elif not math.isnan(self.potential):  # a minimization
            parts.append(f"potential {self.potential:.9g} {self.units[2]}")
        return parts


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
        self._columns: dict[str, Column] = {}
        self._first: float | None = None
        self.last = Progress()
        self.fresh: list[Progress] = []

    def update(self) -> Progress:
        """Read what is new, all rows of which are then in ``fresh``; returns the last complete row."""
        self.fresh = []
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
            if line.startswith(b"#") and (found := header_column(line)) is not None:
                self._columns.setdefault(found.name, found)
        rows = [line.split() for line in lines if line.strip() and not line.startswith(b"#")]
        if rows:
            if self._first is None:
                self._first = self._value(rows[0], "conserved")
            self.fresh = [read for row in rows if (read := self._read(row)) is not None]
            self.last = self.fresh[-1] if self.fresh else self.last
        return self.last

    def _read(self, row: list[bytes]) -> Progress | None:
        step, temperature, conserved, potential = (
            self._value(row, name) for name in ("step", "temperature", "conserved", "potential")
        )
        if not math.isfinite(step):
            return None
        change = conserved - (self._first if self._first is not None else math.nan)
        units = (self._unit("temperature"), self._unit("conserved"), self._unit("potential"))
        columns = frozenset(self._columns)
        return Progress(int(step), temperature, conserved, change, potential, units, columns)

    def _value(self, row: list[bytes], name: str) -> float:
        column = self._columns.get(name)
        try:
            return math.nan if column is None else float(row[column.first])
        except (IndexError, ValueError):  # what is shown must not end a run
            return math.nan

    def _unit(self, name: str) -> str:
        unit = self._columns[name].unit if name in self._columns else ""
        return _SYMBOLS.get(unit, unit)
