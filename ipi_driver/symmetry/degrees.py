r"""The symmetry error resolved by angular degree l and parity.

As a function of the rotation the energy, and every component of the forces in the laboratory frame, is a
function on O(3),

.. math::

    E(R) = \sum_{p=\pm} (\det R)^{[p=-]} \sum_l \sum_{mm'} c^{lp}_{mm'} D^l_{mm'}(R), \qquad
    c^{lp}_{mm'} = (2l+1) \int (\det R)^{[p=-]}\, E(R)\, D^l_{mm'}(R)\, dR,

with real Wigner matrices D of the proper part of R. The variance over the rotations is the sum of the
powers

.. math::  P_{lp} = \frac{1}{2l+1} \sum_{mm'} |c^{lp}_{mm'}|^2 .

The integral is a quadrature of Euler angles whose degree is at least 2 l_max, so that what is resolved is
exact but for what lies above. What of it passes an average is in `ipi_driver.rotations.transmission`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.rotations.quadrature import Quadrature, quadrature
from ipi_driver.rotations.transmission import PARITIES, transmission
from ipi_driver.structure import FloatArray, Structure
from ipi_driver.wigner import wigner_matrices


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Root-mean-square amplitude of the energy and the forces over the rotations, by degree and parity.

    Attributes
    ----------
    max_degree
        Largest l resolved.
    energy
        (max_degree + 1, 2) in eV: rows l = 0 … max_degree, columns even and odd under inversion. The entry
        (0, even) is the average itself and is set to zero.
    forces
        (max_degree + 1, 2) in eV/Å, per component.
    energy_rest, forces_rest
        What lies above max_degree.
    angles
        (n_bins,) relative angle of two rotations, rad.
    energy_by_angle, forces_by_angle
        (n_bins,) root-mean-square difference between two proper rotations at that angle, eV
        and eV/Å; NaN where no pair has that angle.
    """

    max_degree: int
    energy: FloatArray
    forces: FloatArray
    energy_rest: float
    forces_rest: float
    angles: FloatArray
    energy_by_angle: FloatArray
    forces_by_angle: FloatArray


def decompose(
    potential: Potential,
    structure: Structure,
    max_degree: int = 4,
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
) -> Decomposition:
    """Resolve the orientation dependence of one structure up to ``max_degree``."""
    grid = decomposition_grid(max_degree)
    results = RotationChunks(potential, rotation_batch).evaluate(structure, grid.rotations, progress)
    values = np.concatenate([results.energies[0][:, None], results.forces[0].reshape(len(grid), -1)], axis=1)
    values = values - grid.weights @ values
    signs = np.linalg.det(grid.rotations)
    energy, forces = np.zeros((2, max_degree + 1, 2))
    for degree in range(max_degree + 1):
        matrices = wigner_matrices(grid.rotations, degree).reshape(len(grid), -1)
        for column, parity in enumerate(PARITIES):
            weights = grid.weights if parity == 1 else grid.weights * signs
            projected = matrices.T @ (weights[:, None] * values)
            power = (2 * degree + 1) * (projected**2).sum(axis=0)
            energy[degree, column] = np.sqrt(power[0])
            forces[degree, column] = np.sqrt(power[1:].mean()) if values.shape[1] > 1 else 0.0
    variance = grid.weights @ values**2
    energy_rest = float(np.sqrt(max(variance[0] - (energy**2).sum(), 0.0)))
    forces_rest = float(np.sqrt(max(variance[1:].mean() - (forces**2).sum(), 0.0)))
    angles, energy_by_angle, forces_by_angle = _by_angle(grid, values)
    return Decomposition(
        max_degree, energy, forces, energy_rest, forces_rest, angles, energy_by_angle, forces_by_angle
    )


def mean_decomposition(parts: list[Decomposition]) -> Decomposition:
    """Root mean square over structures."""

    def mean(name: str) -> FloatArray:
        stacked = np.array([getattr(part, name) for part in parts])
        return np.asarray(np.sqrt((stacked**2).mean(axis=0)))

    return Decomposition(
        parts[0].max_degree,
        mean("energy"),
        mean("forces"),
        float(mean("energy_rest")),
        float(mean("forces_rest")),
        parts[0].angles,
        mean("energy_by_angle"),
        mean("forces_by_angle"),
    )


def decomposition_grid(max_degree: int) -> Quadrature:
    """The Euler-angle grid, with inversion, of degree 2 ``max_degree``."""
    return quadrature(f"{max(max_degree + 1, 2)}i")


def residual_force(found: Decomposition, grid: Quadrature) -> float:
    """Upper estimate of the root-mean-square force error (eV/Å) that an average leaves.

    For the resolved degrees the transmitted power is known, as a mean over orientations. Of the power above them the
    estimate takes the share of a grid of as many independent rotations, 1/n_rotations. This is an upper estimate if the
    degree of the grid is above `Decomposition.max_degree`, or if the rest decays with l.
    """
    return shared_force(found, grid, grid)


def shared_force(found: Decomposition, grid: Quadrature, reference: Quadrature) -> float:
    """Root-mean-square force error (eV/Å) that an average shares with the reference.

    The difference of the two does not show this error: Ih and I, for example, keep the same invariants of even parity.
    Above the resolved degrees the two share the part of `residual_force` if their proper rotations are the same.
    """
    passed = np.minimum(transmission(grid, found.max_degree), transmission(reference, found.max_degree))
    power = (passed * found.forces**2).sum()
    ours, theirs = (_proper(g) for g in (grid, reference))
    if ours == theirs:
        power += found.forces_rest**2 / len(ours)
    return float(np.sqrt(power))


def _proper(grid: Quadrature) -> set[tuple[float, ...]]:
    """The proper parts of the rotations."""
    proper = grid.rotations * np.linalg.det(grid.rotations)[:, None, None]
    # adding zero makes -0.0 the same as 0.0
    return {tuple(row) for row in (proper.reshape(-1, 9).round(6) + 0.0).tolist()}


def _by_angle(
    grid: Quadrature, values: FloatArray, n_bins: int = 18
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Difference between two rotations of the structure against the angle between them."""
    chosen = np.linalg.det(grid.rotations) > 0
    rotations, weights = grid.rotations[chosen].reshape(-1, 9), grid.weights[chosen]
    traces = rotations @ rotations.T  # trace(R_i^T R_j) = 1 + 2 cos(angle)
    angles = np.arccos(np.clip((traces - 1.0) / 2.0, -1.0, 1.0))
    first, second = np.triu_indices(len(weights), k=1)
    pair_weights = weights[first] * weights[second]
    edges = np.linspace(0.0, np.pi, n_bins + 1)
    bins = np.clip(np.digitize(angles[first, second], edges) - 1, 0, n_bins - 1)
    total = np.bincount(bins, pair_weights, n_bins)
    curves = []
    for columns in (values[chosen, :1], values[chosen, 1:]):
        gram = columns @ columns.T
        squared = np.maximum(gram[first, first] + gram[second, second] - 2.0 * gram[first, second], 0.0)
        summed = np.bincount(bins, pair_weights * squared, n_bins) / max(columns.shape[1], 1)
        curves.append(np.sqrt(np.divide(summed, total, out=np.full(n_bins, np.nan), where=total > 0)))
    return 0.5 * (edges[1:] + edges[:-1]), curves[0], curves[1]
