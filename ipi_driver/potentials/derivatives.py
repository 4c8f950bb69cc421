r"""Derivatives of a potential's energy by finite differences.

Central differences of two steps, extrapolated (Richardson):

.. math::  \frac{dE}{dh} = \frac{4 s(h) - s(2h)}{3}, \qquad s(h) = \frac{E(h) - E(-h)}{2h} .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ipi_driver.potentials.base import Potential
from ipi_driver.structure import FloatArray, Prediction, Structure

STEPS = (1e-4, 1e-3, 1e-2)
"""Å: the smaller suit double precision, the larger single; the best of them counts."""

_STRAIN_PER_STEP = 0.3

_PROBE = 1e-3
"""Å: root-mean-square displacement of a coordinate in a product with the Jacobian."""


def force_deviation(
    potential: Potential, structure: Structure, result: Prediction, rng: np.random.Generator
) -> float:
    """Difference of the forces and the energy's derivative along a random unit vector of all coordinates, eV/Å.

    As the vector is random, it is of the size of the error of one force component.
    """
    direction = rng.standard_normal(structure.positions.shape)
    direction /= np.linalg.norm(direction)
    scale = np.sqrt(result.forces.size)  # a step is the root-mean-square displacement of a coordinate

    def energy(h: float) -> float:
        moved = replace(structure, positions=structure.positions + h * scale * direction)
        return potential.predict(moved).energy

    return _deviation(energy, scale, -float((result.forces * direction).sum()))


def virial_deviation(
    potential: Potential, structure: Structure, result: Prediction, rng: np.random.Generator
) -> float | None:
    """Difference of the virial and the derivative by a random symmetric strain of unit norm, eV; None without one."""
    strain = rng.standard_normal((3, 3))
    strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)  # i-PI and ASE use symmetric strains
    if result.virial is None:
        return None

    def energy(h: float) -> float:
        deform = (np.eye(3) + _STRAIN_PER_STEP * h * strain).T
        strained = replace(structure, positions=structure.positions @ deform, cell=structure.cell @ deform)
        return potential.predict(strained).energy

    return _deviation(energy, _STRAIN_PER_STEP, -float((result.virial * strain).sum()))


def jacobian_asymmetry(
    potential: Potential, structure: Structure, rng: np.random.Generator, n_probes: int = 8
) -> float:
    r"""Share of the Jacobian of the forces that no energy can have: 0 for conservative forces.

    With :math:`J = \partial F / \partial x`, n coordinates and k random orthonormal vectors v,

    .. math::

        \lambda = \frac{\|J - J^T\|_F}{2 \|J\|_F}, \qquad
        \|J - J^T\|_F^2 \approx \frac{n (n - 1)}{k (k - 1)} \sum_{i \ne j} (v_i^T J v_j - v_j^T J v_i)^2, \qquad
        \|J\|_F^2 \approx \frac{n}{k} \sum_j |J v_j|^2 ,

    which is exact for k = n (Bigi, Langer, Ceriotti, arXiv:2412.11569).

    Parameters
    ----------
    potential, structure
        What is evaluated, twice for each probe.
    rng
        Of the vectors.
    n_probes
        Number of vectors, at least 2; more than 3 n_atoms are not used.
    """
    n = structure.positions.size
    k = min(max(n_probes, 2), n)
    vectors = np.linalg.qr(rng.standard_normal((n, k)))[0]

    def product(vector: FloatArray) -> FloatArray:
        """J times a vector."""
        step = _PROBE * np.sqrt(n) * vector.reshape(-1, 3)
        ahead, behind = (
            potential.predict(replace(structure, positions=structure.positions + s * step)).forces.ravel()
            for s in (1.0, -1.0)
        )
        return (ahead - behind) / (2.0 * _PROBE * np.sqrt(n))

    columns = np.array([product(vector) for vector in vectors.T]).T
    projected = vectors.T @ columns
    antisymmetric = n * (n - 1) / (k * (k - 1)) * ((projected - projected.T) ** 2).sum()
    norm = n / k * (columns**2).sum()
    return float(0.5 * np.sqrt(antisymmetric / max(norm, 1e-300)))


def _deviation(energy: Callable[[float], float], scale: float, slope: float) -> float:
    """Smallest difference between ``slope`` and the extrapolated derivative over the steps."""
    deviations = []
    for h in STEPS:
        near = (energy(h) - energy(-h)) / (2.0 * h * scale)
        far = (energy(2.0 * h) - energy(-2.0 * h)) / (4.0 * h * scale)
        deviations.append(abs((4.0 * near - far) / 3.0 - slope))
    return min(deviations)
