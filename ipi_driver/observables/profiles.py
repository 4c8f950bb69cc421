"""Profiles across a slab: the density and the mean orientation of its molecules along the normal of the surface.

A slab is periodic along two cell vectors and has vacuum along the third. Its density falls from the value inside, rho,
to nothing as ``rho(z) = rho / 2 [1 - tanh((|z| - z_G) / d)]`` with z measured from the middle of the slab (G. A.
Chapela, G. Saville, S. M. Thompson, J. S. Rowlinson, J. Chem. Soc., Faraday Trans. 2 73, 1133 (1977)). z_G is the
Gibbs dividing surface, half the thickness of the slab, and the density falls from 90 to 10 % within ``2.1972 d``.

By symmetry the density is even in z and the mean of ``u . n``, u the orientation of a molecule and n the normal, odd.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import curve_fit

from ipi_driver.errors import UserError
from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.molecules import heights
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import G_PER_CM3

LEAST_VACUUM = 8.0
"""Å of vacuum that make a slab of a liquid: more than any cavity in it, less than two surfaces need."""

FEWEST_OF_A_SLAB = 16
"""Molecules; fewer are a cluster."""

_MOST_GAP = 5.0
"""Å without an atom along the surface of a slab; in a vapour there is more."""

_LEAST_DENSITY = 0.01
"""Atoms per Å³ of a liquid (water 0.1, argon 0.02)."""

_VAPOUR = 0.25
"""Part of the highest density along the normal below which there is vacuum, or a few molecules in it."""

FROM_90_TO_10 = 2.0 * np.arctanh(0.8)
"""Distance between 90 and 10 % of a hyperbolic tangent, in units of d."""

_WIDTH = 0.5
"""Of a bin, Å."""

_MOST_OFF = 0.3
"""Root mean square distance of a density from the fit, as a part of that inside. Layers of a liquid are half of it."""


@dataclass(frozen=True, eq=False)
class SlabNormal:
    """Where the vacuum of a slab is.

    Attributes
    ----------
    axis
        Number of the cell vector that leads through the vacuum.
    vacuum
        Å of little density along the normal.
    """

    axis: int
    vacuum: float


def find_slab(positions: FloatArray, cell: FloatArray) -> SlabNormal | None:
    """The normal of a slab of a liquid, or None for a bulk liquid, a cluster or a vapour.

    A slab has no gap along two cell vectors, a stretch of little density along the third, and the density of a liquid
    in the rest. Molecules that have evaporated do not matter.

    Parameters
    ----------
    positions, cell
        (n_atoms, 3) and (3, 3), Å.
    """
    if not cell.any(axis=1).all():
        return None  # without a third vector there is no height for a profile
    fractions = (positions @ np.linalg.inv(cell)) % 1.0
    lengths = heights(cell)
    vacuum = np.array([_vacuum(fractions[:, k], lengths[k]) for k in range(3)])
    (wide,) = np.nonzero(vacuum >= LEAST_VACUUM)
    if len(wide) != 1:
        return None
    axis = int(wide[0])
    others = np.sort(np.delete(fractions, axis, axis=1), axis=0)
    gaps = np.diff(others, axis=0, append=others[:1] + 1.0).max(axis=0) * np.delete(lengths, axis)
    filled = abs(np.linalg.det(cell)) * (1.0 - vacuum[axis] / lengths[axis])
    if gaps.max() > _MOST_GAP or len(positions) < _LEAST_DENSITY * filled:
        return None
    return SlabNormal(axis, float(vacuum[axis]))


def _vacuum(fractions: FloatArray, height: float) -> float:
    """Length of the longest stretch of little density along a periodic direction, Å."""
    n_bins = max(1, round(height))
    counts = np.bincount((fractions * n_bins).astype(np.int64) % n_bins, minlength=n_bins)
    empty = counts < _VAPOUR * counts.max()
    if empty.all() or not empty.any():
        return 0.0
    filled = np.flatnonzero(~empty)
    stretches = np.diff(filled, append=filled[:1] + n_bins) - 1
    return float(stretches.max() * height / n_bins)


class SlabProfiles:
    """Density and orientation across a slab, streamed; z counts from the middle of the slab in each snapshot.

    The middle is the center of mass of what lies in the slab: molecules that have evaporated do not move it.

    Parameters
    ----------
    slab
        What `find_slab` says.
    masses
        (n_atoms,) amu.
    centers
        (n_molecules,) which of these atoms stands for each molecule.
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
        z = _from_middle(positions @ inverse[:, self.slab.axis], self._masses) * height
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
        return replace(found, value=value, error=error)


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
    near = np.abs(z) < place + width
    fitted = 0.5 * inside * (1.0 - np.tanh((np.abs(z) - place) / width))
    off = float(np.sqrt(np.mean((density - fitted)[near] ** 2))) if near.any() else np.inf
    if off > _MOST_OFF * inside:
        raise UserError(
            "the density across the slab has not the form of a liquid's with two like surfaces: it is off by "
            f"{100.0 * off / inside:.0f} % of that inside"
        )
    return np.array([inside, place, FROM_90_TO_10 * width])


def _from_middle(fractions: FloatArray, masses: FloatArray) -> FloatArray:
    """Fractional coordinates from the middle of the slab along a periodic direction, within [-1/2, 1/2)."""
    angles = 2.0 * np.pi * fractions
    middle = np.arctan2(masses @ np.sin(angles), masses @ np.cos(angles)) / (2.0 * np.pi)
    z = (fractions - middle + 0.5) % 1.0 - 0.5  # cut in the vacuum, opposite of the middle
    for _ in range(3):
        # half of the atoms of a slab lie within half of its thickness on both sides of the middle
        within = np.abs(z) <= 3.0 * np.median(np.abs(z))
        z = (z - masses[within] @ z[within] / masses[within].sum() + 0.5) % 1.0 - 0.5
    return np.asarray(z)
