"""Cells for codes that know full periodicity alone."""

from __future__ import annotations

import numpy as np

from ipi_driver import neighbors
from ipi_driver.structure import FloatArray, Structure


def roomy_cell(structure: Structure, cutoff: float) -> FloatArray:
    """(3, 3) right-handed cell, so long along directions without images that none comes within the cutoff, Å."""
    return right_handed(neighbors.roomy_cell(structure, cutoff))


def right_handed(cell: FloatArray) -> FloatArray:
    """The same lattice, with all vectors reversed where the cell is left-handed.

    Some codes refuse a left-handed cell, and some divide by its determinant to get a stress.
    """
    return -cell if np.linalg.det(cell) < 0.0 else cell
