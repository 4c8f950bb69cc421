"""A labelled snapshot as a file holds it, before any conversion of units, and the checks that all forms share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.structure import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels in extended XYZ.

    Attributes
    ----------
    energy, forces
        In the comment line, and of the columns.
    stress, virial
        In the comment line, or None.
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str | None = None
    virial: str | None = None


@dataclass(frozen=True, eq=False)
class RawSnapshot:
    """Numbers of one snapshot in the units of the file.

    Attributes
    ----------
    numbers
        (n_atoms,) atomic numbers.
    positions, cell, pbc
        (n_atoms, 3), (3, 3) with cell vectors as rows, (3,).
    energy
        Of the whole structure; None where the file has none and none is needed.
    forces
        (n_atoms, 3).
    virial
        (3, 3) = -dE/dstrain, or None.
    atomic
        Whether the form usually is in bohr and hartree.
    where
        File and snapshot, for messages.
    charge, spin
        Charge in e and multiplicity, where the file has them.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: BoolArray
    energy: float | None
    forces: FloatArray
    virial: FloatArray | None
    atomic: bool
    where: str
    charge: float | None = None
    spin: int | None = None

    def __post_init__(self) -> None:
        check_finite(self.positions, "positions", self.where)
        check_periodic(self.cell, self.pbc, self.where)


@dataclass(frozen=True)
class FileContent:
    """Snapshots of one file or folder.

    Attributes
    ----------
    form
        Name of the form, for people.
    snapshots
        In their order.
    """

    form: str
    snapshots: tuple[RawSnapshot, ...]


def numbers_of(value: Any, name: str, shapes: list[tuple[int, ...]], where: str) -> FloatArray:
    """``value`` as finite numbers of one of the ``shapes``, or a `UserError`."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {name} must be numbers, got {str(value)[:40]!r}") from error
    if array.shape not in shapes:
        expected = " or ".join(str(shape) if shape else "one number" for shape in shapes)
        raise UserError(f"{where}: {name} must have shape {expected}, got {array.shape}")
    check_finite(array, name, where)
    return array


def check_periodic(cell: FloatArray, pbc: BoolArray, where: str) -> None:
    """Raise `UserError` where the cell is not finite, or a periodic direction has none."""
    check_finite(cell, "the cell", where)
    if pbc.any() and (np.linalg.norm(cell[pbc], axis=1) == 0.0).any():
        raise UserError(f'{where}: periodic without a cell; give Lattice, or pbc="F F F"')


def check_finite(value: FloatArray, name: str, where: str) -> None:
    """Raise `UserError` where a number is NaN or infinite."""
    bad = ~np.isfinite(value)
    if bad.any():
        atom = f" at atom {int(np.argwhere(bad)[0, 0])}" if value.ndim == 2 and len(value) != 3 else ""
        raise UserError(f"{where}: {name} must be finite, got NaN or infinity{atom}; remove the structure")
