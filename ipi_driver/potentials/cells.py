"""Cells for codes that know full periodicity alone."""

from __future__ import annotations

import numpy as np
from ase.geometry import complete_cell

from ipi_driver.structure import FloatArray, Structure


def roomy_cell(structure: Structure, cutoff: float) -> FloatArray:
    """(3, 3) cell, so long along directions without images that none comes within the cutoff, Å.

    It is right-handed, as some codes divide by its determinant to get a stress: with all vectors reversed, which is the
    same lattice, where that of the structure is not.
    """
    cell = np.where(structure.pbc[:, None], structure.cell, 0.0)
    cell = np.array(complete_cell(cell))
    for k in np.flatnonzero(~structure.pbc):
        direction = cell[k] / np.linalg.norm(cell[k])
        cell[k] = direction * (np.ptp(structure.positions @ direction) + 2.0 * cutoff + 1.0)
    return -cell if np.linalg.det(cell) < 0.0 else cell
