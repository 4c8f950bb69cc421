r"""Symmetry error: the difference between an average and the average over a reference grid.

With :math:`\bar F^A_{ia}` the forces averaged over the grid A and R the reference grid, over the structures
of a data set:

* energy: mean and maximum over structures of :math:`|\bar E^A - \bar E^R|`, per structure and per atom;
* forces: mean over structures, atoms and components, and maximum, of :math:`|\bar F^A_{ia} - \bar F^R_{ia}|`;
* torque (isolated structures): mean of :math:`|\sum_i (r_i - r_{cm}) \times \bar F^A_i|`, zero for an
  invariant energy;
* stress (periodic structures): mean over structures and components of :math:`|\bar\sigma^A - \bar\sigma^R|`;
* heating: mean over structures and atoms of :math:`|\bar F^A_i - \bar F^R_i|^2 / 2 m_i`. Deviations of this size that
  are drawn anew at every step of length dt are white noise: they add this energy times dt per unit of time.

Langer, Pozdnyakov, Ceriotti, Mach. Learn.: Sci. Technol. 5, 04LT01 (2024), table 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_masses

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.pool import RotationPool
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import FloatArray, Prediction, Structure
from ipi_driver.units import DALTON, GPA

_MOST_REPEATS = 20
_TIMING_SECONDS = 0.2
LONGEST_TIMING = 5.0
"""Seconds: an average that takes longer per structure is not run again only to be timed."""


@dataclass(frozen=True)
class AverageError:
    """One row of the table: an average on a data set. Energies in eV, forces in eV/Å.

    Attributes
    ----------
    data_set, average
        Names.
    n_structures, n_rotations
        Counts.
    energy_mae, energy_max, energy_mae_per_atom
        eV.
    energy_mae_centred
        eV, of the differences less their mean over structures, which shifts all energies alike; NaN of one.
    force_mae, force_max
        eV/Å.
    torque
        Mean modulus, eV; None where no structure is isolated.
    stress_mae
        GPa; None where no structure is periodic or the potential has no virial.
    heating
        Per atom, eV/fs². Its product with the time step is the rate at which a simulation heats if its forces have such
        an error, drawn anew at every step. The value of the raw result is that of random rotations.
    seconds
        Time of one evaluation; NaN until measured.
    is_reference
        Whether this is the reference average.
    n_orientations
        In which each structure was evaluated.
    """

    data_set: str
    average: str
    n_structures: int
    n_rotations: int
    energy_mae: float
    energy_max: float
    energy_mae_per_atom: float
    force_mae: float
    force_max: float
    torque: float | None
    stress_mae: float | None
    heating: float
    seconds: float
    is_reference: bool
    energy_mae_centred: float = float("nan")
    n_orientations: int = 1


def symmetry_errors(
    potential: Potential,
    data_sets: Mapping[str, Sequence[Structure]],
    averages: Sequence[Quadrature],
    reference: Quadrature,
    seed: int = 0,
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
    masses: Mapping[str, Sequence[FloatArray] | None] | None = None,
) -> list[AverageError]:
    """Errors of every average on every data set; each different rotation of a structure is evaluated once.

    ``masses`` are those of each structure of each data set, (n_atoms,) dalton; None: natural ones.
    """
    grids = {grid.name: grid for grid in (*averages, reference)}
    pool, names = RotationPool(list(grids.values()), seed), list(grids)
    chunks = RotationChunks(potential, rotation_batch)
    rows = []
    for data_set, structures in data_sets.items():
        predictions = [pool.averages(chunks, structure, progress) for structure in structures]
        for k, name in enumerate(names):
            pairs = [(row[k], row[names.index(reference.name)]) for row in predictions]
            given = None if masses is None else masses.get(data_set)
            rows.append(_row(data_set, name, structures, pairs, name == reference.name, given))
    return rows


def _row(
    data_set: str,
    name: str,
    structures: Sequence[Structure],
    pairs: list[tuple[Prediction, Prediction]],
    is_reference: bool,
    masses: Sequence[FloatArray] | None,
) -> AverageError:
    differences = np.array([a.energy - r.energy for a, r in pairs])
    energy = np.abs(differences)
    centered = np.abs(differences - differences.mean()).mean() if len(pairs) > 1 else np.nan
    n_atoms = np.array([max(s.n_atoms, 1) for s in structures])
    forces = np.concatenate([np.abs(a.forces - r.forces).ravel() for a, r in pairs])
    torques = [float(np.linalg.norm(a.net_torque)) for a, _ in pairs if a.net_torque is not None]
    stresses = [
        float(np.abs(a.virial - r.virial).mean()) / s.volume * GPA
        for s, (a, r) in zip(structures, pairs, strict=True)
        if s.pbc.all() and a.virial is not None and r.virial is not None
    ]
    if masses is None:
        masses = [atomic_masses[s.numbers] for s in structures]
    powers = [
        ((a.forces - r.forces) ** 2).sum(axis=1) / (2.0 * DALTON * m)
        for m, (a, r) in zip(masses, pairs, strict=True)
    ]
    return AverageError(
        data_set=data_set,
        average=name,
        n_structures=len(structures),
        n_rotations=pairs[0][0].n_rotations,
        energy_mae=float(energy.mean()),
        energy_max=float(energy.max()),
        energy_mae_per_atom=float((energy / n_atoms).mean()),
        force_mae=float(forces.mean()),
        force_max=float(forces.max()),
        torque=float(np.mean(torques)) if torques else None,
        stress_mae=float(np.mean(stresses)) if stresses else None,
        heating=float(np.concatenate(powers).mean()),
        seconds=float("nan"),
        is_reference=is_reference,
        energy_mae_centred=float(centered),
    )


def time_averages(
    potential: Potential,
    structure: Structure,
    averages: Sequence[Quadrature],
    rotation_batch: int | None = None,
    longest: float = LONGEST_TIMING,
) -> dict[str, float]:
    """Seconds that one evaluation of each average takes, the least of two to twenty runs.

    The atoms move a little between the runs, as in a simulation: a result that the potential keeps of the
    structure before is no evaluation. `Potential.warm_up` evaluations of each size come before and are not counted.

    An average that would take longer than ``longest`` is scaled from the number of rotations of the last one
    measured: rotations are then evaluated in several calls of the same size.
    """
    seconds: dict[str, float] = {}
    moves = np.random.default_rng(0)

    def moved() -> Structure:
        step = 1e-6 * moves.standard_normal(structure.positions.shape)  # Å
        return replace(structure, positions=structure.positions + step)

    per_rotation = 0.0
    for grid in sorted(averages, key=len):
        name, n_rotations = grid.name, len(grid)
        if per_rotation * n_rotations > longest:
            seconds[name] = per_rotation * n_rotations
            continue
        averaged = RotationalAverage(potential, grid, rotation_batch=rotation_batch)
        for _ in range(potential.warm_up):
            averaged.predict(moved())
        best, spent = float("inf"), 0.0
        for repeat in range(_MOST_REPEATS):
            atoms = moved()
            start = time.perf_counter()
            averaged.predict(atoms)
            elapsed = time.perf_counter() - start
            best, spent = min(best, elapsed), spent + elapsed
            if repeat > 0 and spent > _TIMING_SECONDS:
                break
        seconds[name] = best
        if not grid.own_frames:  # their number depends on the structure
            per_rotation = best / n_rotations
    return seconds
