r"""Are forces and virial the derivatives of the energy, and does a rotation turn atoms and cell together?

Along a random unit vector u of all coordinates, and a random strain of unit norm, the derivative of the
energy by central differences, extrapolated from two steps (Richardson), is compared with the forces and the
virial:

.. math::  \delta = \bigl| F \cdot u + [4 s(h) - s(2h)]/3 \bigr|, \qquad s(h) = [E(x + h u) - E(x - h u)]/2h .

As u is random, δ is of the size of a force component's error. The rotations are compared with evaluations of
structures that were turned before, positions and cell, by `Structure.rotated`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.derivatives import force_deviation, jacobian_asymmetry, virial_deviation
from ipi_driver.structure import FloatArray, Structure

TOLERANCE = 1e-2
"""Largest deviation relative to the force component's (virial element's) root mean square that passes."""


@dataclass(frozen=True)
class Consistency:
    """Deviations of one structure.

    Attributes
    ----------
    force_deviation, force_scale
        Root mean square over directions, and of the forces; eV/Å.
    virial_deviation, virial_scale
        The same for the virial, eV; None where there is none.
    rotation_deviation
        Largest difference of the forces between a rotation and a structure turned before, eV/Å.
    jacobian_asymmetry
        Share of the forces' Jacobian that no energy can have; see `ipi_driver.potentials.derivatives`.
    """

    force_deviation: float
    force_scale: float
    virial_deviation: float | None
    virial_scale: float | None
    rotation_deviation: float
    jacobian_asymmetry: float = 0.0

    @property
    def conservative(self) -> bool:
        """Whether the forces are derivatives of the energy."""
        return self.force_deviation <= TOLERANCE * self.force_scale + 1e-5

    @property
    def virial_consistent(self) -> bool | None:
        """Whether the virial is the derivative by strain; None where there is no virial."""
        if self.virial_deviation is None or self.virial_scale is None:
            return None
        return self.virial_deviation <= TOLERANCE * self.virial_scale + 1e-4

    @property
    def rotations_turn_everything(self) -> bool:
        """Whether a rotation is the same as turning the structure with its cell."""
        return self.rotation_deviation <= 1e-3 * self.force_scale + 1e-4


def check_consistency(
    potential: Potential, structure: Structure, n_directions: int = 2, seed: int = 0
) -> Consistency:
    """Finite differences along ``n_directions`` displacements and strains, and two rotations."""
    rng = np.random.default_rng(seed)
    result = potential.predict(structure)
    force_errors, virial_errors = [], []
    for _ in range(n_directions):
        force_errors.append(force_deviation(potential, structure, result, rng))
        virial_errors.append(virial_deviation(potential, structure, result, rng))
    virial = result.virial
    return Consistency(
        force_deviation=_rms(force_errors),
        force_scale=_rms(result.forces),
        virial_deviation=None
        if virial is None
        else _rms([error for error in virial_errors if error is not None]),
        virial_scale=None if virial is None else _rms(virial),
        rotation_deviation=_rotation_deviation(potential, structure, seed),
        jacobian_asymmetry=jacobian_asymmetry(potential, structure, rng),
    )


def _rotation_deviation(potential: Potential, structure: Structure, seed: int) -> float:
    rotations = Rotation.random(2, random_state=seed).as_matrix()
    rotations[1] *= -1.0
    forces = potential.evaluate([structure], rotations).forces[0]
    worst = 0.0
    for turned_back, rotation in zip(forces, rotations, strict=True):
        turned = potential.predict(structure.rotated(rotation)).forces @ rotation
        worst = max(worst, float(np.abs(turned - turned_back).max(initial=0.0)))
    return worst


def _rms(values: FloatArray | list[float]) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(np.sqrt((array**2).mean())) if array.size else 0.0
