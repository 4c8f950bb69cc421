"""Kinetic temperature by element and drift of the conserved quantity.

``T_a = sum_{i in a} m_i |v_i - V|² / (3 kB (N_a - M_a / M))`` with V the velocity of the center of mass, N_a
and M_a the number and the mass of the atoms of element a and M the total mass: removing V takes ``3 M_a / M``
degrees of freedom from element a.

The drift is the least-squares slope of the conserved quantity. What it fluctuates by is a random walk where
the forces are noisy, so its error comes from the increments between the means of n blocks of duration t:
``error = sqrt(9/5) std(increments) / (t sqrt(n - 1))``. For a random walk the increments of block means have
2/3 of the variance of the walk over t, and the fitted slope 6/5 of that of its end-to-end slope: the error is
right. For uncorrelated noise it is too large.
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import Estimate, block_average, correlation_time
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import DALTON, FS_PER_NS, KB


class KineticTemperature:
    """Kinetic temperature of each element, streamed (one number per element and snapshot is kept).

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
                "a kinetic temperature relative to the center of mass needs at least 2 atoms, got 1"
            )
        self._members = members.astype(np.float64)
        self._series: list[FloatArray] = []

    def add(self, velocities: FloatArray) -> None:
        """Add the (n_atoms, 3) velocities of one snapshot, Å/fs."""
        center = self.masses @ velocities / self.masses.sum()
        relative = velocities - center
        twice_kinetic = DALTON * self.masses * np.einsum("ix,ix->i", relative, relative)
        self._series.append(self._members @ twice_kinetic / (self._freedom * KB))

    @property
    def series(self) -> FloatArray:
        """(n_snapshots, n_elements) in K."""
        return np.array(self._series)

    def result(self, spacing: float) -> dict[str, Estimate]:
        """Temperature of each element in K; ``spacing`` is the time between snapshots in fs.

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
