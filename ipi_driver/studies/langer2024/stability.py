"""Whether the molecules of a run stayed whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipi_driver.analysis.run_statistics import BROKEN_BOND
from ipi_driver.ipi_files import Run
from ipi_driver.observables.molecules import find_molecules, minimum_image
from ipi_driver.structure import Structure
from ipi_driver.units import FS_PER_PS


@dataclass(frozen=True)
class Stability:
    """Longest bond within a molecule over all snapshots of a run.

    Attributes
    ----------
    snapshots
        Looked at.
    picoseconds
        Simulated.
    longest_bond
        Å.
    at
        Time of it, ps.
    drift, drift_error
        Of the conserved quantity, meV per molecule and ns; NaN where it was not measured.
    """

    run: str
    snapshots: int
    picoseconds: float
    longest_bond: float
    at: float
    drift: float = math.nan
    drift_error: float = math.nan

    @property
    def whole(self) -> bool:
        """Whether every hydrogen stayed within `BROKEN_BOND` of its oxygen."""
        return self.longest_bond <= BROKEN_BOND


def longest_bond(folder: Path) -> Stability:
    """Read the positions of a run, snapshot by snapshot.

    Raises
    ------
    UserError
        If the run has no positions or no molecules.
    """
    run = Run(folder)
    bonded: tuple[np.ndarray, np.ndarray] | None = None
    longest, at, snapshots, last = 0.0, 0, 0, 0
    for snapshot in run.snapshots(["positions"]):
        if bonded is None:
            periodic = np.full(3, bool(snapshot.cell.any()))
            molecules = find_molecules(Structure(run.numbers, snapshot.positions, snapshot.cell, periodic))
            parents = np.take_along_axis(molecules.indices, molecules.parents[:, 1:], axis=1)
            bonded = molecules.indices[:, 1:].ravel(), parents.ravel()
        vectors = minimum_image(snapshot.positions[bonded[0]] - snapshot.positions[bonded[1]], snapshot.cell)
        length = float(np.linalg.norm(vectors, axis=1).max())
        snapshots, last = snapshots + 1, snapshot.step
        if length > longest:
            longest, at = length, snapshot.step
    scale = run.timestep / FS_PER_PS
    return Stability(folder.name, snapshots, last * scale, longest, at * scale)
