"""Orientational free energy of molecules in the laboratory frame.

``F(cos theta, phi) / kT = -ln[p(cos theta, phi) / p_uniform]`` with p the density of the orientation u on the
sphere, from a histogram on equal cells of (cos theta, phi), which have equal solid angle. Without an external
field F is flat for an equivariant potential. The roughness is the root mean square of F over cells, weighted
with p, and is compared with what noise alone gives. With a bandwidth the density is a kernel estimate, a Gaussian
of this standard deviation in cos theta, folded back at -1 and 1, and in phi, periodic. The mean orientation
``<u>`` sees an anisotropy that no single cell shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray, IntArray

_FINE = 3.0
"""Cells of the histogram per bandwidth of the kernel."""

_LEAST_BANDWIDTH = 0.02
"""Of a kernel: its cells grow with the inverse square, to half a million here."""

_LEAST_VISITED = 0.5
"""Part of the cells of a map that must have been visited: a molecule that has hardly turned comes back to few of them,
and its visits, close to each other in time, look like independent ones."""


@dataclass(frozen=True, eq=False)
class OrientationalFreeEnergy:
    """Free energy on the sphere.

    Attributes
    ----------
    cos_theta, phi
        (n_cos,), (n_phi,) centers of the cells; phi in rad from -pi.
    free_energy, error
        (n_cos, n_phi) in kT; NaN in cells never visited.
    density
        Estimate of p / p_uniform, (n_cos, n_phi).
    roughness
        Root mean square of F, in kT, weighted with p.
    noise
        The roughness that the statistical errors alone explain, in kT.
    dipole
        Estimate of <u>, (3,): zero for an isotropic density.
    """

    cos_theta: FloatArray
    phi: FloatArray
    free_energy: FloatArray
    error: FloatArray
    density: Estimate
    roughness: float
    noise: float
    dipole: Estimate

    @property
    def significance(self) -> float:
        """Chi squared per degree of freedom of the density against a uniform one: about 1 for a flat free
        energy.
        """
        errors = self.density.error
        valid = np.isfinite(errors) & (errors > 0)
        return float(
            (((self.density.value - 1.0)[valid] / errors[valid]) ** 2).sum() / max(1, valid.sum() - 1)
        )


def cells_of(directions: FloatArray, n_cos: int, n_phi: int) -> IntArray:
    """Cells of equal solid angle that unit vectors (..., 3) lie in: ``row of cos theta * n_phi + column of phi``."""
    row = np.clip((directions[..., 2] + 1.0) / 2.0 * n_cos, 0, n_cos - 1e-9).astype(np.int64)
    phi = np.arctan2(directions[..., 1], directions[..., 0])
    column = np.clip((phi + np.pi) / (2.0 * np.pi) * n_phi, 0, n_phi - 1e-9).astype(np.int64)
    return row * n_phi + column


def centers_of(n_cos: int, n_phi: int) -> tuple[FloatArray, FloatArray]:
    """Centers of these cells in cos theta (n_cos,), and in phi (n_phi,), rad from -pi."""
    return _centers(n_cos, 2.0), _centers(n_phi, 2.0 * np.pi)


class OrientationHistogram:
    """Streaming histogram of unit vectors on (cos theta, phi).

    Parameters
    ----------
    n_cos, n_phi
        Number of cells along each coordinate.
    bandwidth
        Standard deviation of the Gaussian kernel, in cos theta and in phi (rad); 0: a histogram.
    """

    def __init__(self, n_cos: int = 12, n_phi: int = 24, bandwidth: float = 0.0) -> None:
        if bandwidth != 0.0 and not _LEAST_BANDWIDTH <= bandwidth < np.inf:
            raise UserError(
                f"the bandwidth of a map must be 0 (cells), or {_LEAST_BANDWIDTH:g} or more, got {bandwidth:g}"
            )
        self.shape, self.bandwidth = (n_cos, n_phi), bandwidth
        # a kernel needs finer cells than the map
        fine = 2 * int(np.ceil(_FINE * np.pi / n_phi / bandwidth)) - 1 if bandwidth else 1
        self.n_cos, self.n_phi = fine * n_cos, fine * n_phi
        self._cells = Blocks()
        self._mean = Blocks()

    def add(self, orientations: FloatArray) -> None:
        """Add the (n_molecules, 3) unit vectors of one snapshot."""
        n_cells = self.n_cos * self.n_phi
        counts = np.bincount(cells_of(orientations, self.n_cos, self.n_phi), minlength=n_cells)
        self._cells.add(counts.reshape(self.n_cos, self.n_phi) * (n_cells / len(orientations)))
        self._mean.add(orientations.mean(axis=0))

    @property
    def n_samples(self) -> int:
        """Snapshots added."""
        return self._mean.n_samples

    def result(self, spacing: float, least_correlation_time: float = 0.0) -> OrientationalFreeEnergy:
        """The free energy.

        Parameters
        ----------
        spacing
            Time between snapshots, fs.
        least_correlation_time
            fs; that of the reorientation of a molecule, which the visits of a short run to single cells do not show.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average, or for the molecules to turn round.
        """
        density = self._cells.estimate(
            spacing,
            short_blocks=True,
            transform=self._transform(),
            least_correlation_time=least_correlation_time,
        )
        p, error = density.value, density.error
        with np.errstate(divide="ignore", invalid="ignore"):
            free_energy = np.where(p > 0, -np.log(p), np.nan)
            free_error = np.where(p > 0, error / p, np.nan)
        visited = p > 0
        if visited.sum() < _LEAST_VISITED * p.size:
            raise UserError(
                f"too short: the orientations have visited {visited.sum()} of the {p.size} cells of the map; run "
                "longer (molecules of a solid may never visit them)"
            )
        weight = p[visited].sum()
        roughness = float(np.sqrt((p * free_energy**2)[visited].sum() / weight))
        noise = float(np.sqrt((p * free_error**2)[visited].sum() / weight))
        cos_theta, phi = centers_of(*self.shape)
        dipole = self._mean.estimate(
            spacing, short_blocks=True, least_correlation_time=least_correlation_time
        )
        return OrientationalFreeEnergy(
            cos_theta, phi, free_energy, free_error, density, roughness, noise, dipole
        )

    def _transform(self) -> Callable[[FloatArray], FloatArray] | None:
        """From the fine cells to the kernel density at the centers of the cells of the map."""
        if not self.bandwidth:
            return None
        along = _folded_kernel(self.shape[0], self.n_cos, self.bandwidth)
        around = _periodic_kernel(self.shape[1], self.n_phi, self.bandwidth)
        return lambda counts: np.asarray(along @ counts @ around.T)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Orientations against an axis: cos theta, with the density p(cos theta), 1/2 where no field acts.

    Attributes
    ----------
    mean_cosine
        Estimate of <cos theta>.
    cos_theta
        (n,) centers of cells.
    free_energy, error
        (n,) -ln 2 p in kT, and its standard error; NaN in cells never visited.
    """

    mean_cosine: Estimate
    cos_theta: FloatArray
    free_energy: FloatArray
    error: FloatArray


def alignment(
    cosines: FloatArray, spacing: float, n_cells: int = 12, least_correlation_time: float = 0.0
) -> Alignment:
    """Mean and free energy of the cosines (n_snapshots, n_molecules) of orientations to an axis, ``spacing`` fs apart.

    Raises
    ------
    UserError
        If the trajectory is too short for a block average.
    """
    mean, cells = Blocks(), Blocks()
    for row in cosines:
        mean.add(row.mean())
        places = np.clip((row + 1.0) / 2.0 * n_cells, 0, n_cells - 1e-9).astype(np.int64)
        cells.add(np.bincount(places, minlength=n_cells) * (n_cells / len(row)))
    density, mean_cosine = (
        blocks.estimate(spacing, short_blocks=True, least_correlation_time=least_correlation_time)
        for blocks in (cells, mean)
    )
    visited = density.value > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = np.where(visited, -np.log(density.value), np.nan)
        error = np.where(visited, density.error / density.value, np.nan)
    return Alignment(mean_cosine, _centers(n_cells, 2.0), free_energy, error)


def langevin(a: ArrayLike) -> FloatArray:
    """<cos theta> = coth a - 1 / a of a dipole in a field, with a the product of both over kT.

    >>> langevin([0.0, 1.0]).round(6).tolist()
    [0.0, 0.313035]
    """
    values = np.asarray(a, dtype=np.float64)
    small = np.abs(values) < 1e-3  # where both terms diverge
    safe = np.where(small, 1.0, values)
    return np.asarray(np.where(small, values / 3.0, 1.0 / np.tanh(safe) - 1.0 / safe))


def inverse_langevin(mean_cosine: float) -> float:
    """The a whose `langevin` is ``mean_cosine``, which lies between -1 and 1.

    >>> round(inverse_langevin(float(langevin(2.5))), 6)
    2.5
    """
    if not -1.0 < mean_cosine < 1.0:
        raise UserError(f"a mean cosine must lie between -1 and 1, got {mean_cosine:g}")
    most = 1.0 / (1.0 - abs(mean_cosine)) + 1.0
    return float(brentq(lambda a: float(langevin(a)) - mean_cosine, -most, most))


def _centers(n: int, length: float) -> FloatArray:
    """Centers of n cells of an interval about zero."""
    return np.asarray((np.arange(n) + 0.5) * length / n - 0.5 * length)


def _gaussian(distances: FloatArray, bandwidth: float) -> FloatArray:
    return np.asarray(np.exp(-0.5 * (distances / bandwidth) ** 2))


def _folded_kernel(n_points: int, n_cells: int, bandwidth: float) -> FloatArray:
    """(n_points, n_cells) weights in [-1, 1], what lies beyond an end folded back; rows sum to 1."""
    at, of = _centers(n_points, 2.0)[:, None], _centers(n_cells, 2.0)[None, :]
    weights = sum(_gaussian(at - image, bandwidth) for image in (of, 2.0 - of, -2.0 - of))
    return np.asarray(weights / np.sum(weights, axis=1, keepdims=True))


def _periodic_kernel(n_points: int, n_cells: int, bandwidth: float) -> FloatArray:
    """(n_points, n_cells) weights on the circle; rows sum to 1."""
    at, of = _centers(n_points, 2.0 * np.pi)[:, None], _centers(n_cells, 2.0 * np.pi)[None, :]
    weights = sum(_gaussian(at - of + shift, bandwidth) for shift in (-2.0 * np.pi, 0.0, 2.0 * np.pi))
    return np.asarray(weights / np.sum(weights, axis=1, keepdims=True))
