"""Diffusion and reorientation.

Mean-square displacement ``MSD(t) = <|r_i(t0 + t) - r_i(t0)|²>``, relative to the center of mass of the
system, over molecules and time origins; ``D = lim MSD / 6t`` from the slope of a straight line over a window.
In a periodic box D is too small by ``2.837297 kT / (6 pi eta L)`` for a cubic cell of length L (Yeh and
Hummer, J. Phys. Chem. B 108, 15873 (2004)).

Orientation autocorrelation ``C(t) = <u_i(t0) . u_i(t0 + t)>`` of each molecule, and of the whole cell
``<M(t0) . M(t0 + t)> / <M²>`` with ``M = sum_i u_i``; the relaxation time is that of ``A exp(-t / tau)`` over
a window.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeWarning, curve_fit

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.molecules import minimum_image
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray
from ipi_driver.units import FS_PER_PS, KB, MILLIPASCAL_SECOND

YEH_HUMMER = 2.837297
"""Lattice constant xi of a cubic box."""


class _Window:
    """The last n_lags + 1 snapshots; calls `_origin` with them once full, oldest first."""

    def __init__(self, n_lags: int) -> None:
        if n_lags < 1:
            raise UserError(f"`n_lags` must be at least 1, got {n_lags}")
        self.n_lags = n_lags
        self._buffer: FloatArray | None = None
        self._n_added = 0
        self._place = 0

    def push(self, values: FloatArray) -> FloatArray | None:
        """Store a snapshot; (n_lags + 1, ...) snapshots from the oldest on, or None while too few."""
        if self._buffer is None:
            # twice as long as the window: snapshots move back only once per window, not at every step
            self._buffer = np.empty((2 * (self.n_lags + 1), *values.shape))
        length, size = self.n_lags + 1, len(self._buffer)
        place = self._place
        if place == size:
            self._buffer[: length - 1] = self._buffer[size - length + 1 :]
            place = length - 1
        self._buffer[place] = values
        self._place = place + 1
        self._n_added += 1
        if self._n_added < length:
            return None
        return self._buffer[self._place - length : self._place]


class MeanSquareDisplacement:
    """Mean-square displacement of sites, streamed, with every snapshot as a time origin.

    Parameters
    ----------
    n_lags
        Longest lag, in snapshots.
    """

    def __init__(self, n_lags: int) -> None:
        self._window = _Window(n_lags)
        self._blocks = Blocks()
        self._last: FloatArray | None = None
        self._unwrapped: FloatArray | None = None

    def add(self, positions: FloatArray, cell: FloatArray, center: FloatArray) -> None:
        """Add one snapshot.

        Parameters
        ----------
        positions
            (n_sites, 3) in Å; wrapped or not (a site must move by less than half the cell between snapshots).
        cell
            (3, 3) Å.
        center
            (3,) center of mass of the system, Å, of unwrapped coordinates and from any origin.
        """
        if self._last is None or self._unwrapped is None:
            self._unwrapped = positions.copy()
        else:
            self._unwrapped = self._unwrapped + minimum_image(positions - self._last, cell)
        self._last = positions.copy()
        snapshots = self._window.push(self._unwrapped - center)
        if snapshots is not None:
            displacement = snapshots - snapshots[0]
            self._blocks.add(np.einsum("tix,tix->t", displacement, displacement) / displacement.shape[1])

    def result(self, spacing: float) -> Estimate:
        """MSD at lags 0 .. n_lags, Å², or up to the longest that allows block averages.

        ``spacing`` is the time between snapshots in fs.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average.
        """
        return self._blocks.resolved_lags(spacing)


class OrientationCorrelation:
    """Autocorrelation of vectors, of each molecule and of their sum, streamed.

    Parameters
    ----------
    n_lags
        Longest lag, in snapshots.
    """

    def __init__(self, n_lags: int) -> None:
        self._window = _Window(n_lags)
        self._single, self._collective = Blocks(), Blocks()

    def add(self, vectors: FloatArray) -> None:
        """Add the (n_molecules, 3) vectors of one snapshot."""
        snapshots = self._window.push(vectors)
        if snapshots is None:
            return
        single = np.einsum("tix,ix->t", snapshots, snapshots[0])
        total = snapshots.sum(axis=1)
        self._single.add(single, np.full(len(single), single[0]))
        self._collective.add(total @ total[0], np.full(len(single), total[0] @ total[0]))

    def mean(self) -> FloatArray:
        """C(t) of single molecules at all lags, without an error and however short the run is.

        Raises
        ------
        UserError
            If the run is shorter than the longest lag.
        """
        return self._single.mean()

    def single(self, spacing: float) -> Estimate:
        """C(t) of single molecules at lags 0 .. n_lags, or up to the longest that allows block averages; 1 at lag 0.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average.
        """
        return self._single.resolved_lags(spacing)

    def collective(self, spacing: float) -> Estimate:
        """As `single`, of the sum of all vectors."""
        return self._collective.resolved_lags(spacing)


def diffusion_coefficient(msd: Estimate, spacing: float, start: float, stop: float) -> Estimate:
    """D from the slope of the MSD between two lags.

    Parameters
    ----------
    msd
        Å² at lags 0, spacing, 2 spacing, ... fs.
    spacing, start, stop
        fs.

    Returns
    -------
    Estimate
        Scalar, Å²/ps.
    """
    lags = np.arange(len(msd.value)) * spacing
    chosen = (lags >= start) & (lags <= stop * (1 + 1e-12))
    if chosen.sum() < 2:
        raise UserError(
            f"the fit window {start:g} to {stop:g} fs holds fewer than two lags, the longest is "
            f"{lags[-1]:g} fs"
        )

    def slope(curve: FloatArray) -> float:
        return float(np.polyfit(lags[chosen] / FS_PER_PS, curve[chosen], 1)[0] / 6.0)

    return msd.derived(slope)


def finite_size_correction(temperature: float, length: float, viscosity: float) -> float:
    """What to add to the D of a cubic periodic box (Yeh and Hummer).

    Parameters
    ----------
    temperature
        K.
    length
        Cell length, Å.
    viscosity
        mPa s.

    Returns
    -------
    float
        Å²/ps.
    """
    eta = viscosity * MILLIPASCAL_SECOND
    return float(YEH_HUMMER * KB * temperature / (6.0 * np.pi * eta * length) * FS_PER_PS)


def relaxation_time(correlation: Estimate, spacing: float, start: float, stop: float) -> Estimate:
    """Time constant of ``A exp(-t / tau)`` fitted to a correlation function between two lags.

    Parameters
    ----------
    correlation
        C at lags 0, spacing, 2 spacing, ... fs.
    spacing, start, stop
        fs.

    Returns
    -------
    Estimate
        Scalar, ps.

    Raises
    ------
    UserError
        If the window holds fewer than three lags, or C has decayed before it or is negative in it.
    """
    lags = np.asarray(np.arange(len(correlation.value)) * (spacing / FS_PER_PS), dtype=np.float64)
    chosen = (lags >= start / FS_PER_PS) & (lags <= stop / FS_PER_PS * (1 + 1e-12))
    if chosen.sum() < 3:
        raise UserError(f"the fit window {start:g} to {stop:g} fs holds fewer than three lags")
    t = lags[chosen]
    _require_decay(correlation.value[chosen], correlation.error[chosen], t)

    def fit(curve: FloatArray) -> float:
        y = curve[chosen]
        positive = y > 0
        rate = -np.polyfit(t[positive], np.log(y[positive]), 1)[0] if positive.sum() > 1 else 1.0 / t[-1]
        guess = (float(max(y[0], 1e-3)), float(max(rate, 1e-6)))
        try:
            # what the fit tries on its way, and covariances that nobody asks for, are no concern of the user
            with np.errstate(over="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", OptimizeWarning)
                (_, rate), _ = curve_fit(lambda x, a, k: a * np.exp(-k * x), t, y, p0=guess, maxfev=2000)
        except RuntimeError:
            return float("nan")
        return float(1.0 / rate)

    return correlation.derived(fit)


def decay_time(correlation: ArrayLike, spacing: float) -> float:
    """Time at which a correlation function falls to 1/e, in the unit of ``spacing``.

    Where the lags end before, it is extrapolated by the exponential through 1 at lag 0 and the mean of the last
    quarter; infinite where the function has not decayed at all.

    Examples
    --------
    >>> round(decay_time(np.exp(-np.arange(30) / 10.0), 0.5), 3)
    5.0
    """
    values = np.asarray(correlation, dtype=np.float64)
    below = np.flatnonzero(values <= np.exp(-1.0))
    if len(below) and below[0] > 0:
        k = int(below[0])
        part = (values[k - 1] - np.exp(-1.0)) / (values[k - 1] - values[k])
        return float((k - 1 + part) * spacing)
    late = values[-max(1, len(values) // 4) :]
    level, lag = float(late.mean()), (len(values) - 0.5 * (len(late) + 1)) * spacing
    return lag / -np.log(level) if 0.0 < level < 1.0 else float("inf")


def _require_decay(curve: FloatArray, error: FloatArray, times: FloatArray) -> None:
    """Refuse to fit an exponential where there is none, from C, its errors and the lags in ps."""
    if curve[0] <= 2.0 * error[0]:
        raise UserError(
            f"C is {curve[0]:.2g} ± {error[0]:.2g} at {times[0]:.2g} ps, where the fit begins: it has decayed before; "
            "lower --fit-start"
        )
    half = len(times) // 2
    late, spread = float(curve[half:].mean()), float(error[half:].mean())
    if late < -2.0 * spread:
        raise UserError(
            f"C is {late:.2g} ± {spread:.2g} from {times[half]:.2g} ps on, where an exponential is positive; lower "
            "--fit-start, or --longest-lag"
        )
