"""Whether functions measured in several runs are the same, from the blocks behind their averages.

If k runs are of the same system, their blocks of equal length are exchangeable: which block belongs to which run is
chance. Of every point of the function ``F = [sum_i n_i (y_i - y)² / (k - 1)] / s²`` compares the differences of the
means y_i of the runs with the variance s² of the blocks within runs. Two statistics are used: the mean of F over the
points is sensitive to a shift of the whole curve, its maximum to a local difference. Where the points are those of a
curve, the maximum is taken over means of neighboring points as well, in which a difference wider than a point stands
out of the noise that each point has for itself. The
blocks are dealt anew to the runs many times; the share of these in which the less likely of the two statistics is as
unlikely as measured is p (Westfall and Young, Resampling-Based Multiple Testing, Wiley 1993). It needs no model of how
the points are correlated, and holds for a pair as for many runs: no correction
for multiple comparisons is needed.

The smallest difference that could have been detected is the one of one run from all others, at one point or as wide
as the window around it that tells most, that the maximum statistic finds in four of five cases at p < 0.05:
``(sqrt(F_95 (k - 1)) + 0.84) s / sqrt(n_i (1 - n_i / N))``.

One run is compared with a given function by changing the signs of the deviations of its blocks at random. Of n blocks
there are ``2^(n - 1)`` cases, so that up to five have no p below 0.05, whatever the difference. They are judged by
Student's t of every point, and p is that of the least likely one times the number of points (Bonferroni). So are runs
whose blocks can be dealt in fewer than 20 ways, as two of three blocks each, by Fisher's F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher
from scipy.stats import t as student

from ipi_driver.structure import FloatArray, IntArray

SIGNIFICANCE = 0.05
_DRAWS = 1999
_POWER = 0.84
"""Standard deviations above the threshold at which four of five differences are found."""


@dataclass(frozen=True, eq=False)
class BlockComparison:
    """How likely the differences of several runs are for runs of the same thing.

    Attributes
    ----------
    p
        Probability of differences as large; NaN where a run has fewer than two blocks or no point has a variance.
    p_whole, p_local
        Of the mean and of the maximum over the points alone; NaN and p where the blocks are few.
    place
        Index of the point where the runs differ most, in their standard errors.
    detectable
        (n_points,) smallest difference of one run from the others, as wide as the best window around the point, that is
        found in four of five cases; NaN where a point has no variance.
    """

    p: float
    p_whole: float
    p_local: float
    place: int
    detectable: FloatArray

    @property
    def same(self) -> bool:
        """Whether chance alone makes differences as large often enough."""
        return not self.p < SIGNIFICANCE


def compare_blocks(
    runs: Sequence[FloatArray],
    corrections: Sequence[float | FloatArray] | None = None,
    draws: int = _DRAWS,
    seed: int = 0,
    widths: Sequence[int] = (1,),
) -> BlockComparison:
    """Compare runs point by point and as a whole.

    Parameters
    ----------
    runs
        (n_blocks, n_points) each, at least two; points that are not finite in all blocks are left out.
    corrections
        Factors by which the errors of the runs are larger than their blocks give, for correlation left between them:
        of each run one, or one for each point (n_points,).
    draws, seed
        Assignments of blocks to runs drawn, and the seed of their random numbers.
    widths
        Numbers of neighboring points whose mean is looked at for local differences, of points in a row.
    """
    n_points = runs[0].shape[1]
    blocks = np.concatenate([np.asarray(run, dtype=np.float64) for run in runs])
    sizes = np.array([len(run) for run in runs])
    used = np.isfinite(blocks).all(axis=0)
    scale = np.abs(blocks[:, used]).max(axis=0, initial=0.0)
    used[used] = blocks[:, used].std(axis=0) > 1e-12 * scale
    nothing = np.full(n_points, np.nan)
    if not used.any() or (sizes < 2).any():
        return BlockComparison(np.nan, np.nan, np.nan, 0, nothing)
    values, windows = _windows(blocks[:, used] - blocks[:, used].mean(axis=0), widths)
    single = windows[:, 1] - windows[:, 0] == 1
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(runs)), sizes)
    measured, within = _ratios(values, labels[None], sizes)
    larger = _larger(corrections, sizes, n_points)[used]
    if _least_p(sizes) > SIGNIFICANCE:
        return _of_few_assignments(measured[0, single], within[0, single], larger, sizes, used)
    # of a window the most that its points have: their mean has less fast noise than they have
    of_windows = np.array([larger[start:end].max() for start, end in windows])
    measured /= of_windows  # correlation left between blocks makes their means differ more than dealt ones
    dealt, _ = _ratios(values, rng.permuted(np.tile(labels, (draws, 1)), axis=1), sizes)
    ratios = np.concatenate([measured, dealt])
    statistics = np.array([ratios[:, single].mean(axis=1), ratios.max(axis=1)])
    chances = np.array([_chances(s) for s in statistics])
    least = chances.min(axis=0)
    p = float((least <= least[0] * (1.0 + 1e-9)).mean())
    threshold = np.sqrt(np.quantile(statistics[1], 1.0 - SIGNIFICANCE) * (len(runs) - 1)) + _POWER
    spread = np.sqrt(within[0] * of_windows) / np.sqrt((sizes * (1.0 - sizes / sizes.sum())).min())
    centers = np.flatnonzero(used)[(windows.sum(axis=1) - 1) // 2]
    detectable = nothing.copy()
    np.fmin.at(detectable, centers, threshold * spread)
    place = int(centers[np.argmax(measured[0])])
    return BlockComparison(p, float(chances[0, 0]), float(chances[1, 0]), place, detectable)


def compare_with_reference(
    blocks: FloatArray,
    reference: FloatArray,
    uncertainty: float = 0.0,
    correction: float | FloatArray = 1.0,
    draws: int = _DRAWS,
    seed: int = 0,
) -> BlockComparison:
    """Compare one run with a given function, by changing the signs of the deviations of its blocks at random.

    Parameters
    ----------
    blocks
        (n_blocks, n_points).
    reference
        (n_points,) NaN where it is not given.
    uncertainty
        Of the reference, the same for all its points; deviations are reduced by it.
    correction
        As for `compare_blocks`.
    """
    deviations = np.asarray(blocks, dtype=np.float64) - reference
    n, n_points = deviations.shape
    nothing = np.full(n_points, np.nan)
    used: NDArray[np.bool_] = np.asarray(np.isfinite(deviations).all(axis=0))
    used[used] = deviations[:, used].std(axis=0) > 0.0
    if n < 2 or not used.any():
        return BlockComparison(np.nan, np.nan, np.nan, 0, nothing)
    values = deviations[:, used]
    mean = values.mean(axis=0)
    values = values - mean + np.sign(mean) * np.maximum(np.abs(mean) - uncertainty, 0.0)
    own = np.broadcast_to(correction, n_points)[used]
    if 2.0 ** (1 - n) > SIGNIFICANCE:
        return _of_few_blocks(values, used, own, uncertainty)
    rng = np.random.default_rng(seed)
    signs = np.concatenate([np.ones((1, n)), rng.choice([-1.0, 1.0], size=(draws, n))])
    means = signs @ values / n
    variances = ((values**2).mean(axis=0) - means**2) * n / (n - 1)
    f = n * means**2 / np.maximum(variances, 1e-300)
    f[0] /= own**2
    statistics = np.array([f.mean(axis=1), f.max(axis=1)])
    chances = np.array([_chances(s) for s in statistics])
    least = chances.min(axis=0)
    p = float((least <= least[0] * (1.0 + 1e-9)).mean())
    detectable = nothing.copy()
    threshold = np.sqrt(np.quantile(statistics[1], 1.0 - SIGNIFICANCE)) + _POWER
    detectable[used] = threshold * own * np.sqrt(variances[0] / n) + uncertainty
    place = int(np.flatnonzero(used)[np.argmax(f[0])])
    return BlockComparison(p, float(chances[0, 0]), float(chances[1, 0]), place, detectable)


def _least_p(sizes: IntArray) -> float:
    """Share of one assignment of the blocks to the runs among all that are different: below it there is no p."""
    ways = math.factorial(int(sizes.sum()))
    for n in (*sizes, *np.unique(sizes, return_counts=True)[1]):  # runs of one size may change places
        ways //= math.factorial(int(n))
    return 1.0 / ways


def _of_few_assignments(
    ratios: FloatArray, within: FloatArray, larger: FloatArray, sizes: IntArray, used: NDArray[np.bool_]
) -> BlockComparison:
    """As `compare_blocks`, by Fisher's F of every point, from F and the variances within runs (n_used,)."""
    k, n, n_used = len(sizes), int(sizes.sum()), len(ratios)
    ratios = ratios / larger
    p = min(1.0, n_used * float(fisher.sf(ratios.max(), k - 1, n - k)))
    threshold = np.sqrt(fisher.isf(SIGNIFICANCE / n_used, k - 1, n - k) * (k - 1)) + student.isf(0.2, n - k)
    detectable = np.full(len(used), np.nan)
    detectable[used] = threshold * np.sqrt(within * larger) / np.sqrt((sizes * (1.0 - sizes / n)).min())
    return BlockComparison(p, np.nan, p, int(np.flatnonzero(used)[np.argmax(ratios)]), detectable)


def _of_few_blocks(
    values: FloatArray, used: NDArray[np.bool_], own: FloatArray, uncertainty: float
) -> BlockComparison:
    """As `compare_with_reference` from the deviations at the points used, of blocks too few for changes of signs."""
    n, n_used = values.shape
    errors = own * values.std(axis=0, ddof=1) / np.sqrt(n)
    sigmas = np.abs(values.mean(axis=0)) / errors
    p = min(1.0, 2.0 * n_used * float(student.sf(sigmas.max(), n - 1)))
    detectable = np.full(len(used), np.nan)
    threshold = student.isf(0.5 * SIGNIFICANCE / n_used, n - 1) + student.isf(0.2, n - 1)
    detectable[used] = threshold * errors + uncertainty
    place = int(np.flatnonzero(used)[np.argmax(sigmas)])
    return BlockComparison(p, np.nan, p, place, detectable)


def _windows(values: FloatArray, widths: Sequence[int]) -> tuple[FloatArray, IntArray]:
    """Means (n_blocks, n_windows) over windows of neighboring points, and (n_windows, 2) where each begins and ends."""
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    n = values.shape[1]
    windows = np.array([(start, start + width) for width in widths for start in range(n - width + 1)])
    return (sums[:, windows[:, 1]] - sums[:, windows[:, 0]]) / (windows[:, 1] - windows[:, 0]), windows


def _larger(corrections: Sequence[float | FloatArray] | None, sizes: IntArray, n_points: int) -> FloatArray:
    """(n_points,) factor on the variances of the means of the runs."""
    if corrections is None:
        return np.ones(n_points)
    squares = np.array([np.broadcast_to(np.square(c), n_points) for c in corrections])
    return np.asarray(sizes @ squares / sizes.sum())


def _ratios(values: FloatArray, labels: IntArray, sizes: IntArray) -> tuple[FloatArray, FloatArray]:
    """F of every assignment of blocks to runs and every point, (n_draws, n_points), and the variance within runs."""
    n, k = len(values), len(sizes)
    between = np.zeros((len(labels), values.shape[1]))
    for run, size in enumerate(sizes):
        means = (labels == run).astype(np.float64) @ values / size
        between += size * means**2  # of values whose mean is zero
    within = np.maximum((values**2).sum(axis=0) - between, 1e-300) / (n - k)
    return between / (k - 1) / within, within


def _chances(statistic: FloatArray) -> FloatArray:
    """(n,) share of all draws in which a statistic is at least as large."""
    ordered = np.sort(statistic)
    return np.asarray(1.0 - np.searchsorted(ordered, statistic * (1.0 - 1e-9), side="left") / len(ordered))
