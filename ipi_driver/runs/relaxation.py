"""How many steps a minimization still takes, from how its energy has converged so far."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path

import numpy as np

from ipi_driver.ipi_files import edit as xml
from ipi_driver.ipi_files.input import read_input
from ipi_driver.ipi_files.units import HARTREE
from ipi_driver.runs.monitor import Progress

_ROWS = 12
"""Steps over which the decay of the energy differences is fitted."""
_LEAST = 5
_TOLERANCE = 1e-7
"""i-PI's default for the energy, hartree per atom."""


class Relaxation:
    """Extrapolates the differences of the energy, which decay exponentially, to i-PI's tolerance.

    i-PI asks the forces and displacements to be small, too, which they mostly are a few steps earlier or later.

    Parameters
    ----------
    tolerance
        Of the energy, eV.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._rows: deque[tuple[int, float]] = deque(maxlen=_ROWS)

    def add(self, row: Progress) -> None:
        """Take a row of the property file, with the potential in eV."""
        if math.isfinite(row.potential) and (not self._rows or row.step > self._rows[-1][0]):
            self._rows.append((row.step, row.potential))

    @property
    def steps_left(self) -> int | None:
        """Steps until the energy has converged; None where it cannot be estimated yet."""
        if len(self._rows) < _LEAST:
            return None
        steps, energies = np.transpose(self._rows)
        changes = np.abs(np.diff(energies)) / np.diff(steps)
        seen = changes > 0.0
        if seen.sum() < _LEAST - 1:
            return 0
        slope, offset = np.polyfit(steps[1:][seen], np.log(changes[seen]), 1)
        if slope >= 0.0:
            return None
        end = (math.log(self._tolerance) - offset) / slope
        return max(0, math.ceil(end - steps[-1]))


def relaxation_of(folder: Path, n_atoms: int) -> Relaxation | None:
    """The estimate for the run in a folder; None where it is no minimization with a potential in eV."""
    settings = read_input(folder / "input.xml")
    columns = " ".join(output.content for output in settings.outputs if output.kind == "properties")
    if settings.motion != "minimize" or "potential{electronvolt}" not in columns.replace(" ", ""):
        return None
    tolerances = xml.value((folder / "input.xml").read_text(), "energy")
    try:
        tolerance = float(tolerances) if tolerances is not None else _TOLERANCE
    except ValueError:
        tolerance = _TOLERANCE
    return Relaxation(max(tolerance, 1e-15) * n_atoms * HARTREE)
