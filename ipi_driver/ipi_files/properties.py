"""Reading i-PI property files: columns named and unit-tagged in the header.

``# column   3     --> conserved{electronvolt} : help`` or ``# cols.    4-9     --> stress_md{megapascal} :
help``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.units import ipi_factor
from ipi_driver.structure import BoolArray, FloatArray, IntArray

_COLUMN = re.compile(rb"#\s*(?:column|cols\.)\s+(\d+)(?:\s*-\s*(\d+))?\s*-->\s*(\S+)")
_NAME = re.compile(r"([^{(]+)(?:\{([^}]*)\})?(\([^)]*\))?(?:\{([^}]*)\})?")

_LOST = 0.02
"""Part of the time of a property file that may lie in longer intervals, where rows are lost."""

# dimension of the properties that are converted; every other column stays as printed
_DIMENSIONS = {
    "time": "time",
    "temperature": "temperature",
    "ensemble_temperature": "temperature",
    "conserved": "energy",
    "potential": "energy",
    "pot_component": "energy",
    "pot_component_raw": "energy",
    "bead_potentials": "energy",
    "kinetic_md": "energy",
    "kinetic_cv": "energy",
    "ensemble_bias": "energy",
}


@dataclass(frozen=True)
class Column:
    """One entry of the header.

    Attributes
    ----------
    name
        With its arguments, without its unit: ``pot_component(0)``.
    first, last
        Its numbers in a row, ``row[first:last]``.
    unit
        As printed, "" without one.
    """

    name: str
    first: int
    last: int
    unit: str


@dataclass(frozen=True, eq=False)
class PropertyTable:
    """Columns of one or several property files of a run.

    Attributes
    ----------
    columns
        Name (with its arguments, without unit) to (n_rows,) or (n_rows, n) array; fs, eV, K where the
        dimension is known, else as printed.
    notes
        What a reader of the results should know.
    source
        File, for messages.
    """

    columns: dict[str, FloatArray]
    source: str
    notes: tuple[str, ...] = field(default=())

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> FloatArray:
        if name not in self.columns:
            have = ", ".join(self.columns)
            raise UserError(
                f"{self.source} has no column `{name}`, it has {have}: add `{name}` to <properties> "
                f"of the input"
            )
        return self.columns[name]

    def finite(self, name: str, used: BoolArray | None = None) -> FloatArray:
        """A column, or the rows ``used`` of it, whose numbers must be finite.

        Raises
        ------
        UserError
            If there is no such column, or a number in it is not finite.
        """
        rows = np.ones(len(self[name]), dtype=bool) if used is None else used
        bad = np.flatnonzero(~np.isfinite(self[name]) & rows)
        if len(bad):
            place = f"step {self['step'][bad[0]]:.0f}" if "step" in self else f"row {bad[0]}"
            raise UserError(f"{self.source}: `{name}` is not finite at {place}: the run has diverged there")
        return self[name][rows]

    @property
    def steps(self) -> IntArray:
        return np.rint(self["step"]).astype(np.int64)


def header_column(line: bytes) -> Column | None:
    """What a line of the header announces; None of any other line.

    Examples
    --------
    >>> header_column(b"# column   3     --> conserved{electronvolt} : help")
    Column(name='conserved', first=2, last=3, unit='electronvolt')
    """
    match = _COLUMN.match(line)
    if match is None:
        return None
    name, unit = _split_name(match.group(3).decode(errors="replace"))
    return Column(name, int(match.group(1)) - 1, int(match.group(2) or match.group(1)), unit)


def read_properties(path: str | Path, names: Sequence[str] = ()) -> PropertyTable:
    """Columns of an i-PI property file, in the package's units.

    A file that i-PI began when it went on from a checkpoint has no header: ``names`` are then its columns, as the
    input lists them.

    A last line that is not complete is dropped, rows that a restart wrote again are skipped; both are noted.

    Raises
    ------
    UserError
        If the file is missing, has no header or no complete row, or a row is malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no property file {path}: check that the run has started and its <output> section")
    content = path.read_bytes()
    header = [header_column(line) for line in content[: 1 << 16].splitlines() if line.startswith(b"#")]
    places = [column for column in header if column is not None]
    if not places:
        split = map(_split_name, names)
        places = [Column(name, k, k + 1, unit) for k, (name, unit) in enumerate(split)]
        if len(places) != _n_columns(content):
            raise UserError(
                f"{path} has no `# column ... -->` header, and not the {len(places)} columns that the input names: "
                "expected a property file written by i-PI"
            )
    n_columns = max(column.last for column in places)
    rows, notes = _read_rows(path, content, n_columns)
    columns: dict[str, FloatArray] = {}
    for column in places:
        block = rows[:, column.first : column.last] * _factor(column, path)
        columns[column.name] = block[:, 0] if column.last - column.first == 1 else block
    if "step" in columns:
        fresh = columns["step"] > np.concatenate([[-np.inf], np.maximum.accumulate(columns["step"])[:-1]])
        if not fresh.all():
            notes.append(f"{path.name}: {int((~fresh).sum())} rows repeated by a restart were skipped")
            columns = {name: values[fresh] for name, values in columns.items()}
    return PropertyTable(columns, str(path), tuple(notes))


def row_spacing(steps: FloatArray) -> float:
    """Steps between the rows of a property file, but for rows that are lost here and there; 1 of a single row.

    Raises
    ------
    UserError
        If it changes on the way.
    """
    intervals = np.diff(steps)
    if not len(intervals):
        return 1.0
    lengths, counts = np.unique(intervals, return_counts=True)
    usual = float(lengths[counts.argmax()])
    others = intervals[intervals != usual]
    if np.abs(others).sum() > _LOST * np.abs(intervals).sum():
        found = ", ".join(f"{n:g}" for n in np.unique(others)[:3])
        raise UserError(
            f"rows {usual:g} steps apart in one part and {found} in another: analyze parts with different strides on "
            "their own"
        )
    return usual


def _n_columns(content: bytes) -> int:
    """Columns of the first row."""
    rows = (line.split(b"#")[0].split() for line in content.splitlines())
    return len(next((row for row in rows if row), []))


def _read_rows(path: Path, content: bytes, n_columns: int) -> tuple[FloatArray, list[str]]:
    notes = []
    if content and not content.endswith(b"\n"):  # i-PI ends every row with a line break
        content = content[: content.rfind(b"\n") + 1]
        notes.append(f"{path.name}: last row incomplete, dropped")
    try:
        rows = np.loadtxt(BytesIO(content), comments="#", ndmin=2)
    except ValueError:
        rows, n_left_out = _rows_of_full_length(content, n_columns)
        notes.append(
            f"{path.name}: {n_left_out} malformed rows, as a run leaves that is killed, were left out"
        )
    if rows.size == 0:
        raise UserError(f"{path} holds no complete row: let the run write at least one and repeat")
    if rows.shape[1] != n_columns:
        raise UserError(f"{path}: header names {n_columns} columns, rows have {rows.shape[1]}")
    return rows, notes


def _rows_of_full_length(content: bytes, n_columns: int) -> tuple[FloatArray, int]:
    """Rows of as many numbers as there are columns, and how many others there are.

    i-PI appends to what was written of a row when it was killed.
    """
    rows, n_others = [], 0
    for line in content.splitlines():
        words = line.split(b"#")[0].split()
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = [np.nan]
        if len(numbers) == n_columns:
            rows.append(numbers)
        elif words:
            n_others += 1
    return np.array(rows, dtype=np.float64), n_others


def _split_name(text: str) -> tuple[str, str]:
    """Name with arguments, and unit: ``pot_component{electronvolt}(0)`` or ``pot_component(0){electronvolt}``."""
    match = _NAME.fullmatch(text)
    if match is None:
        return text, ""
    return match.group(1) + (match.group(3) or ""), match.group(2) or match.group(4) or ""


def _factor(column: Column, path: Path) -> float:
    """Factor from the unit of a column to that of the package."""
    dimension = _DIMENSIONS.get(column.name.partition("(")[0])
    try:
        return 1.0 if dimension is None else ipi_factor(dimension, column.unit)
    except ValueError as error:
        name = f"{column.name}{{{column.unit}}}"
        raise UserError(f"{path}: column `{name}`: {error}") from error
