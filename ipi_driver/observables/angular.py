"""Angular momentum, torque and precession of an isolated molecule.

About the center of mass, ``L = sum_i m_i (r_i - R) x (v_i - V)`` and ``T = sum_i (r_i - R) x F_i = dL/dt``.
An equivariant potential has T = 0 and conserves L. A potential that is not turns L: the precession rate Omega
is the rotation that explains the motion of L best in the least-squares sense, ``min sum_k |Delta L_k - Omega
x Lbar_k Delta t|²`` with ``Delta L_k = L_{k+1} - L_k`` and ``Lbar_k`` their mean, which is the linear system
``sum_k (|Lbar_k|² 1 - Lbar_k Lbar_k^T) Omega Delta t = sum_k Lbar_k x Delta L_k``. For a rigid rotation of L
the chord gives ``2 tan(Omega Delta t / 2)`` instead of ``Omega Delta t``, which is undone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import Estimate, block_average, correlation_time
from ipi_driver.structure import FloatArray
from ipi_driver.units import DALTON

_KEEPS_ITS_DIRECTION = 1e-3
"""Radians by which L may tremble about its mean direction and still counts as not turning."""


def angular_momentum(masses: ArrayLike, positions: FloatArray, velocities: FloatArray) -> FloatArray:
    """Angular momentum about the center of mass.

    Parameters
    ----------
    masses
        (n_atoms,) dalton.
    positions, velocities
        (..., n_atoms, 3) in Å and Å/fs.

    Returns
    -------
    (..., 3) in eV fs.
    """
    weights = np.asarray(masses, dtype=np.float64)
    fractions = weights / weights.sum()
    arms = positions - np.einsum("i,...ix->...x", fractions, positions)[..., None, :]
    relative = velocities - np.einsum("i,...ix->...x", fractions, velocities)[..., None, :]
    return np.asarray(DALTON * np.einsum("i,...ix->...x", weights, np.cross(arms, relative)))


def torque(masses: ArrayLike, positions: FloatArray, forces: FloatArray) -> FloatArray:
    """Net torque about the center of mass; (..., n_atoms, 3) Å and eV/Å to (..., 3) eV."""
    weights = np.asarray(masses, dtype=np.float64)
    center = np.einsum("i,...ix->...x", weights / weights.sum(), positions)
    return np.asarray(np.cross(positions - center[..., None, :], forces).sum(axis=-2))


def torque_of_rounding(
    masses: ArrayLike,
    positions: FloatArray,
    forces: FloatArray,
    rounded: tuple[bool, bool] = (True, True),
) -> FloatArray:
    """Root mean square of the torque that positions and forces of a file have because they are rounded.

    i-PI prints six digits, of which the last is off by up to a half: by 1/sqrt(12) in the root mean square.

    Parameters
    ----------
    masses, positions, forces
        As of `torque`, in the units of the file or others: the digits are nearly the same.
    rounded
        Whether the file of positions and that of forces are of text; binary ones hold all digits.

    Returns
    -------
    (...) in eV.
    """
    weights = np.asarray(masses, dtype=np.float64)
    center = np.einsum("i,...ix->...x", weights / weights.sum(), positions)
    arms = (positions - center[..., None, :]) ** 2
    of_positions, of_forces = (
        _rounding(values) if text else np.zeros_like(values)
        for values, text in zip((positions, forces), rounded, strict=True)
    )
    variance = _turned(arms, of_forces) + _turned(of_positions, forces**2)
    return np.asarray(np.sqrt(variance.sum(axis=(-2, -1))))


def _rounding(values: FloatArray) -> FloatArray:
    """Variance of numbers printed with six digits."""
    with np.errstate(divide="ignore"):
        last = 10.0 ** (np.floor(np.log10(np.abs(values))) - 5.0)
    return np.asarray(last**2 / 12.0)


def _turned(a: FloatArray, b: FloatArray) -> FloatArray:
    """The squares of the terms of a cross product, from the squares of its factors."""
    return np.asarray(
        np.roll(a, -1, axis=-1) * np.roll(b, -2, axis=-1) + np.roll(a, -2, axis=-1) * np.roll(b, -1, axis=-1)
    )


def precession_vector(momenta: FloatArray, spacing: float) -> FloatArray:
    """Rotation that explains the motion of the angular momentum best.

    Parameters
    ----------
    momenta
        (n, 3) angular momentum at equal spacing, n >= 3.
    spacing
        fs between samples; L must turn by less than half a circle within it.

    Returns
    -------
    (3,) in rad/fs. The component along L cannot be seen where L keeps its direction (to a thousandth of a radian, so
    that a tremor about it is not taken for precession); it is zero then.
    """
    if len(momenta) < 3:
        raise UserError(
            f"a precession rate needs at least 3 snapshots, got {len(momenta)}: run longer or write more often"
        )
    change = np.diff(momenta, axis=0)
    middle = 0.5 * (momenta[1:] + momenta[:-1])
    squares = np.einsum("kx,kx->", middle, middle)
    matrix = squares * np.eye(3) - middle.T @ middle
    omega = (
        np.linalg.pinv(matrix, rcond=_KEEPS_ITS_DIRECTION**2, hermitian=True)
        @ np.cross(middle, change).sum(axis=0)
        / spacing
    )
    rate = float(np.linalg.norm(omega))
    if rate == 0.0:
        return np.zeros(3)
    return np.asarray(omega / rate * 2.0 * np.arctan(rate * spacing / 2.0) / spacing)


def precession_rate(momenta: FloatArray, spacing: float, n_windows: int = 8) -> Estimate:
    """Precession vector of a run, its error from the spread of windows.

    Parameters
    ----------
    momenta
        (n, 3) angular momentum at equal spacing.
    spacing
        fs between samples.
    n_windows
        Equal parts of the run, each with its own precession vector.

    Returns
    -------
    Estimate
        ``value`` (3,) rad/fs; ``correlation_time`` is that of the torque ``dL/dt``.
    """
    per_window = len(momenta) // n_windows
    if per_window < 3:
        raise UserError(
            f"a precession rate with its error needs {3 * n_windows} snapshots, got {len(momenta)}: run longer"
        )
    windows = np.array(
        [precession_vector(momenta[k * per_window : (k + 1) * per_window], spacing) for k in range(n_windows)]
    )
    value = precession_vector(momenta, spacing)
    error = windows.std(axis=0, ddof=1) / np.sqrt(n_windows)
    tau = correlation_time(np.diff(momenta, axis=0), spacing)
    return Estimate(value, error, tau, per_window * spacing, n_windows, windows)


def dominant_frequency(momenta: FloatArray, spacing: float) -> tuple[float, float]:
    """Angular frequency at which the angular momentum moves most, and how well the run resolves it.

    Parameters
    ----------
    momenta
        (n, 3) angular momentum at equal spacing.
    spacing
        fs between samples.

    Returns
    -------
    frequency, resolution
        rad/fs: the highest peak of the power spectrum of L less its mean, summed over components (Hann window), and
        half the distance ``2 pi / T`` of frequencies that a run of length T resolves.
    """
    if len(momenta) < 16:
        raise UserError(
            f"a frequency of the angular momentum needs at least 16 snapshots, got {len(momenta)}: run longer"
        )
    window = np.hanning(len(momenta))[:, None]
    padded = 8 * len(momenta)  # interpolates between the frequencies of the run
    power = (np.abs(np.fft.rfft((momenta - momenta.mean(axis=0)) * window, n=padded, axis=0)) ** 2).sum(
        axis=1
    )
    frequencies = 2.0 * np.pi * np.fft.rfftfreq(padded, spacing)
    return float(frequencies[int(np.argmax(power))]), float(np.pi / (len(momenta) * spacing))


def turning_angle(momenta: FloatArray) -> FloatArray:
    """Angle in rad between the angular momentum of each snapshot and that of the first; (n, 3) to (n,)."""
    start = momenta[0]
    cross = np.linalg.norm(np.cross(momenta, start), axis=1)
    return np.asarray(np.arctan2(cross, momenta @ start))


def rms_torque(torques: FloatArray, spacing: float) -> Estimate:
    """Root mean square of the modulus of the torque over time; (n, 3) eV at ``spacing`` fs to a scalar estimate in eV.

    The definition of Langer, Pozdnyakov, Ceriotti (Mach. Learn.: Sci. Technol. 5, 04LT01 (2024), Fig. 1b), over runs at
    constant energy. It is 8.5 % above the mean modulus of a normally distributed torque.
    """
    return block_average((np.asarray(torques) ** 2).sum(axis=-1), spacing).derived(
        lambda square: np.sqrt(np.maximum(square, 0.0))
    )
