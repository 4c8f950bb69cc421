r"""The rotational benchmark of ML-PEG: a walk through 115 orientations, each compared with the one before.

The walk begins at the structure as it stands; 14 steps of 1° to 40° about random axes follow, then 100 rotations that
are uniform over SO(3). Of each step

.. math::  |\Delta E| / n_{\rm atoms}, \qquad \frac{1}{3 n_{\rm atoms}} \sum_{ia} |\Delta F_{ia}| ,

with the forces turned back to the laboratory; mean and largest over the steps are the numbers of the benchmark. The
first steps separate a smooth dependence on the orientation, small at small angles, from noise. A difference of two
orientations is larger than the error against the average over all, by about :math:`\sqrt 2`.

ML-PEG, https://github.com/ddmms/ml-peg (physicality: rotational symmetry); the force difference after Chiang et al.,
arXiv 2509.20630 (2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import Progress, RotationChunks, no_progress
from ipi_driver.structure import FloatArray, Structure

STEP_ANGLES = (1, 1, 1, 1, 1, 2, 3, 5, 7, 10, 14, 20, 28, 40)
"""Degrees, of the first steps."""
N_ORIENTATIONS = 1 + len(STEP_ANGLES) + 100
_SEED = 42


@dataclass(frozen=True, eq=False)
class RotationWalk:
    """Differences between successive orientations.

    Attributes
    ----------
    angles
        (n_steps,) degrees.
    energies
        (n_structures, n_steps) moduli of the differences, eV per atom.
    forces
        (n_structures, n_steps) means over the components of the moduli of the differences, eV/Å.
    """

    angles: FloatArray
    energies: FloatArray
    forces: FloatArray


@cache
def orientations() -> FloatArray:
    """(115, 3, 3) rotations of the walk, the same for every model; the unrotated orientation is the first."""
    axes = np.random.default_rng(_SEED).normal(size=(len(STEP_ANGLES), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    small = Rotation.from_rotvec(np.radians(STEP_ANGLES)[:, None] * axes).as_matrix()
    uniform = Rotation.random(N_ORIENTATIONS - 1 - len(STEP_ANGLES), random_state=_SEED).as_matrix()
    found = [np.eye(3)]
    for step in (*small, *uniform):
        found.append(step @ found[-1])
    return np.array(found)


def rotation_walk(
    potential: Potential,
    structures: Sequence[Structure],
    rotation_batch: int | None = None,
    progress: Progress = no_progress,
) -> RotationWalk:
    """Evaluate structures along the walk.

    Examples
    --------
    >>> from ipi_driver import load_potential
    >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.97, 0, 0.1], [-0.2, 0.9, 0]])
    >>> walk = rotation_walk(load_potential("anisotropic?l=2"), [water])
    >>> walk.energies.shape, bool(walk.energies[0, 0] < walk.energies.max())
    ((1, 114), True)
    """
    rotations = orientations()
    steps = Rotation.from_matrix(rotations[1:] @ rotations[:-1].transpose(0, 2, 1))
    chunks = RotationChunks(potential, rotation_batch)
    energies, forces = [], []
    for structure in structures:
        results = chunks.evaluate(structure, rotations, progress)
        energies.append(np.abs(np.diff(results.energies[0])) / max(structure.n_atoms, 1))
        forces.append(np.abs(np.diff(results.forces[0], axis=0)).mean(axis=(1, 2)))
    return RotationWalk(np.degrees(steps.magnitude()), np.array(energies), np.array(forces))
