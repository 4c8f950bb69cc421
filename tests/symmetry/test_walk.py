"""The walk of ML-PEG's rotational benchmark: its steps, and its numbers by a plain loop over turned structures."""

from __future__ import annotations

import numpy as np
import pytest
from random_structures import random_structure

from ipi_driver.potentials import load_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.symmetry.walk import STEP_ANGLES, orientations, rotation_walk


def test_the_steps() -> None:
    rotations = orientations()
    assert rotations.shape == (115, 3, 3)
    assert rotations[0] == pytest.approx(np.eye(3))
    assert np.linalg.det(rotations) == pytest.approx(np.ones(115))
    steps = rotations[1:] @ rotations[:-1].transpose(0, 2, 1)
    traces = steps.trace(axis1=1, axis2=2)
    angles = np.degrees(np.arccos(np.clip(0.5 * (traces - 1.0), -1.0, 1.0)))
    assert angles[:14] == pytest.approx(STEP_ANGLES, abs=1e-6)
    # over SO(3) the angle has the density (1 - cos) / pi, with the mean pi/2 + 2/pi
    assert angles[14:].mean() == pytest.approx(np.degrees(np.pi / 2 + 2 / np.pi), abs=12.0)


def test_against_a_plain_loop() -> None:
    structures = [random_structure(n=4, seed=1, pbc=False), random_structure(n=6, seed=2)]
    potential = load_potential("anisotropic?l=1,2&amplitude=0.1")
    found = rotation_walk(potential, structures)
    for s, structure in enumerate(structures):
        before = potential.predict(structure)
        forces_before = before.forces
        for k, rotation in enumerate(orientations()[1:16]):
            result = potential.predict(structure.rotated(rotation))
            forces = result.forces @ rotation
            energy = abs(result.energy - before.energy) / structure.n_atoms
            assert found.energies[s, k] == pytest.approx(energy, abs=1e-12)
            assert found.forces[s, k] == pytest.approx(np.abs(forces - forces_before).mean(), abs=1e-12)
            before, forces_before = result, forces
    # a smooth dependence: 1° changes little of what a random rotation does
    assert found.energies[:, :5].max() < 0.1 * found.energies[:, 14:].max()


def test_an_average_passes() -> None:
    structure = random_structure(n=4, seed=1, pbc=False)
    average = RotationalAverage(load_potential("anisotropic?l=1,2&amplitude=0.1"), "T")
    assert rotation_walk(average, [structure]).forces.max() < 1e-12
