r"""Heating of a simulation that applies the correction (averaged minus raw forces) at every outer step τ.

The impulses do the work :math:`\tau \sum_n p(n\tau)`, with the power :math:`p = F_c \cdot v`, where the correction
itself would do :math:`\int p\, dt`. The difference, the error of that quadrature, diffuses at the rate
:math:`2 \sum_{k \ge 1} S_p(k/\tau)` with the (two-sided) spectral density of p, and by the fluctuation theorem (see
`ipi_driver.observables.dissipation`) the energy drifts by

.. math::  \dot E(\tau) = \frac{1}{kT} \sum_{k \ge 1} S_p(k / \tau) ,

to second order in the correction. p of a vibration has twice its frequency: an outer step of half a period of the O–H
stretch, 4.5 to 5 fs, is in resonance. Random rotations are the limit of a white p, where this becomes the heating of
`ipi_driver.symmetry.errors`. The lines of an isolated molecule are sharp and its phase does not
decay: the formula holds for liquids and solids.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from ase.data import atomic_masses

from ipi_driver.observables.molecules import bonded_groups, minimum_image
from ipi_driver.observables.spectra import power_spectrum
from ipi_driver.structure import FloatArray, IntArray, Structure
from ipi_driver.units import DALTON, KB, SPEED_OF_LIGHT

COARSEST_SPACING = 1.5
"""fs: with snapshots further apart an O–H stretch has fewer than 6 of them, too few for velocities by differences."""

_MANY_GROUPS = 32
_N_WINDOWS, _FEW_WINDOWS = 7, 3


class Heating(NamedTuple):
    """Rates at which outer steps heat a simulation, and their standard errors, (n,) each.

    NaN where 1/τ is beyond what the spacing resolves. The error is from the spread of the molecules, and NaN for one.
    """

    rate: FloatArray
    error: FloatArray


def power_of_correction(
    corrections: FloatArray,
    structures: Sequence[Structure],
    spacing: float,
    masses: FloatArray | None = None,
) -> tuple[FloatArray, float]:
    """Power of the correction forces in each molecule along a trajectory, and the temperature of the trajectory.

    Parameters
    ----------
    corrections
        (n_snapshots, n_atoms, 3) eV/Å.
    structures
        The n_snapshots snapshots.
    spacing
        fs between them.
    masses
        (n_atoms,) dalton; None: the elements' natural ones.

    Returns
    -------
    (n_snapshots - 4, n_molecules) eV/fs without the first and last two snapshots; K.
    """
    steps = np.array([minimum_image(b.positions - a.positions, b.cell) for a, b in pairwise(structures)])
    # central differences of fourth order in the spacing
    velocities = (7.0 * (steps[1:-2] + steps[2:-1]) - (steps[:-3] + steps[3:])) / (12.0 * spacing)
    if masses is None:
        masses = np.asarray(atomic_masses)[structures[0].numbers]
    twice_kinetic = DALTON * np.einsum("i,tix->t", masses, velocities**2)
    temperature = float(twice_kinetic.mean() / (3 * len(masses) * KB))
    atoms = np.einsum("tix,tix->ti", corrections[2:-2], velocities)
    groups = bonded_groups(structures[0])
    # the phases of neighbors are independent: the spectra of molecules add up, with less noise than that of the sum
    members = np.eye(int(groups.max()) + 1)[groups]
    return np.asarray(atoms @ members), temperature


def heating_of_strides(
    power: FloatArray, temperature: float, spacing: float, time_step: float, strides: IntArray
) -> Heating:
    """Rate at which outer steps of these strides heat the whole system, and its standard error.

    Parameters
    ----------
    power, temperature
        From `power_of_correction`.
    spacing
        fs between the samples.
    time_step
        Inner step, fs.
    strides
        (n,) inner steps per outer step.

    Returns
    -------
    In eV/fs.

    Raises
    ------
    UserError
        If the trajectory is too short.
    """
    n_molecules = power.shape[1]
    windows = _FEW_WINDOWS if n_molecules >= _MANY_GROUPS else _N_WINDOWS
    spectra = [power_spectrum(power[:, m], spacing, windows) for m in range(n_molecules)]
    frequencies = spectra[0].wavenumbers * SPEED_OF_LIGHT
    densities = np.array([spectrum.density for spectrum in spectra]) / SPEED_OF_LIGHT
    rates = np.full((len(strides), n_molecules), np.nan)
    for row, stride in enumerate(strides):
        harmonics = np.arange(1, int(frequencies[-1] * stride * time_step + 1e-9) + 1) / (stride * time_step)
        if len(harmonics):
            # one-sided density: twice the two-sided one
            at = [np.interp(harmonics, frequencies, density).sum() for density in densities]
            rates[row] = np.array(at) / (2.0 * KB * temperature)
    spread = rates.std(axis=1, ddof=1) if n_molecules > 1 else np.full(len(strides), np.nan)
    return Heating(rates.sum(axis=1), np.asarray(spread * np.sqrt(n_molecules)))
