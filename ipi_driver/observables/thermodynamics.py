"""Kinetic temperature by element, drift of the conserved quantity and what its fluctuations say of it.

``T_a = sum_{i in a} m_i |v_i - V|² / (3 kB (N_a - M_a / M))`` with V the velocity of the centre of mass, N_a
and M_a the number and the mass of the atoms of element a and M the total mass: removing V takes ``3 M_a / M``
degrees of freedom from element a.

The drift is the least-squares slope of the conserved quantity. What it fluctuates by is a random walk where
the forces are noisy, so its error comes from the increments between the means of n blocks of duration t:
``error = sqrt(9/5) std(increments) / (t sqrt(n - 1))``. For a random walk the increments of block means have
2/3 of the variance of the walk over t, and the fitted slope 6/5 of that of its end-to-end slope: the error is
right. For uncorrelated noise it is too large.

The work W that noisy forces or a coarse time step do on a system at temperature T obeys ``<exp(-W / kT)> = 1``
(Jarzynski, Phys. Rev. Lett. 78, 2690 (1997); of integrators Sivak, Chodera, Crooks, Phys. Rev. X 3, 011007
(2013)), so that weak dissipation follows from the fluctuations, ``<W> = var(W) / 2 kT``: a drift of
``S(0) / 2 kT`` with S the spectral density of the rate of W. A drift that is lost in the random walk of W is known
from the size of its steps, as a diffusion coefficient is. What the energy only borrows, such as the error of the
time step that comes back with every vibration, has a density that vanishes at frequency 0: S is the mean over the
lowest frequencies, and too large rather than too small where something slower is borrowed.
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import Estimate, block_average, correlation_time
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import DALTON, FS_PER_NS, FS_PER_PS, KB

SLOWEST_BORROWED = 2000.0
"""Shortest period, fs, taken for low in the spectrum of the conserved quantity: vibrations have lost their phase and
energy by then, and molecules their librations."""

_FEWEST_MODES = 8
"""Periods of `SLOWEST_BORROWED` in the shortest run: below, the error of a mean of squares is not normal."""
_SAMPLE = 100.0
"""Means over this time, fs, are what the spectrum is made of: the period of an O–H stretch is a tenth of it."""


class KineticTemperature:
    """Kinetic temperature of each element, streamed (one number per element and frame is kept).

    Parameters
    ----------
    numbers
        (n_atoms,) atomic numbers.
    masses
        (n_atoms,) dalton.
    """

    def __init__(self, numbers: IntArray, masses: FloatArray) -> None:
        self.masses = np.asarray(masses, dtype=np.float64)
        elements = sorted(set(numbers.tolist()))
        self.symbols = [chemical_symbols[z] for z in elements]
        members = np.array([numbers == z for z in elements])
        fractions = members @ self.masses / self.masses.sum()
        self._freedom = 3.0 * (members.sum(axis=1) - fractions)
        if len(numbers) < 2:
            raise UserError(
                "a kinetic temperature relative to the centre of mass needs at least 2 atoms, got 1"
            )
        self._members = members.astype(np.float64)
        self._series: list[FloatArray] = []

    def add(self, velocities: FloatArray) -> None:
        """Add the (n_atoms, 3) velocities of one frame, Å/fs."""
        centre = self.masses @ velocities / self.masses.sum()
        relative = velocities - centre
        twice_kinetic = DALTON * self.masses * np.einsum("ix,ix->i", relative, relative)
        self._series.append(self._members @ twice_kinetic / (self._freedom * KB))

    @property
    def series(self) -> FloatArray:
        """(n_frames, n_elements) in K."""
        return np.array(self._series)

    def result(self, spacing: float) -> dict[str, Estimate]:
        """Temperature of each element in K; ``spacing`` is the time between frames in fs.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average.
        """
        series = self.series
        return {symbol: block_average(series[:, k], spacing) for k, symbol in enumerate(self.symbols)}


def drift(conserved: ArrayLike, times: ArrayLike, n_molecules: int, n_blocks: int = 10) -> Estimate:
    """Drift of the conserved quantity per molecule and ns.

    Parameters
    ----------
    conserved
        (n,) eV.
    times
        (n,) fs.
    n_molecules
        Molecules in the cell.
    n_blocks
        Blocks whose means give the increments.

    Returns
    -------
    Estimate
        Scalar, eV per molecule per ns; ``correlation_time`` is that of the residuals.

    Raises
    ------
    UserError
        If there are fewer than two rows per block.
    """
    energy, t = np.asarray(conserved, dtype=np.float64), np.asarray(times, dtype=np.float64)
    per_block = len(energy) // n_blocks
    if per_block < 2:
        raise UserError(
            f"too short for a block average: the drift needs at least {2 * n_blocks} rows of the "
            f"conserved quantity, "
            f"got {len(energy)}; run longer"
        )
    scale = FS_PER_NS / n_molecules
    slope, offset = np.polyfit(t - t[0], energy - energy[0], 1)
    residuals = energy - energy[0] - offset - slope * (t - t[0])
    spacing = float((t[-1] - t[0]) / (len(t) - 1))
    means = energy[: n_blocks * per_block].reshape(n_blocks, per_block).mean(axis=1)
    rates = np.diff(means) / (per_block * spacing)
    error = np.sqrt(9.0 / 5.0) * rates.std(ddof=1) / np.sqrt(n_blocks - 1)
    tau = correlation_time(residuals, spacing)
    return Estimate(
        np.asarray(slope * scale),
        np.asarray(error * scale),
        tau,
        per_block * spacing,
        n_blocks,
        rates * scale,
    )


def dissipation(conserved: ArrayLike, times: ArrayLike, n_molecules: int, temperature: float) -> Estimate:
    """Drift that the fluctuations of the conserved quantity imply, per molecule and ns.

    It does not use the drift itself, which is taken out. It holds near equilibrium, for dynamics that are reversible
    in time: symplectic integrators, multiple time stepping, forces in random frames, with or without a thermostat.

    Parameters
    ----------
    conserved
        (n,) eV, at equal spacing.
    times
        (n,) fs.
    n_molecules
        Molecules in the cell.
    temperature
        K.

    Returns
    -------
    Estimate
        Scalar, eV per molecule per ns, of ``n_blocks`` modes of periods from `SLOWEST_BORROWED` on, whose squares are
        ``blocks``; they have no correlation time and no length.

    Raises
    ------
    UserError
        If the run is shorter than eight periods or its rows further apart than half of one.
    """
    energy, t = np.asarray(conserved, dtype=np.float64), np.asarray(times, dtype=np.float64)
    spacing = float((t[-1] - t[0]) / (len(t) - 1)) if len(t) > 1 else 0.0
    per_sample = max(1, round(_SAMPLE / spacing)) if spacing > 0.0 else 1
    step = per_sample * spacing
    n_samples = len(energy) // per_sample
    n_modes = int((n_samples - 1) * step / SLOWEST_BORROWED * (1.0 + 1e-9))
    if n_modes < _FEWEST_MODES:
        need = (_FEWEST_MODES * SLOWEST_BORROWED + 2.0 * step) / FS_PER_PS
        raise UserError(
            f"too short for the spectrum of the conserved quantity: it needs {need:.3g} ps, "
            f"got {len(energy) * spacing / FS_PER_PS:.3g} ps; run longer"
        )
    if step > 0.5 * SLOWEST_BORROWED:
        raise UserError(
            f"the rows of the conserved quantity are {step:g} fs apart, too far for its spectrum: expected at most "
            f"{0.5 * SLOWEST_BORROWED:g} fs; lower the stride of the properties"
        )
    means = energy[: n_samples * per_sample].reshape(n_samples, per_sample).mean(axis=1)
    increments = np.diff(means)
    n = len(increments)
    density = np.abs(np.fft.rfft(increments - increments.mean())) ** 2 / (n * step)
    phases = 2.0 * np.pi * np.arange(len(density)) / n
    if per_sample > 1:
        # neighbouring differences of means over a sample share a sixth of the walk's variance
        density = density / (2.0 / 3.0 + np.cos(phases) / 3.0)
    rates = density[1 : n_modes + 1] / (2.0 * KB * temperature) * FS_PER_NS / n_molecules
    value = rates.mean()
    # each mode is a sum of two squares, with a standard deviation as large as its mean
    error = value / np.sqrt(n_modes)
    return Estimate(np.asarray(value), np.asarray(error), np.nan, np.nan, n_modes, rates)
