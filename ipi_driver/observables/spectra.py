"""Power spectra of time series.

One-sided density ``S(nu)`` with ``int_0^inf S(nu) dnu = <x²> - <x>²``, by Welch's average over
half-overlapping Hann windows (IEEE Trans. Audio Electroacoust. 15, 70 (1967)); frequencies as wavenumbers
``nu / c`` in cm-1, so S is per cm-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import spectrogram

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray
from ipi_driver.units import SPEED_OF_LIGHT


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power spectral density.

    Attributes
    ----------
    wavenumbers
        (n,) cm-1.
    density
        (n,) unit of the series squared per cm-1.
    error
        (n,) standard error from the spread of the windows.
    n_windows
        Number of (half-overlapping) windows.
    """

    wavenumbers: FloatArray
    density: FloatArray
    error: FloatArray
    n_windows: int


STRETCH_WITH_HYDROGEN, STRETCH = 4000.0, 2400.0
"""cm-1: above the highest fundamental vibrations of molecules with hydrogen (O-H 3700, H-H alone 4400) and without."""


def nyquist(spacing: float) -> float:
    """Highest wavenumber, cm-1, that samples ``spacing`` fs apart resolve; what lies above is folded below it.

    Examples
    --------
    >>> round(nyquist(5.0))
    3336
    """
    return 0.5 / (spacing * SPEED_OF_LIGHT)


def highest_wavenumber(numbers: ArrayLike) -> float:
    """Wavenumber in cm-1 above the vibrations of atoms of these numbers; an energy moves at up to twice that."""
    return STRETCH_WITH_HYDROGEN if (np.asarray(numbers) == 1).any() else STRETCH


def regular_part(times: ArrayLike) -> tuple[slice, float]:
    """Longest part of a series in which no row is lost, and the time between its rows.

    Parameters
    ----------
    times
        (n,) fs, ascending; rows here and there may be lost.

    Returns
    -------
    tuple[slice, float]
        Which rows, and the most frequent time between two of them, fs; 0 of fewer than two rows.

    Examples
    --------
    >>> regular_part([0.0, 1.0, 1.5, 2.0, 2.5, 3.5])
    (slice(1, 5, None), 0.5)
    """
    intervals = np.diff(np.asarray(times, dtype=np.float64))
    if not len(intervals):
        return slice(None), 0.0
    usual = float(np.median(intervals))
    breaks = np.flatnonzero(np.abs(intervals - usual) > 0.1 * usual)
    edges = np.concatenate([[-1], breaks, [len(intervals)]])
    longest = int(np.diff(edges).argmax())
    return slice(int(edges[longest]) + 1, int(edges[longest + 1]) + 1), usual


def power_spectrum(series: ArrayLike, spacing: float, n_windows: int = 15) -> Spectrum:
    """Power spectral density of a series, summed over its components.

    Parameters
    ----------
    series
        (n,) or (n, ...) samples at equal spacing.
    spacing
        fs between samples.
    n_windows
        Half-overlapping windows; more give a smoother spectrum with coarser frequencies.

    Raises
    ------
    UserError
        If the windows would hold fewer than 8 samples.
    """
    samples = np.asarray(series, dtype=np.float64)
    samples = samples.reshape(len(samples), -1)
    length = 2 * len(samples) // (n_windows + 1)
    if length < 8:
        raise UserError(
            f"a power spectrum over {n_windows} windows needs at least {4 * (n_windows + 1)} "
            f"samples, got {len(samples)}"
        )
    hop = length // 2
    used = samples[: (n_windows - 1) * hop + length]
    densities = np.zeros((length // 2 + 1, n_windows))
    for component in used.T:  # one by one: all windows of all atoms take twice the memory of the series
        frequencies, _, found = spectrogram(
            component, 1.0 / spacing, "hann", length, length - hop, detrend="constant", scaling="density"
        )
        densities += found
    density: FloatArray = densities.mean(axis=1) * SPEED_OF_LIGHT
    # half-overlapping Hann windows correlate by about 1/36 in power: neighbors count as independent
    error: FloatArray = densities.std(axis=1, ddof=1) / np.sqrt(n_windows) * SPEED_OF_LIGHT
    return Spectrum(frequencies / SPEED_OF_LIGHT, density, error, n_windows)
