r"""Does the total energy stay constant? A short run at constant energy with the raw forces, without i-PI.

Velocity Verlet from a structure as it stands, with velocities of Maxwell and Boltzmann. The total energy H of exact
derivatives only oscillates, by the square of the time step; forces that are no derivatives, or that jump, make it
drift. The means of H over equal blocks of time, after the first tenth, are fitted by a line: its slope and the standard
error of that are the drift.

.. math::  H(t) = E(x) + \tfrac12 \sum_i m_i v_i^2 .
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_masses

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, no_progress
from ipi_driver.structure import FloatArray, Prediction, Structure
from ipi_driver.units import DALTON, FS_PER_PS, KB

FEWEST_STEPS, N_BLOCKS = 80, 8
ACCEPTABLE = 1e-5
"""eV per atom and ps: 0.04 K per ps of a classical solid, which any thermostat takes away."""
_START = 0.1
"""Share of the run that is left out: H of the discrete steps settles there."""
_MOST_SECONDS = 120.0
_BROKEN = 20.0
"""Times the temperature of the start at which a run counts as broken."""


@dataclass(frozen=True, eq=False)
class Drift:
    """A short run at constant energy.

    Attributes
    ----------
    rate, error
        Slope of the total energy and its standard error, eV per atom and ps.
    fluctuation
        Root mean square of the total energy about that line, eV per atom.
    temperature
        Mean of the run, K.
    time_step
        fs.
    times, energies
        (n_steps + 1,) fs, and the total energy minus that of the start, eV per atom.
    broken
        Whether the temperature or an energy left all bounds, and the run ended there; the numbers are NaN then.
    """

    rate: float
    error: float
    fluctuation: float
    temperature: float
    time_step: float
    times: FloatArray
    energies: FloatArray
    broken: bool = False

    @property
    def resolved(self) -> bool:
        """Whether the slope is more than three times its error, as 2.4 % of runs without a drift show."""
        return abs(self.rate) > 3.0 * self.error

    @property
    def acceptable(self) -> bool:
        """Whether the run holds, and its drift is below `ACCEPTABLE` or not resolved."""
        return not self.broken and (abs(self.rate) <= ACCEPTABLE or not self.resolved)


def nve_drift(
    potential: Potential,
    structure: Structure,
    n_steps: int = 1000,
    time_step: float = 0.5,
    temperature: float = 300.0,
    seed: int = 0,
    masses: FloatArray | None = None,
    progress: Progress = no_progress,
) -> Drift:
    """Run a structure at constant energy.

    Parameters
    ----------
    potential
        Evaluated once for each step, unrotated.
    structure
        The start.
    n_steps
        Steps, at least `FEWEST_STEPS`; fewer are made where they take more than two minutes.
    time_step
        fs.
    temperature
        Of the velocities at the start, K.
    seed
        Of these velocities.
    masses
        (n_atoms,) dalton; None: the elements' natural ones.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ipi_driver import Structure, load_potential
    >>> found = nve_drift(load_potential("pet-water-s2"), Structure.from_atoms(molecule("H2O")), 200, 0.25)
    >>> found.broken, bool(abs(found.rate) < 1e-3)
    (False, True)
    """
    if masses is None:
        masses = np.asarray(atomic_masses)[structure.numbers]
    inertia = DALTON * np.asarray(masses, dtype=np.float64)[:, None]
    velocities = _velocities(inertia, temperature, seed)
    positions = structure.positions.copy()
    result = potential.predict(structure)
    degrees = max(positions.size - (3 if len(positions) > 1 else 0), 1)
    totals, temperatures = [], []

    def record(found: Prediction) -> bool:
        """Whether all is finite and no atom far too fast."""
        twice = float((inertia * velocities**2).sum())
        totals.append(found.energy + 0.5 * twice)
        temperatures.append(twice / (KB * degrees))
        return bool(np.isfinite(totals[-1])) and temperatures[-1] < _BROKEN * max(temperature, 1.0)

    sound, began = record(result), time.perf_counter()
    for step in range(n_steps):
        if not sound or (step >= FEWEST_STEPS and time.perf_counter() - began > _MOST_SECONDS):
            break
        velocities += 0.5 * time_step * result.forces / inertia
        positions += time_step * velocities
        result = potential.predict(replace(structure, positions=positions.copy()))
        velocities += 0.5 * time_step * result.forces / inertia
        sound = record(result)
        progress(1)
    energies: FloatArray = (np.array(totals) - totals[0]) / structure.n_atoms
    times: FloatArray = time_step * np.arange(len(energies), dtype=np.float64)
    if not sound:
        return Drift(np.nan, np.nan, np.nan, float(temperatures[-1]), time_step, times, energies, True)
    rate, error, fluctuation = _slope(times, energies)
    return Drift(
        FS_PER_PS * rate,
        FS_PER_PS * error,
        fluctuation,
        float(np.mean(temperatures)),
        time_step,
        times,
        energies,
    )


def _velocities(inertia: FloatArray, temperature: float, seed: int) -> FloatArray:
    """(n_atoms, 3) Å/fs without motion of the centre of mass."""
    noise = np.random.default_rng(seed).standard_normal((len(inertia), 3))
    velocities = np.sqrt(KB * temperature / inertia) * noise
    if len(inertia) > 1:
        velocities -= (inertia * velocities).sum(axis=0) / inertia.sum()
    return np.asarray(velocities)


def _slope(times: FloatArray, energies: FloatArray) -> tuple[float, float, float]:
    """Slope of block means, its standard error (both per fs), and the root mean square about the line."""
    first = int(_START * len(times))
    blocks = [np.array_split(values[first:], N_BLOCKS) for values in (times, energies)]
    x, y = (np.array([block.mean() for block in values]) for values in blocks)
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    rest = y - y.mean() - slope * centred
    error = float(np.sqrt((rest @ rest) / (N_BLOCKS - 2) / (centred @ centred)))
    residual = energies[first:] - y.mean() - slope * (times[first:] - x.mean())
    return slope, error, float(np.sqrt((residual**2).mean()))
