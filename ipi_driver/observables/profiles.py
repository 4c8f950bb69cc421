"""Profiles across a slab: the density and the mean orientation of its molecules along the normal of the surface.

A slab is periodic along two cell vectors and has vacuum along the third. Its density falls from the value inside, rho,
to nothing as ``rho(z) = rho / 2 [1 - tanh((|z| - z_G) / d)]`` with z measured from the middle of the slab (G. A.
Chapela, G. Saville, S. M. Thompson, J. S. Rowlinson, J. Chem. Soc., Faraday Trans. 2 73, 1133 (1977)). z_G is the
Gibbs dividing surface, half the thickness of the slab, and the density falls from 90 to 10 % within ``2.1972 d``.

By symmetry the density is even in z and the mean of ``u . n``, u the orientation of a molecule and n the normal, odd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import G_PER_CM3

LEAST_VACUUM = 8.0
"""Å without an atom that make a slab of a liquid: more than any cavity in it, less than two surfaces need."""

FROM_90_TO_10 = 2.0 * np.arctanh(0.8)
"""Distance between 90 and 10 % of a hyperbolic tangent, in units of d."""

_WIDTH = 0.5
"""Of a bin, Å."""


@dataclass(frozen=True, eq=False)
class SlabNormal:
    """Where the vacuum of a slab is.

    Attributes
    ----------
    axis
        Number of the cell vector that leads through the vacuum.
    vacuum
        Å between the slab and its image along the normal.
    """

    axis: int
    vacuum: float


def find_slab(positions: FloatArray, cell: FloatArray) -> SlabNormal | None:
    """The normal of a slab, or None where the atoms (n, 3) fill the cell, or leave it in more than one direction.

    Along each cell vector the widest gap between neighboring atoms is looked for, across the boundary too.
    """
    if not cell.any(axis=1).all():
        return None  # without a third vector there is no height for a profile
    fractions = np.sort((positions @ np.linalg.inv(cell)) % 1.0, axis=0)
    gaps = np.diff(fractions, axis=0, append=fractions[:1] + 1.0).max(axis=0) * heights(cell)
    wide = np.flatnonzero(gaps >= LEAST_VACUUM)
    return SlabNormal(int(wide[0]), float(gaps[wide[0]])) if len(wide) == 1 else None


def heights(cell: FloatArray) -> FloatArray:
    """(3,) distances between opposite faces of a cell, Å."""
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0))


class SlabProfiles:
    """Density and orientation across a slab, streamed; z counts from the center of mass of each snapshot.

    Parameters
    ----------
    slab
        What `find_slab` says.
    masses
        (n_atoms,) amu.
    centers
        (n_molecules,) number of the atom that stands for each molecule.
    cell
        (3, 3) of the first snapshot, Å; bins reach from one middle of the vacuum to the other.
    """

    def __init__(self, slab: SlabNormal, masses: FloatArray, centers: IntArray, cell: FloatArray) -> None:
        self.slab, self._masses, self._centers = slab, masses, centers
        height = float(heights(cell)[slab.axis])
        n_bins = max(2, 2 * round(height / _WIDTH / 2.0))
        self._edges = np.linspace(-0.5 * height, 0.5 * height, n_bins + 1)
        self.z = 0.5 * (self._edges[1:] + self._edges[:-1])
        self._density, self._orientation = Blocks(), Blocks()

    def add(self, positions: FloatArray, cell: FloatArray, orientations: FloatArray | None = None) -> None:
        """One snapshot: positions (n_atoms, 3), cell (3, 3) in Å, unit vectors of the molecules (n_molecules, 3)."""
        inverse = np.linalg.inv(cell)
        height = 1.0 / np.linalg.norm(inverse[:, self.slab.axis])
        z = _from_center(positions @ inverse[:, self.slab.axis], self._masses) * height
        volumes = np.diff(self._edges) * abs(np.linalg.det(cell)) / height
        self._density.add(np.histogram(z, self._edges, weights=self._masses)[0] / volumes * G_PER_CM3)
        if orientations is not None:
            along = orientations @ (inverse[:, self.slab.axis] * height)
            places = z[self._centers]
            self._orientation.add(
                np.histogram(places, self._edges, weights=along)[0], np.histogram(places, self._edges)[0]
            )

    def density(self, spacing: float) -> Estimate:
        """g/cm³ in each bin; ``spacing`` is the time between snapshots in fs.

        Raises
        ------
        UserError
            If the run is too short for block averages.
        """
        return self._density.estimate(spacing, short_blocks=True)

    def orientation(self, spacing: float) -> Estimate | None:
        """Mean of ``u . n`` of the molecules in each bin, NaN where there were hardly any; None without orientations.

        Raises
        ------
        UserError
            If the run is too short for block averages.
        """
        if not len(self._orientation):
            return None
        found = self._orientation.estimate(spacing, short_blocks=True)
        seldom = self._orientation.weight() < 0.02 * self._orientation.weight().max()
        value, error = np.where(seldom, np.nan, found.value), np.where(seldom, np.nan, found.error)
        return Estimate(
            value,
            error,
            found.correlation_time,
            found.block_length,
            found.n_blocks,
            found.blocks,
            found.correction,
        )


def surfaces(z: FloatArray, density: FloatArray) -> FloatArray:
    """Fit of the hyperbolic tangent to both sides at once: density inside, z_G and the 90-10 thickness (g/cm³, Å, Å).

    Raises
    ------
    UserError
        If the profile has no such form.
    """
    half = 0.5 * np.trapezoid(density, z) / density.max()
    try:
        (inside, place, width), _ = curve_fit(
            lambda x, rho, edge, d: 0.5 * rho * (1.0 - np.tanh((np.abs(x) - edge) / d)),
            z,
            density,
            p0=(density.max(), half, 1.0),
            bounds=((0.0, 0.0, 1e-3), (np.inf, float(z[-1]), float(z[-1]))),
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the density across the slab has not the form of a liquid's: {error}") from None
    return np.array([inside, place, FROM_90_TO_10 * width])


def _from_center(fractions: FloatArray, masses: FloatArray) -> FloatArray:
    """Fractional coordinates from the center of mass along a periodic direction, within [-1/2, 1/2)."""
    angles = 2.0 * np.pi * fractions
    middle = np.arctan2(masses @ np.sin(angles), masses @ np.cos(angles)) / (2.0 * np.pi)
    inside = (fractions - middle + 0.5) % 1.0 - 0.5  # cut in the vacuum, opposite of the middle
    inside = inside - masses @ inside / masses.sum()
    return np.asarray((inside + 0.5) % 1.0 - 0.5)
