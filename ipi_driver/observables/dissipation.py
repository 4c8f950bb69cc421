r"""How fast noisy forces or a coarse time step heat a run, from the fluctuations of the conserved quantity.

The work W that they do on a system at temperature T obeys ``<exp(-W / kT)> = 1`` (Jarzynski, Phys. Rev. Lett. 78,
2690 (1997); of integrators Sivak, Chodera, Crooks, Phys. Rev. X 3, 011007 (2013)), so that weak dissipation follows
from the fluctuations, ``<W> = var(W) / 2 kT``: a drift of ``S(0) / 2 kT`` with S the spectral density of the rate of
W. A drift that is lost in the random walk of W is known from the size of its steps, as a diffusion coefficient is.

What the energy only borrows, such as the error of the time step that comes back with every vibration, is bounded: the
density of its rate starts as the square of the frequency, below the slowest motion that borrows. Noisy forces have a
flat one, and an outer step a density that changes as slowly as the lines near its harmonics are broad, several THz for
the vibrations of a liquid. So up to `HIGHEST_FREQUENCY` the density is ``a + b f²``, and a is what remains. Maximum
likelihood finds both (Whittle, J. R. Stat. Soc. B 15, 125 (1953)), in a spectrum of sine tapers (Riedel and Sidorenko,
IEEE Trans. Signal Process. 43, 188 (1995)): without tapers what happens to be borrowed at the first and the last row
counts as work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray
from ipi_driver.units import FS_PER_NS, FS_PER_PS, KB

HIGHEST_FREQUENCY = 2.5e-3
"""1/fs: 83 cm-1. Vibrations and librations of water are far above it; raw water borrows as f² to twice that."""

FEWEST_MODES = 24
"""Frequencies of the shortest run: with fewer the error of the fit is not normal."""

_TAPERS = 5
_VARIANCE = 1.0 + 0.5 / _TAPERS
"""Of the mean over many frequencies, relative to that without tapers, where each varies by as much as its value."""
_SKIPPED = (_TAPERS + 1) // 2
"""Lowest frequencies that are not used: their tapers reach those where the drift has been taken out."""
_SAMPLE = 25.0
"""Means over this time, fs, are what the spectrum is made of: it needs no vibrations that rows of every step hold."""
_BANDS_PER_DECADE = 10


@dataclass(frozen=True, eq=False)
class HeatingSpectrum:
    """Spectral density of the rate of the conserved quantity over 2 kT: its value at frequency 0 is the heating.

    Attributes
    ----------
    frequencies
        (n,) 1/fs.
    density
        (n,) eV per molecule per ns.
    sampling
        Samples of the energy per fs.
    spacing, length
        Of the rows and of the run, fs.
    """

    frequencies: FloatArray
    density: FloatArray
    sampling: float
    spacing: float
    length: float

    def bands(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Means over ten bands per decade: frequencies (1/fs), density and its standard error (eV/molecule/ns)."""
        f, density = self.frequencies[_SKIPPED:], self.density[_SKIPPED:]
        band = np.floor(_BANDS_PER_DECADE * np.log10(f / f[0]) + 1e-9).astype(int)
        bands, band, counts = np.unique(band, return_inverse=True, return_counts=True)
        means = [np.bincount(band, weights=x, minlength=len(bands)) / counts for x in (f, density)]
        return means[0], means[1], means[1] * np.sqrt(_VARIANCE / counts)


def heating_spectrum(
    conserved: ArrayLike, times: ArrayLike, n_molecules: int, temperature: float
) -> HeatingSpectrum:
    """Spectral density of the rate of the conserved quantity, its mean rate taken out.

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

    Raises
    ------
    UserError
        If there are fewer than 16 rows.
    """
    energy, t = np.asarray(conserved, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if len(energy) < 16:
        raise UserError(
            f"too short for the spectrum of the conserved quantity: it needs 16 rows, got {len(energy)}"
        )
    length = float(t[-1] - t[0])
    spacing = length / (len(t) - 1)
    per_sample = max(1, min(round(_SAMPLE / spacing), len(energy) // 16))
    step, n_samples = per_sample * spacing, len(energy) // per_sample
    increments = np.diff(energy[: n_samples * per_sample].reshape(n_samples, per_sample).mean(axis=1))
    increments -= increments.mean()
    n = len(increments)
    tapers = np.sin(np.pi * np.outer(np.arange(1, _TAPERS + 1), np.arange(1, n + 1)) / (n + 1))
    density: FloatArray = (
        np.mean(np.abs(np.fft.rfft(tapers * increments)) ** 2, axis=0) * 2.0 / ((n + 1) * step)
    )
    frequencies: FloatArray = np.fft.rfftfreq(n, step).astype(np.float64)
    # of a walk, differences of means over m rows have a variance lower by (2 m² + 1) / 3 m², and neighbors share some
    third = 1.0 / (3.0 * per_sample**2)
    density /= 2.0 / 3.0 + third + (1.0 / 3.0 - third) * np.cos(2.0 * np.pi * frequencies * step)
    scale = FS_PER_NS / (2.0 * KB * temperature * n_molecules)
    return HeatingSpectrum(frequencies, density * scale, 1.0 / step, spacing, length)


def dissipation(spectrum: HeatingSpectrum) -> Estimate:
    """Drift that the fluctuations of the conserved quantity imply, per molecule and ns.

    It does not use the drift itself, which is taken out. It holds near equilibrium, for dynamics that are reversible
    in time: symplectic integrators, multiple time stepping, forces in random frames, with or without a thermostat.

    Returns
    -------
    Estimate
        Scalar, eV per molecule per ns. ``blocks`` are the densities at the ``n_blocks`` frequencies behind it; they
        have no correlation time and no length.

    Raises
    ------
    UserError
        If the run has fewer than `FEWEST_MODES` frequencies up to `HIGHEST_FREQUENCY`, or up to a quarter of the rate
        of the rows where that is less.
    """
    highest = min(HIGHEST_FREQUENCY, 0.25 * spectrum.sampling)
    used = spectrum.frequencies <= highest * (1.0 + 1e-9)
    used[:_SKIPPED] = False
    if used.sum() < FEWEST_MODES:
        need = (FEWEST_MODES + _SKIPPED) / highest + 2.0 / spectrum.sampling
        raise UserError(
            f"too short for the spectrum of the conserved quantity: rows {spectrum.spacing:g} fs "
            f"apart need {need / FS_PER_PS:.3g} ps, got {spectrum.length / FS_PER_PS:.3g} ps; run longer"
        )
    rates = spectrum.density[used]
    value, error = _floor(spectrum.frequencies[used] / highest, rates)
    return Estimate(np.asarray(value), np.asarray(error), np.nan, np.nan, len(rates), rates)


def _floor(x: FloatArray, density: FloatArray) -> tuple[float, float]:
    """Value at x = 0 of ``a + b x²`` from densities at x in (0, 1], and its standard error."""
    top = float(density.max())
    if not top > 0.0:
        return 0.0, 0.0
    # by the values at x = 0 and 1, both positive: b may be negative, so that a flat density gives an unbiased a
    terms = np.array([1.0 - x**2, x**2])
    scaled = density / top

    def loss(logs: FloatArray) -> tuple[float, FloatArray]:
        ends = np.exp(logs)
        model = ends @ terms
        slope = ends * (terms @ (1.0 / model - scaled / model**2))
        return float((np.log(model) + scaled / model).sum()), slope

    third = len(x) // 3
    start = np.log([scaled[:third].mean(), scaled[-third:].mean()])
    # a drift of less than 1e-9 of the density at the highest frequency is no drift
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-20.0, 5.0)] * 2)
    ends = np.exp(found.x)
    weighted = terms / (ends @ terms)
    covariance = np.linalg.inv(weighted @ weighted.T) * _VARIANCE
    return float(ends[0]) * top, float(np.sqrt(covariance[0, 0])) * top
