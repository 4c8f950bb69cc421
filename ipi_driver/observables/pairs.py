"""Pair correlations: g(r) between elements and dipole correlations between molecules.

``g_ab(r) = <n_ab(r)> / (N_pairs v(r) / V)``: pairs found in a shell against pairs of an ideal gas, ``v(r) =
4/3 pi (r+³ - r-³)``.

``c_uu(r)`` is an average over pairs of molecules whose centers are r apart, with r^ the unit vector between
the centers and u the unit orientation vectors: longitudinal ``<(u_i . r^)(u_j . r^)>``, transverse ``<u_i .
u_j - (u_i . r^)(u_j . r^)>`` (the sum of the two directions normal to r^), so that ``<u_i . u_j> =
longitudinal + transverse``.

With a bandwidth h both are kernel estimates, ``g_ab(r) = sum_k K(r - r_k) n_ab(r_k) / sum_k K(r - r_k) n_ideal(r_k)``
with the Gaussian ``K(x) = exp(-x² / 2 h²)`` over shells k, and ``c_uu(r)`` likewise the kernel average over pairs. The
same kernel in numerator and denominator keeps a flat function flat, also at the last shell. A maximum of the width of
the kernel is lowered by it: estimates are compared at the same bandwidth alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import chemical_symbols

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.molecules import largest_radius, minimum_image
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray, IntArray

_CHUNK = 200_000
"""Pairs held at once: keeps the arrays of a step in the cache."""


@dataclass(frozen=True, eq=False)
class RadialCurve:
    """A function of distance.

    Attributes
    ----------
    r
        (n_bins,) centers of the shells, Å.
    estimate
        Value (n_bins,) and error; NaN where no pair was found and the function is not defined.
    """

    r: FloatArray
    estimate: Estimate


@dataclass(eq=False)
class PairDistances:
    """Radial distribution functions of pairs of elements, streamed.

    Attributes
    ----------
    numbers
        (n_atoms,) atomic numbers.
    pairs
        Such as (("O", "O"), ("O", "H"), ("H", "H")).
    r_max
        Largest distance, Å. Shells beyond half the smallest height of any snapshot's cell, where pairs would be
        missing, are left out.
    n_bins
        Shells between 0 and r_max.
    labels
        (n_atoms,) molecule of each atom; pairs within a molecule are left out where it is given.
    bandwidth
        Standard deviation of the Gaussian kernel, Å; 0: a histogram.
    """

    numbers: IntArray
    pairs: Sequence[tuple[str, str]]
    r_max: float
    n_bins: int = 200
    labels: IntArray | None = None
    bandwidth: float = 0.0
    _blocks: dict[tuple[str, str], Blocks] = field(default_factory=dict)
    _atoms: dict[str, IntArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        symbols = np.array(chemical_symbols)[self.numbers]
        for pair in self.pairs:
            for symbol in pair:
                self._atoms[symbol] = np.flatnonzero(symbols == symbol)
                if not len(self._atoms[symbol]):
                    raise UserError(f"pair correlation {pair[0]}-{pair[1]}: the structure holds no {symbol}")
            self._blocks[(pair[0], pair[1])] = Blocks()
        edges = np.linspace(0.0, self.r_max, self.n_bins + 1)
        self.r = 0.5 * (edges[1:] + edges[:-1])
        self._shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        self._complete = _CompleteShells(self.r_max, self.n_bins, self.bandwidth)
        self._inverse_volume = Blocks()

    @property
    def inverse_volume(self) -> float:
        """Mean of one over the volume over all snapshots, Å⁻³: g(r) times it is a density of pairs."""
        return float(self._inverse_volume.mean())

    def add(self, positions: FloatArray, cell: FloatArray) -> None:
        """Add one snapshot, (n_atoms, 3) and (3, 3) in Å."""
        self._complete.see(cell)
        volume = abs(np.linalg.det(cell))
        self._inverse_volume.add(1.0 / volume)
        for pair, blocks in self._blocks.items():
            first, second = self._atoms[pair[0]], self._atoms[pair[1]]
            counts, n_pairs = self._count(positions, cell, first, second, pair[0] == pair[1])
            blocks.add(counts, n_pairs / volume * self._shells)

    def result(self, spacing: float) -> dict[tuple[str, str], RadialCurve]:
        """g(r) of each pair; ``spacing`` is the time between snapshots in fs.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average.
        """
        return {pair: self._complete.curve(self.r, blocks, spacing) for pair, blocks in self._blocks.items()}

    def _count(
        self, positions: FloatArray, cell: FloatArray, first: IntArray, second: IntArray, same: bool
    ) -> tuple[FloatArray, float]:
        """Histogram of distances between two groups, and the number of ordered pairs looked at."""
        counts = np.zeros(self.n_bins)
        scale = self.n_bins / self.r_max
        rows = max(1, _CHUNK // len(second))
        for start in range(0, len(first), rows):
            i = first[start : start + rows]
            j = second[start:] if same else second
            vectors = minimum_image(positions[j][None, :, :] - positions[i][:, None, :], cell)
            distances = np.sqrt(np.einsum("ijx,ijx->ij", vectors, vectors))
            keep = distances < self.r_max
            if same:  # each pair once: j after i in the group
                keep &= np.arange(len(j))[None, :] > np.arange(len(i))[:, None]
            if self.labels is not None:
                keep &= self.labels[i][:, None] != self.labels[j][None, :]
            counts += np.bincount((distances[keep] * scale).astype(np.int64), minlength=self.n_bins)[
                : self.n_bins
            ]
        n_pairs = len(first) * (len(first) - 1) / 2.0 if same else float(len(first) * len(second))
        return counts, n_pairs


class DipoleCorrelation:
    """Longitudinal and transverse correlations of molecular orientations, streamed.

    Parameters
    ----------
    r_max
        Largest distance between centers, Å; see `PairDistances`.
    n_bins
        Shells between 0 and r_max.
    bandwidth
        Standard deviation of the Gaussian kernel, Å; 0: a histogram.
    """

    def __init__(self, r_max: float, n_bins: int = 120, bandwidth: float = 0.0) -> None:
        self.r_max, self.n_bins = r_max, n_bins
        self.r = (np.arange(n_bins) + 0.5) * r_max / n_bins
        self._longitudinal, self._transverse = Blocks(), Blocks()
        self._complete = _CompleteShells(r_max, n_bins, bandwidth)

    def add(self, centers: FloatArray, orientations: FloatArray, cell: FloatArray) -> None:
        """Add one snapshot: (n_molecules, 3) centers in Å, unit vectors, and the cell."""
        self._complete.see(cell)
        sums = np.zeros((3, self.n_bins))
        n = len(centers)
        rows = max(1, _CHUNK // n)
        for start in range(0, n, rows):
            i, j = slice(start, start + rows), slice(start, n)
            vectors = minimum_image(centers[j][None] - centers[i][:, None], cell)
            distances = np.sqrt(np.einsum("ijx,ijx->ij", vectors, vectors))
            later = np.arange(distances.shape[1])[None, :] > np.arange(distances.shape[0])[:, None]
            a, b = np.nonzero((distances < self.r_max) & later)
            distance = distances[a, b]
            direction = vectors[a, b] / distance[:, None]
            u, v = orientations[i][a], orientations[j][b]
            along = np.einsum("px,px->p", u, direction) * np.einsum("px,px->p", v, direction)
            across = np.einsum("px,px->p", u, v) - along
            shell = (distance * (self.n_bins / self.r_max)).astype(np.int64)
            for row, weights in enumerate((None, along, across)):
                sums[row] += np.bincount(shell, weights=weights, minlength=self.n_bins)[: self.n_bins]
        self._longitudinal.add(sums[1], sums[0])
        self._transverse.add(sums[2], sums[0])

    def result(self, spacing: float) -> tuple[RadialCurve, RadialCurve]:
        """Longitudinal and transverse curves; ``spacing`` is the time between snapshots in fs.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average.
        """
        longitudinal, transverse = (
            self._complete.curve(
                self.r, blocks, spacing, fewest=1.0
            )  # of less than one pair nothing is known
            for blocks in (self._longitudinal, self._transverse)
        )
        return longitudinal, transverse


def kernel(centers: FloatArray, bandwidth: float) -> FloatArray:
    """(n, n) Gaussian weights ``exp(-(x_i - x_j)² / 2 h²)`` between points, the identity for a bandwidth of 0."""
    if bandwidth == 0.0:
        return np.eye(len(centers))
    distances = (centers[:, None] - centers[None, :]) / bandwidth
    return np.asarray(np.exp(-0.5 * distances**2))


class _CompleteShells:
    """How many shells, from the first, lie within half the smallest height of every cell that was met."""

    def __init__(self, r_max: float, n_bins: int, bandwidth: float = 0.0) -> None:
        if bandwidth < 0.0:
            raise UserError(f"the bandwidth of pair correlations must not be negative, got {bandwidth:g} Å")
        self._width, self._count, self._bandwidth = r_max / n_bins, n_bins, bandwidth

    def see(self, cell: FloatArray) -> None:
        if not cell.any():
            raise UserError("pair correlations need a periodic cell, got none")
        self._count = min(self._count, int(largest_radius(cell) / self._width * (1.0 + 1e-9)))

    def curve(self, r: FloatArray, blocks: Blocks, spacing: float, fewest: float = 0.0) -> RadialCurve:
        """The function, NaN where the kernel averages over less than ``fewest`` of what the denominators count."""
        if self._count < 1:
            raise UserError(f"the cell is too flat for shells of {self._width:.3g} Å: choose a smaller r_max")
        shells = r[: self._count]
        if not self._bandwidth:
            return RadialCurve(shells, blocks.estimate(spacing, leading=self._count, short_blocks=True))
        weights = kernel(shells, self._bandwidth)
        found = blocks.estimate(
            spacing, leading=self._count, short_blocks=True, transform=lambda piece: weights @ piece
        )
        empty = weights @ blocks.weight()[: self._count] < fewest
        value, error = np.where(empty, np.nan, found.value), np.where(empty, np.nan, found.error)
        return RadialCurve(shells, replace(found, value=value, error=error))
