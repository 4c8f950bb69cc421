r"""N charges in free space, with exact labels: data on which networks of all kinds can be trained in a minute.

.. math::  E = \sum_{i<j} \frac{k\, q_i q_j}{\sqrt{r_{ij}^2 + a^2}} + A\, e^{-r_{ij}/\rho} ,

softened Coulomb interactions and a wall. The energy is invariant under rotations and reflections, and the forces are
equivariant; positive charges are sodium, negative ones chlorine.
"""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from ipi_driver.structure import FloatArray, IntArray
from ipi_driver.units import COULOMB

CHARGE = 0.4
"""Modulus, e."""
SOFTENING = 1.0
"""a, Å."""
WALL, WALL_LENGTH = 40.0, 0.3
"""A, eV, and ρ, Å."""
CLOSEST = 1.5
"""Smallest distance of two charges, Å."""


def interaction(positions: FloatArray, charges: FloatArray) -> tuple[float, FloatArray]:
    """Energy in eV and forces (n, 3) in eV/Å of charges (n,) in e at ``positions`` (n, 3) in Å.

    Examples
    --------
    >>> energy, forces = interaction(np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), np.array([0.4, -0.4]))
    >>> round(energy, 3), bool(forces[0, 0] > 0), bool(np.allclose(forces.sum(axis=0), 0))
    (-0.727, True, True)
    """
    apart = positions[:, None] - positions[None]
    squared = (apart**2).sum(axis=-1)
    np.fill_diagonal(squared, 1.0)
    distances, soft = np.sqrt(squared), np.sqrt(squared + SOFTENING**2)
    strength = COULOMB * np.outer(charges, charges)
    walls = WALL * np.exp(-distances / WALL_LENGTH)
    energies = strength / soft + walls
    pull = strength / soft**3 + walls / (WALL_LENGTH * distances)
    for values in (energies, pull):
        np.fill_diagonal(values, 0.0)
    return float(0.5 * energies.sum()), np.asarray((pull[..., None] * apart).sum(axis=1))


def charges(n_structures: int, n_charges: int = 6, seed: int = 0, radius: float = 3.0) -> list[ase.Atoms]:
    """Structures of as many positive as negative charges within a sphere, with energies and forces.

    Parameters
    ----------
    n_structures, n_charges
        How many; of an odd number one more is positive.
    seed
        Of the positions.
    radius
        Å; no two charges are closer than `CLOSEST`.
    """
    rng = np.random.default_rng(seed)
    signs = np.where(np.arange(n_charges) % 2 == 0, 1.0, -1.0)
    found = []
    for _ in range(n_structures):
        positions = _apart(rng, n_charges, radius)
        energy, forces = interaction(positions, CHARGE * signs)
        atoms = ase.Atoms(_labels(signs), positions)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        found.append(atoms)
    return found


def _labels(signs: FloatArray) -> Sequence[str]:
    return ["Na" if sign > 0 else "Cl" for sign in signs]


def _apart(rng: np.random.Generator, n: int, radius: float) -> FloatArray:
    """(n, 3) points in a sphere, none closer than `CLOSEST` to another, in a random order."""
    points: list[FloatArray] = []
    while len(points) < n:
        point = rng.uniform(-radius, radius, size=3)
        if np.linalg.norm(point) > radius:
            continue
        if all(np.linalg.norm(point - other) >= CLOSEST for other in points):
            points.append(point)
    order: IntArray = rng.permutation(n)
    return np.array(points)[order]
