"""What a running simulation has written so far: the last step, temperature and conserved quantity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ipi_driver.observables.reading.input_xml import read_input

_COLUMN = re.compile(r"#\s*(?:column|cols\.)\s*(\d+)(?:-(\d+))?\s*-->\s*([^\s:{]+)(?:\{(\w+)\})?")


@dataclass
class Progress:
    """Last complete row of the property file.

    Attributes
    ----------
    step
        i-PI step; -1 before the first row.
    temperature, conserved
        In the unit that the file prints, NaN where it has no such column.
    """

    step: int = -1
    temperature: float = float("nan")
    conserved: float = float("nan")


class PropertyMonitor:
    """Reads what is appended to a property file and keeps the last row.

    Parameters
    ----------
    folder
        Run folder with i-PI's ``input.xml``.
    """

    def __init__(self, folder: Path) -> None:
        outputs = [o for o in read_input(folder / "input.xml").outputs if o.kind == "properties"]
        stepped = [o for o in outputs if "step" in o.content]
        self.path = folder / stepped[0].stem if stepped else None
        self._offset = 0
        self._rest = b""
        self._columns: dict[str, int] = {}
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
            if line.startswith(b"#"):
                found = _COLUMN.match(line.decode())
                if found:
                    self._columns.setdefault(found[3], int(found[1]) - 1)
        rows = [line for line in lines if line.strip() and not line.startswith(b"#")]
        if rows:
            self._keep(rows[-1].split())
        return self.last

    def _keep(self, values: list[bytes]) -> None:
        def value(name: str) -> float:
            column = self._columns.get(name)
            return float(values[column]) if column is not None and column < len(values) else float("nan")

        step = value("step")
        if step == step:
            self.last = Progress(int(step), value("temperature"), value("conserved"))
