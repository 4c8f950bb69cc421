"""The comment line of an xyz file: whether i-PI wrote it, its cell, units, step, quantity and columns.

The only place that decides how an xyz file is understood. Three forms are i-PI's:

- ``# CELL(abcABC): a b c alpha beta gamma  Step: N  Bead: B  positions{angstrom}  cell{angstrom}``, where the
  brackets of CELL may be round, square or curly, around ``abcABC`` (lengths and angles), ``H`` (cell vectors as
  columns) or ``GENH`` (cell vectors as rows). **A unit that is not given is the atomic one, bohr for positions and
  cell**, as i-PI takes it.
- ``quantity{unit}`` without CELL: isolated.
- what i-PI writes with ``format='ase'``: extended xyz with ``ipi_comment="... positions{ase}  cell{ase}"``, whose
  numbers may stand in other columns than those of the positions.

Files of i-PI are periodic where they have a cell, unless their comment has ``pbc="F F F"``. Every other xyz file is
extended or plain xyz, in Å, as ASE reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.units import ipi_factor
from ipi_driver.structure import FloatArray

DIMENSIONS = {
    "positions": "length",
    "x_centroid": "length",
    "velocities": "velocity",
    "v_centroid": "velocity",
    "momenta": "momentum",
    "p_centroid": "momentum",
    "forces": "force",
    "f_centroid": "force",
    "forces_component": "force",
    "forces_component_raw": "force",
}
"""Quantities that can be read, and i-PI's name of their dimension."""

_CELL = re.compile(r"CELL[(\[{](abcABC|H|GENH)[)\]}]:((?:\s+[-+0-9.eE]+)+)")
_N_NUMBERS = {"abcABC": 6, "H": 9, "GENH": 9}
_LATTICE = re.compile(r'Lattice="([^"]+)"')
_ISOLATED = re.compile(r"pbc=[\"']?\s*F\s+F\s+F")
_STEP = re.compile(r"Step:\s*(\d+)")
_QUANTITY = re.compile(r"(\w+)(?:\([^)]*\))?\{([A-Za-z_/^0-9]*)\}")
_PROPERTIES = re.compile(r"Properties=(\S+)")


@dataclass(frozen=True, eq=False)
class Comment:
    """The content of the comment line of one snapshot.

    Attributes
    ----------
    from_ipi
        Whether the line has one of i-PI's forms.
    has_cell
        Whether it has ``CELL...``, without which i-PI can replay no trajectory.
    step
        Simulation step, None where there is none.
    quantity
        positions, velocities, momenta, forces, ...
    factor
        From the numbers of the file to Å, Å/fs, dalton Å/fs or eV/Å.
    cell
        (3, 3) rows, Å; zeros where the line has none.
    isolated
        Whether the line has ``pbc="F F F"``.
    column
        First of the three columns of the quantity; the first column of a line is 0 and holds the label.
    """

    from_ipi: bool
    has_cell: bool
    step: int | None
    quantity: str
    factor: float
    cell: FloatArray
    isolated: bool
    column: int

    @property
    def periodic(self) -> bool:
        """Whether the structure is periodic."""
        return bool(self.cell.any()) and not self.isolated


def parse_comment(text: str, source: Path) -> Comment:
    """The comment line of one snapshot.

    Parameters
    ----------
    text
        The line.
    source
        The file, for messages.

    Raises
    ------
    UserError
        If the quantity or a unit is unknown, or the cell cannot be read.
    """
    step, cell = _STEP.search(text), _CELL.search(text)
    of_ase = "Lattice=" in text
    default = "angstrom" if of_ase else "atomic_unit"
    units = dict(_QUANTITY.findall(text))
    units.pop("CELL", None)  # CELL{abcABC}
    cell_unit = units.pop("cell", default)
    quantity, unit = next(iter(units.items()), ("positions", default))
    if quantity not in DIMENSIONS:
        known = ", ".join(DIMENSIONS)
        raise UserError(f"{source}: quantity {quantity!r} is not one that can be analyzed ({known})")
    try:
        factor = ipi_factor(DIMENSIONS[quantity], unit)
        rows = _cell_rows(text, cell, source) * ipi_factor("length", cell_unit)
    except ValueError as error:
        raise UserError(f"{source}: cannot read the comment line: {error}") from error
    return Comment(
        from_ipi=_is_of_ipi(text),
        has_cell=cell is not None,
        step=int(step[1]) if step else None,
        quantity=quantity,
        factor=factor,
        cell=rows,
        isolated=_ISOLATED.search(text) is not None,
        column=_column(text, quantity) if of_ase else 1,
    )


def ipi_comment(path: Path) -> Comment | None:
    """The first comment of an xyz file that has one of i-PI's forms; None for every other file.

    Raises
    ------
    UserError
        If the quantity or a unit is unknown.
    """
    with path.open("rb") as stream:
        count, line = stream.readline(80), stream.readline(4096)
    text = line.decode(errors="replace")
    return parse_comment(text, path) if count.strip().isdigit() and _is_of_ipi(text) else None


def _is_of_ipi(text: str) -> bool:
    if "ipi_comment=" in text or _CELL.search(text):
        return True
    return any(name in DIMENSIONS for name, _ in _QUANTITY.findall(text))


def _cell_rows(text: str, found: re.Match[str] | None, source: Path) -> FloatArray:
    """Cell vectors as rows in the unit of the file, zeros where the line has none."""
    if found is None:
        lattice = _LATTICE.search(text)
        numbers = [] if lattice is None else lattice[1].split()
        return np.array(numbers, dtype=np.float64).reshape(3, 3) if numbers else np.zeros((3, 3))
    kind, words = found[1], found[2].split()
    if len(words) < _N_NUMBERS[kind]:
        raise UserError(f"{source}: CELL({kind}) needs {_N_NUMBERS[kind]} numbers, got {len(words)}")
    numbers = words[: _N_NUMBERS[kind]]
    if kind == "abcABC":
        try:
            return _rows_of_parameters(" ".join(numbers))
        except AssertionError:  # of ASE
            raise UserError(
                f"{source}: CELL(abcABC): {' '.join(numbers)}: no cell has these lengths and angles"
            ) from None
    rows = np.array(numbers, dtype=np.float64).reshape(3, 3)
    return rows.T if kind == "H" else rows


@lru_cache(maxsize=4)
def _rows_of_parameters(text: str) -> FloatArray:
    """Rows from lengths and angles; remembered, as most cells do not change from snapshot to snapshot."""
    parameters = [float(word) for word in text.split()]
    if min(parameters) <= 0.0:  # i-PI's cell of a system without one
        return np.zeros((3, 3))
    return np.asarray(cellpar_to_cell(parameters), dtype=np.float64)


def _column(text: str, quantity: str) -> int:
    """First column of a quantity by ``Properties=species:S:1:pos:R:3:forces:R:3``; that of the positions else."""
    properties = _PROPERTIES.search(text)
    if properties is None:
        return 1
    words, column = properties[1].strip('"').split(":"), 0
    for name, count in zip(words[::3], words[2::3], strict=False):
        if name == ("pos" if quantity in ("positions", "x_centroid") else quantity):
            return column
        column += int(count)
    return 1
