"""Uncertainty of time averages: correlation times, block averages, jackknife.

For a stationary series x of variance s² and autocorrelation rho(t), the mean over a time T has the variance
``2 s² tau / T`` with the integrated correlation time ``tau = int_0^inf rho(t) dt``. The integral is cut at
the first window W with ``W >= 6 tau(W)`` (Madras and Sokal, J. Stat. Phys. 50, 109 (1988)). Means over blocks
of length L >= 5 tau are nearly independent; what correlation is left lowers their variance by ``1 - tau /
L``, for which the error is corrected (exact for exponential correlations up to exp(-L/tau); Flyvbjerg and
Petersen, J. Chem. Phys. 91, 461 (1989)).

The points of a curve have one tau: the longer of that of their pooled autocorrelation and that of the mode that
they share, their first principal component. Where each point has fast noise of its own, as in a pair correlation
function, the pooled autocorrelation sees little else, although what is slow and common decides how far the means
are off. A component counts as shared where its part of the variance is beyond what independent points give
(Marchenko and Pastur, Math. USSR Sb. 1, 457 (1967)). Of this one blocks of 3 tau are enough, as its part in the
correlation left between them is known no better than that.

A slow tail under fast noise, as in the kinetic temperature of one element, is not seen either: the window closes
before it. So the blocks are doubled until the means of neighbors are uncorrelated within two standard errors, as
long as there are enough of them for that test (a stopping rule for the blocking of Flyvbjerg and Petersen); tau and the
correction are then those that the blocks give.

The window closes early in a short series, as the subtracted mean lowers every lag by ``2 s² tau / T``; tau of
numbers and vectors is corrected for it. What a slow tail of a fifth of the variance hides still needs 50 of its times
(`benchmarks/error_bars.md`).

Errors of few blocks are known to a third: intervals and verdicts take Student's t (`Estimate.half_width`).

Where it is asked for (``short_blocks``), a run that has no room for four blocks of that length gets the four longest
there are, down to 2 tau, with the correction that this needs. In runs of 10 tau such errors are right or too large.
Runs whose estimated tau is too short are more frequent, and their errors are too small by a third. Both kinds are
reported: without the first kind, only errors that are too small would be left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray
from ipi_driver.units import FS_PER_PS

BLOCK_TO_CORRELATION = 5.0
"""Shortest block, in correlation times of all components pooled."""

BLOCK_TO_SHARED = 3.0
"""Shortest block, in correlation times of the mode that the points of a curve share."""

BLOCK_AT_LEAST = 2.0
"""Shortest block where a run has no room for longer ones, in correlation times: up to there the correction holds."""

MINIMUM_BLOCKS = 4
"""Fewest blocks from which a standard error is given."""

MOST_BLOCKS = 6
"""Of a number or a vector: longer blocks hold more of a slow tail that nothing else shows, and Student's t of 5 degrees
of freedom is a third wider than a normal distribution. Curves have more points than that."""

_FEW_COMPONENTS = 3

_WINDOW = 6.0
_SAMPLES_TO_TELL = 50
"""Fewest samples whose correlation time is taken for known where the blocks are short."""
_BLOCKS_TO_TELL = 32
"""Fewest blocks whose neighbors are tested for correlation."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A time average and how sure it is.

    Attributes
    ----------
    value
        Scalar (0-d) or array; the unit is the quantity's.
    error
        Standard error of ``value``, same shape.
    correlation_time
        Integrated correlation time, fs, of the slower of all components pooled and the mode that they share; not
        below half the spacing of the samples it was measured on.
    block_length
        Length of the blocks, fs.
    n_blocks
        Number of blocks.
    blocks
        (n_blocks, ...) value of each block, for quantities derived from the average.
    correction
        Factor that the error holds for the correlation left between the blocks: that of the slowest of all points.
    of_points
        The same for each point of a curve by itself, same shape as ``value``, at most ``correction``: of a point that
        has fast noise alone, 1. None for a number or a vector.
    """

    value: FloatArray
    error: FloatArray
    correlation_time: float
    block_length: float
    n_blocks: int
    blocks: FloatArray
    correction: float = 1.0
    of_points: FloatArray | None = None

    def half_width(self, level: float = 0.95) -> FloatArray:
        """Half the width of the interval that covers the true average with this probability (Student's t), or NaN."""
        if self.n_blocks < 2:
            return np.full_like(self.error, np.nan)
        return np.asarray(self.error * float(student.ppf(0.5 + 0.5 * level, self.n_blocks - 1)))

    def derived(self, function: Callable[[FloatArray], ArrayLike]) -> Estimate:
        """Estimate of a function of the average, its error by jackknife over the blocks."""
        value = np.asarray(function(self.value), dtype=np.float64)
        n = self.n_blocks
        total = self.blocks.sum(axis=0)
        left_out = np.array([function((total - block) / (n - 1)) for block in self.blocks], dtype=np.float64)
        spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
        error = np.sqrt((n - 1) / n * spread) * self.correction
        blocks = n * value - (n - 1) * left_out
        return Estimate(value, error, self.correlation_time, self.block_length, n, blocks, self.correction)


def autocorrelation(series: ArrayLike) -> FloatArray:
    """Autocorrelation of a series, pooled over its components, normalized to 1 at lag 0.

    Parameters
    ----------
    series
        (n, ...) samples at equal spacing.

    Returns
    -------
    (n,) array; all zero but the first where the series is constant.
    """
    samples = np.asarray(series, dtype=np.float64)
    n = len(samples)
    flat = samples.reshape(n, -1)
    flat = flat - flat.mean(axis=0)
    spectrum = np.fft.rfft(flat, n=2 * n, axis=0)
    covariance = np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=1), n=2 * n)[:n] / np.arange(n, 0, -1)
    result = np.zeros(n)
    result[0] = 1.0
    scale = np.abs(samples).max(initial=0.0) ** 2 * flat.shape[1]
    if covariance[0] > 1e-28 * scale:
        result = covariance / covariance[0]
    return result


def correlation_time(series: ArrayLike, spacing: float = 1.0, unbiased: bool = False) -> float:
    """Integrated correlation time ``int_0^inf rho dt`` in the unit of ``spacing``, at least half of it.

    ``unbiased`` corrects for the subtracted mean, which lowers every lag by ``2 s² tau / T``; of few samples with many
    components that costs more than it mends.
    """
    rho = autocorrelation(series)
    n = len(rho)
    # trapezium from lag 0: for an Ornstein-Uhlenbeck process this is tau up to (spacing/tau)²
    integral = np.cumsum(rho) - 0.5
    windows = np.arange(n)
    if unbiased and n > 1:
        lowered = 2.0 / n
        integral = integral / np.maximum(1.0 - lowered * (windows + 1.0) + lowered * integral, 0.1)
    closed = np.flatnonzero(windows >= _WINDOW * integral)
    last = int(closed[0]) if len(closed) else len(rho) - 1
    return float(max(integral[last], 0.5)) * spacing


def block_average(series: ArrayLike, spacing: float, minimum_blocks: int = MINIMUM_BLOCKS) -> Estimate:
    """Average of a series over time with its standard error.

    Parameters
    ----------
    series
        (n, ...) samples at equal spacing.
    spacing
        fs between samples.
    minimum_blocks
        Fewest blocks that are long enough.

    Raises
    ------
    UserError
        If the series is too short for ``minimum_blocks`` blocks.
    """
    samples = np.asarray(series, dtype=np.float64)
    return blocked_ratio(samples, np.ones(len(samples)), spacing, minimum_blocks, short_blocks=True)


def blocked_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    spacing: float,
    minimum_blocks: int = MINIMUM_BLOCKS,
    short_blocks: bool = False,
    least_correlation_time: float = 0.0,
) -> Estimate:
    """``sum(numerators) / sum(denominators)`` with its standard error.

    The error is that of the linearised ratio: block sums of ``numerator - value * denominator``.

    Parameters
    ----------
    numerators
        (n, ...) sums over n pieces of equal duration, in the order of time.
    denominators
        (n,) or the shape of ``numerators``: counts or weights.
    spacing
        Duration of a piece, fs.
    minimum_blocks
        Fewest blocks that are long enough.
    short_blocks
        Whether blocks down to `BLOCK_AT_LEAST` correlation times will do where there is no room for longer ones.
    least_correlation_time
        fs; a correlation time that is known otherwise and that a short series does not show.

    Raises
    ------
    UserError
        If the series is too short for ``minimum_blocks`` blocks.
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    if below.ndim < above.ndim:
        below = below.reshape(below.shape + (1,) * (above.ndim - below.ndim))
    n = len(above)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = above.sum(axis=0) / below.sum(axis=0)
        residuals = np.where(np.isfinite(value), (above - value * below) / below.mean(axis=0), 0.0)
    few = residuals[0].size <= _FEW_COMPONENTS
    pooled = correlation_time(residuals, spacing, unbiased=few) if n > 1 else spacing
    tau = max(pooled, _shared_correlation_time(residuals, spacing, pooled), least_correlation_time)
    shortest = max(BLOCK_TO_CORRELATION * pooled, BLOCK_TO_SHARED * tau)
    per_block = max(1, int(np.ceil(shortest / spacing)))
    n_blocks = n // per_block
    if n_blocks < minimum_blocks:
        if short_blocks and n >= _SAMPLES_TO_TELL:
            shortest = BLOCK_AT_LEAST * tau
            per_block = max(1, int(np.ceil(shortest / spacing)))
        if n // per_block < minimum_blocks:
            need, got = minimum_blocks * per_block * spacing / FS_PER_PS, n * spacing / FS_PER_PS
            raise UserError(
                f"too short for a block average: {minimum_blocks} blocks of {shortest / tau:.2g} correlation times "
                f"({tau / FS_PER_PS:.3g} ps) need {need:.3g} ps, got {got:.3g} ps; run longer"
            )
        n_blocks, per_block = minimum_blocks, n // minimum_blocks
    left = min(tau / (per_block * spacing), 0.5)
    doubled = _doubled_until_uncorrelated(residuals, per_block)
    if doubled > per_block:
        n_blocks = n // doubled
        neighbors, from_blocks = _of_blocks(residuals, doubled, spacing)
        tau = max(tau, from_blocks)
        left = 1.0 - 1.0 / (1.0 + 2.0 * max(neighbors, 0.0))
    if n_blocks > MOST_BLOCKS and few:
        n_blocks = MOST_BLOCKS
        left = min(tau * n_blocks / (n * spacing), 0.5)
    correction = float(1.0 / np.sqrt(1.0 - left))
    # blocks that differ by one piece at most: what is in the mean has to be in a block, too
    starts = np.arange(n_blocks) * n // n_blocks
    sizes = np.diff(starts, append=n).reshape(-1, *(1,) * (residuals.ndim - 1))
    grouped = np.add.reduceat(residuals, starts, axis=0) / sizes
    length = n / n_blocks * spacing
    variance = ((grouped - grouped.mean(axis=0)) ** 2).sum(axis=0) / (n_blocks * (n_blocks - 1))
    error = np.where(np.isfinite(value), np.sqrt(variance) * correction, np.nan)
    of_points = None if few else _corrections_of_points(residuals, variance * n_blocks, left)
    return Estimate(
        np.asarray(value), np.asarray(error), tau, length, n_blocks, value + grouped, correction, of_points
    )


def _corrections_of_points(residuals: FloatArray, of_blocks: FloatArray, left: float) -> FloatArray:
    """The correction of each point, from the variance of its blocks over that of its samples.

    With x = tau / L, blocks of length L have ``2 x (1 - x)`` times the variance of the samples.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(of_blocks / residuals.var(axis=0, ddof=1))
    own = 0.5 * (1.0 - np.sqrt(1.0 - np.clip(2.0 * ratio, 0.0, 1.0)))
    return np.asarray(1.0 / np.sqrt(1.0 - np.minimum(own, left)))


def _shared_correlation_time(residuals: FloatArray, spacing: float, pooled: float) -> float:
    """Correlation time of the mode that the components share; 0 where that is no more than chance."""
    flat = residuals.reshape(len(residuals), -1)
    flat = flat - flat.mean(axis=0)
    flat = flat[:, flat.std(axis=0) > 1e-14 * np.abs(residuals).max(initial=0.0)]
    n, m = flat.shape
    if n < 2 or m < 2:
        return 0.0
    flat = flat / flat.std(axis=0)
    # the smaller of the two Gram matrices: curves have more points than pieces, vectors fewer components than samples
    values, vectors = np.linalg.eigh(flat @ flat.T if n <= m else flat.T @ flat)
    independent = n / max(1.0, 2.0 * pooled / spacing)
    if values[-1] / (n * m) <= (1.0 + np.sqrt(m / independent)) ** 2 / m:
        return 0.0
    return correlation_time(vectors[:, -1] if n <= m else flat @ vectors[:, -1], spacing)


def _means(residuals: FloatArray, per_block: int) -> FloatArray:
    """(n_blocks, n_components) block means of the components, each at unit variance."""
    flat = residuals.reshape(len(residuals), -1)
    spread = flat.std(axis=0)
    flat = flat[:, spread > 1e-14 * np.abs(residuals).max(initial=0.0)]
    n_blocks = len(flat) // per_block
    means = flat[: n_blocks * per_block].reshape(n_blocks, per_block, flat.shape[1]).mean(axis=1)
    return np.asarray((means - means.mean(axis=0)) / flat.std(axis=0))


def _doubled_until_uncorrelated(residuals: FloatArray, per_block: int) -> int:
    """Length of the blocks, in samples, beyond which neighbors show no correlation."""
    result = per_block
    means = _means(residuals, per_block)
    while len(means) >= _BLOCKS_TO_TELL and means.size:
        per_block *= 2
        if _neighbors(means) > 2.0 / np.sqrt(len(means)):
            result = per_block
        # of an odd number the last block is left out
        means = means[: len(means) // 2 * 2].reshape(-1, 2, means.shape[1]).mean(axis=1)
    return result


def _of_blocks(residuals: FloatArray, per_block: int, spacing: float) -> tuple[float, float]:
    """Correlation of neighboring block means, and tau from their variance ``2 s² tau / L``."""
    means = _means(residuals, per_block)
    neighbors = _neighbors(means)
    variance = (means**2).sum() / ((len(means) - 1) * means.shape[1])
    return neighbors, float(0.5 * variance * (1.0 + 2.0 * max(neighbors, 0.0)) * per_block * spacing)


def _neighbors(means: FloatArray) -> float:
    """Correlation coefficient of neighboring rows, pooled over the columns."""
    n = len(means)
    return float((means[1:] * means[:-1]).sum() / (n - 1) / ((means**2).sum() / n))
