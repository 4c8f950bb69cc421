r"""Is the physics of a running simulation still sound? Temperature, conserved quantity, distances between atoms.

A run whose time step is too long or whose model leaves its training data goes on to its last step, and every number of
it is wrong. Three signs are taken, each far from what sound runs do:

* the temperature of three rows in a row is more than ``temperature`` times that of the thermostat (or of the first row,
  where that is higher; not where atoms start at rest without a thermostat). Of few atoms the temperature fluctuates
  more: with :math:`f` degrees of freedom the factor is at least the quantile of :math:`\chi^2_f / f` that one row in
  10^12 exceeds;
* the conserved quantity moves in the same direction by more than ``conserved`` eV per atom and picosecond in three
  intervals of half a picosecond one after the other;
* an atom of an isolated structure is farther than ``distance`` Å from all others, and three times as far as any atom
  was at the start.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipi_driver.client.record import Recorded
from ipi_driver.client.settings import WatchSettings
from ipi_driver.ipi_files.input import read_input
from ipi_driver.ipi_files.units import BOHR, ipi_factor
from ipi_driver.runs.monitor import Progress
from ipi_driver.structure import FloatArray
from ipi_driver.units import FS_PER_PS

_ROWS = 3
"""Rows, or intervals, one after the other that are beyond a limit."""
_REST = 1.0
"""K: without a thermostat, what starts colder is at rest, and gets as hot as its own forces make it."""
_SIGMAS = 7.03
"""Of a normal distribution, which one in 10^12 exceeds."""
_WINDOW = 500.0
"""fs over which the conserved quantity is averaged."""


@dataclass(frozen=True)
class Alarm:
    """What is wrong, and the last step at which it was not yet."""

    reason: str
    good_step: int


class PhysicsWatch:
    """Looks at each new row of a run and at the configurations that the client evaluates.

    Parameters
    ----------
    folder
        The run folder.
    n_atoms
        Number of atoms.
    isolated
        Whether the structure is not periodic in any direction.
    limits
        See the module; a limit of None is not looked at.
    """

    def __init__(self, folder: Path, n_atoms: int, isolated: bool, limits: WatchSettings) -> None:
        settings = read_input(folder / "input.xml")
        self._limits, self._n_atoms, self._isolated = limits, n_atoms, isolated
        self._dynamics = settings.motion in ("", "dynamics")
        self._timestep, self._target = settings.timestep, settings.temperature
        self._first: float | None = None
        self._hot = 0
        self._cool = _ROWS  # the start counts as sound
        self._good = 0
        self._window: list[tuple[float, float]] = []
        self._means: deque[tuple[float, float]] = deque(maxlen=_ROWS + 1)
        self._first_distance: float | None = None
        self._looked_at = 0

    def look(self, rows: list[Progress], record: Recorded | None) -> Alarm | None:
        """What is wrong with the rows that are new, or with the configuration; None where nothing is."""
        if not self._dynamics:
            return None
        for row in rows:
            reason = self._temperature(row) or self._conserved(row)
            if reason is not None:
                return Alarm(f"{reason} at step {row.step}", self._good)
        reason = self._distance(record)
        return None if reason is None else Alarm(reason, self._good)

    def _temperature(self, row: Progress) -> str | None:
        limit = self._limits.temperature
        if limit is None or "temperature" not in row.columns:
            self._good = row.step
            return None
        kelvin = row.temperature * _factor("temperature", row.units[0])
        if not math.isfinite(kelvin):
            return f"the temperature is {kelvin}"
        if self._first is None:
            self._first = kelvin
        reference = max(self._target or 0.0, self._first)
        if reference < _REST:
            self._good = row.step
            return None
        factor = max(limit, _quantile(max(3 * self._n_atoms - 3, 1)))
        self._hot = self._hot + 1 if kelvin > factor * reference else 0
        # between two hot rows of a molecule that is torn apart it may be cool for a moment
        self._cool = self._cool + 1 if kelvin <= 0.5 * factor * reference else 0
        if self._cool >= _ROWS:
            self._good = row.step
        if self._hot < _ROWS and kelvin < 10.0 * factor * reference:
            return None
        of = (
            f"{self._target:g} K of the run"
            if reference == self._target
            else f"{reference:.4g} K of its start"
        )
        return f"the temperature is {kelvin:.4g} K, {kelvin / reference:.3g} times the {of}"

    def _conserved(self, row: Progress) -> str | None:
        limit = self._limits.conserved
        if limit is None or self._timestep is None or "conserved" not in row.columns:
            return None
        energy = row.conserved * _factor("energy", row.units[1])
        if not math.isfinite(energy):
            return f"the conserved quantity is {energy}"
        time = row.step * self._timestep
        if self._window and time // _WINDOW > self._window[0][0] // _WINDOW:
            times, energies = np.transpose(self._window)
            self._means.append((float(times.mean()), float(energies.mean())))
            self._window = []
        self._window.append((time, energy))
        if len(self._means) <= _ROWS:
            return None
        times, energies = np.transpose(self._means)
        rates = FS_PER_PS * np.diff(energies) / np.diff(times) / self._n_atoms
        if abs(np.sign(rates).sum()) < _ROWS or np.abs(rates).min() <= limit:
            return None
        self._good = min(self._good, int(times[0] / self._timestep))
        return f"the conserved quantity changes by {rates[-1]:.3g} eV per atom and ps"

    def _distance(self, record: Recorded | None) -> str | None:
        limit = self._limits.distance
        if limit is None or not self._isolated or record is None or record.count == self._looked_at:
            return None
        self._looked_at = record.count
        farthest = _farthest(record.positions * BOHR)
        if self._first_distance is None:
            self._first_distance = farthest
        if farthest <= max(limit, 3.0 * self._first_distance):
            return None
        return f"the atoms fly apart: one is {farthest:.4g} Å from all others"


def _quantile(n_degrees: int) -> float:
    """What one in 10^12 of chi-squared over its number of degrees of freedom exceeds (Wilson and Hilferty)."""
    width = 2.0 / (9.0 * n_degrees)
    return float((1.0 - width + _SIGMAS * math.sqrt(width)) ** 3)


def _farthest(positions: FloatArray) -> float:
    """Largest of the distances from each atom to its nearest neighbor; 0 of a single atom, infinite if not finite."""
    if len(positions) < 2:
        return 0.0
    if not np.isfinite(positions).all():
        return math.inf
    from scipy.spatial import KDTree

    distances, _ = KDTree(positions).query(positions, k=2)
    return float(distances[:, 1].max())


def _factor(dimension: str, unit: str) -> float:
    return 1.0 if unit in ("K", "eV") else ipi_factor(dimension, "" if unit == "a.u." else unit)
