r"""Which multiple-time-step stride the correction (averaged minus raw forces) allows.

An outer step τ samples the correction at intervals τ. What the correction holds at frequencies of 1/(2τ)
and above is not resolved: it is aliased to lower frequencies, and it is what an impulse integrator's
resonances (outer step = n half periods, i.e. frequency n/(2τ)) feed on. The criterion is therefore that
this part, as a root-mean-square force, be below the tolerance at which force errors are accepted anyway:

.. math::  \sigma(\tau)^2 = \int_{1/2\tau}^\infty S_c(\nu)\, d\nu \le \text{tolerance}^2 ,

with :math:`S_c` the power spectrum of the correction along a trajectory, per force component. The
trajectory must be saved often enough to hold the fastest vibration: its own limit is 1/(2 spacing).

The heating that this part causes is computed in `ipi_driver.symmetry.heating`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.observables.spectra import Spectrum, power_spectrum
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, no_progress
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.rotations.quadrature import Quadrature
from ipi_driver.structure import FloatArray, IntArray, Structure
from ipi_driver.symmetry.heating import (
    COARSEST_SPACING,
    Heating,
    heating_of_strides,
    power_of_correction,
)
from ipi_driver.units import SPEED_OF_LIGHT

STRIDES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 40, 50)

N_WINDOWS = 7

FEWEST_SNAPSHOTS = 4 * (N_WINDOWS + 1) + 4
"""Fewest snapshots of a trajectory: 8 per window, and the first and last two, which have no velocities."""


@dataclass(frozen=True, eq=False)
class StrideTable:
    """Unresolved correction against the stride.

    Attributes
    ----------
    time_step
        Inner step, fs.
    strides
        (n,) inner steps per outer step.
    unresolved
        (n,) root-mean-square correction per component at frequencies the outer step does not resolve, eV/Å.
    total
        Root-mean-square fluctuation of the correction, eV/Å.
    recommended
        Largest stride with ``unresolved`` below the tolerance.
    tolerance
        eV/Å.
    limited_by_spacing
        Whether the recommended stride is the smallest one that the trajectory's spacing can judge, or more
        than 5 % of the correction's power lies in the upper fifth of its frequencies: save more often.
    correction, raw
        Spectra per force component of the correction and of the raw forces, (eV/Å)²/cm-1.
    heating
        Of a simulation by the outer step, eV per atom and fs; None for isolated molecules and for snapshots further
        apart than `COARSEST_SPACING`.
    """

    time_step: float
    strides: IntArray
    unresolved: FloatArray
    total: float
    recommended: int
    tolerance: float
    limited_by_spacing: bool
    correction: Spectrum
    raw: Spectrum
    heating: Heating | None = None


def correction_series(
    potential: Potential,
    structures: Sequence[Structure],
    average: Quadrature,
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
    inner: Potential | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Averaged minus raw forces, and raw forces, along a trajectory: two (n_snapshots, n_atoms, 3) arrays, eV/Å.

    With ``inner`` the raw forces are those of another potential, see `ipi_driver.symmetry.inner_forces`.

    Raises
    ------
    UserError
        If the atoms or their order change.
    """
    averaged = RotationalAverage(potential, average, rotation_batch=rotation_batch)
    corrections, raws = [], []
    for structure in structures:
        if not np.array_equal(structure.numbers, structures[0].numbers):
            counts = f"{structures[0].n_atoms} and {structure.n_atoms}"
            got = counts if structure.n_atoms != structures[0].n_atoms else "others or another order"
            raise UserError(f"--trajectory: all snapshots must hold the same atoms, got {got}")
        raw = (inner or potential).predict(structure)
        mean = averaged.predict(structure, raw=raw if inner is None else None)
        corrections.append(mean.forces - raw.forces)
        raws.append(raw.forces)
        progress(averaged.n_rotations)
    return np.array(corrections), np.array(raws)


def require_snapshots(n_snapshots: int, spacing: float, time_step: float) -> None:
    """Check a trajectory before anything is evaluated.

    Raises
    ------
    UserError
        If the trajectory is too short, or a time is not positive.
    """
    if not (spacing > 0 and time_step > 0):
        raise UserError(f"--spacing and --time-step must be positive, got {spacing} and {time_step} fs")
    if n_snapshots < FEWEST_SNAPSHOTS:
        raise UserError(
            f"--trajectory: expected at least {FEWEST_SNAPSHOTS} snapshots, got {n_snapshots}; use more of them "
            "(--max-snapshots, --skip-snapshots), or save more often"
        )


def stride_table(
    corrections: FloatArray,
    raws: FloatArray,
    spacing: float,
    time_step: float,
    tolerance: float,
    structures: Sequence[Structure] = (),
    masses: FloatArray | None = None,
) -> StrideTable:
    """Apply the criterion of this module.

    Parameters
    ----------
    corrections, raws
        From `correction_series`, eV/Å.
    spacing
        fs between the snapshots.
    time_step
        Inner step, fs.
    tolerance
        eV/Å.
    structures
        The snapshots, for the heating.
    masses
        (n_atoms,) dalton, for the heating; None: natural ones.

    Raises
    ------
    UserError
        As `require_snapshots`.
    """
    require_snapshots(len(corrections), spacing, time_step)
    per_component = np.sqrt(corrections[0].size)
    correction = power_spectrum(corrections / per_component, spacing, N_WINDOWS)
    raw = power_spectrum(raws / per_component, spacing, N_WINDOWS)
    frequencies = correction.wavenumbers * SPEED_OF_LIGHT
    power = correction.density * (correction.wavenumbers[1] - correction.wavenumbers[0])
    smallest = max(1, int(np.ceil(spacing / time_step - 1e-9)))
    strides = np.array(sorted({s for s in STRIDES if s >= smallest} | {smallest}))
    above = [power[frequencies >= 0.5 / (s * time_step) - 1e-12].sum() for s in strides]
    unresolved = np.sqrt(np.array(above))
    fine = strides[unresolved <= tolerance]
    recommended = int(fine.max()) if len(fine) else smallest
    edge = power[frequencies >= 0.8 * frequencies[-1]].sum()
    limited = smallest > 1 and (recommended == smallest or bool(edge > 0.05 * power.sum()))
    return StrideTable(
        time_step=time_step,
        strides=strides,
        unresolved=unresolved,
        total=float(np.sqrt(power.sum())),
        recommended=recommended,
        tolerance=tolerance,
        limited_by_spacing=limited,
        correction=correction,
        raw=raw,
        heating=_heating(corrections, structures, spacing, time_step, strides, masses),
    )


def _heating(
    corrections: FloatArray,
    structures: Sequence[Structure],
    spacing: float,
    time_step: float,
    strides: IntArray,
    masses: FloatArray | None,
) -> Heating | None:
    if not structures or not structures[0].periodic or spacing > COARSEST_SPACING:
        return None
    power, temperature = power_of_correction(corrections, structures, spacing, masses)
    if temperature <= 0.0:
        return None
    rates, errors = heating_of_strides(power, temperature, spacing, time_step, strides)
    n_atoms = structures[0].n_atoms
    return Heating(rates / n_atoms, errors / n_atoms)
