"""Orientational free energy of molecules in the laboratory frame.

``F(cos theta, phi) / kT = -ln[p(cos theta, phi) / p_uniform]`` with p the density of the orientation u on the
sphere, from a histogram on equal cells of (cos theta, phi), which have equal solid angle. Without an external
field F is flat for an equivariant potential. The roughness is the root mean square of F over cells, weighted
with p, and is compared with what noise alone gives. The mean orientation ``<u>`` sees an anisotropy that no
single cell shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import Blocks, Estimate
from ipi_driver.structure import FloatArray

_LEAST_VISITED = 0.5
"""Part of the cells of a map that must have been visited: a molecule that has hardly turned comes back to few of them,
and its visits, close to each other in time, look like independent ones."""


@dataclass(frozen=True, eq=False)
class OrientationalFreeEnergy:
    """Free energy on the sphere.

    Attributes
    ----------
    cos_theta, phi
        (n_cos,), (n_phi,) centres of the cells; phi in rad from -pi.
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


class OrientationHistogram:
    """Streaming histogram of unit vectors on (cos theta, phi).

    Parameters
    ----------
    n_cos, n_phi
        Number of cells along each coordinate.
    """

    def __init__(self, n_cos: int = 12, n_phi: int = 24) -> None:
        self.n_cos, self.n_phi = n_cos, n_phi
        self._cells = Blocks()
        self._mean = Blocks()

    def add(self, orientations: FloatArray) -> None:
        """Add the (n_molecules, 3) unit vectors of one snapshot."""
        cos_theta = np.clip((orientations[:, 2] + 1.0) / 2.0 * self.n_cos, 0, self.n_cos - 1e-9).astype(
            np.int64
        )
        phi = np.arctan2(orientations[:, 1], orientations[:, 0])
        phi_cell = np.clip((phi + np.pi) / (2.0 * np.pi) * self.n_phi, 0, self.n_phi - 1e-9).astype(np.int64)
        n_cells = self.n_cos * self.n_phi
        counts = np.bincount(cos_theta * self.n_phi + phi_cell, minlength=n_cells)
        self._cells.add(counts.reshape(self.n_cos, self.n_phi) * (n_cells / len(orientations)))
        self._mean.add(orientations.mean(axis=0))

    def result(self, spacing: float) -> OrientationalFreeEnergy:
        """The free energy; ``spacing`` is the time between snapshots in fs.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average, or for the molecules to turn round.
        """
        density = self._cells.estimate(spacing, short_blocks=True)
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
        cos_theta = (np.arange(self.n_cos) + 0.5) * 2.0 / self.n_cos - 1.0
        phi = (np.arange(self.n_phi) + 0.5) * 2.0 * np.pi / self.n_phi - np.pi
        dipole = self._mean.estimate(spacing, short_blocks=True)
        return OrientationalFreeEnergy(
            cos_theta, phi, free_energy, free_error, density, roughness, noise, dipole
        )
