"""Decomposition by degree and parity, against potentials of known content and group theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.rotations import RotationalAverage, quadrature
from ipi_driver.rotations.transmission import transmission
from ipi_driver.structure import Structure
from ipi_driver.symmetry.degrees import decompose, mean_decomposition, residual_force

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
CELL = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 2.9]])
MOLECULE = Structure(np.array([8, 1, 1]), POSITIONS)
CRYSTAL = Structure(np.array([8, 1, 1]), POSITIONS, CELL, np.ones(3, dtype=bool))


def terms(*names: str) -> AnisotropicPotential:
    return AnisotropicPotential([Term.parse(name, 0.1) for name in names], cutoff=3.5)


@pytest.mark.parametrize("name", ["1", "2", "3", "4", "1e", "2o", "3e", "4o"])
def test_a_single_term_lands_in_its_place(name: str) -> None:
    potential = terms(name)
    found = decompose(potential, CRYSTAL, max_degree=4)
    spread = RotationalAverage(potential, "5i").predict(CRYSTAL)
    term = potential.terms[0]
    place = (term.l, 0 if term.parity == 1 else 1)
    assert found.energy[place] == pytest.approx(spread.energy_std, rel=1e-6)
    assert found.forces[place] == pytest.approx(spread.forces_std, rel=1e-6)
    for values, rest in ((found.energy.copy(), found.energy_rest), (found.forces.copy(), found.forces_rest)):
        values[place] = 0.0
        assert values.max() < 1e-9
        assert rest < 1e-6


def test_what_lies_above_is_counted_as_rest() -> None:
    found = decompose(terms("2", "4"), CRYSTAL, max_degree=3)  # its grid has degree 6: 2 + 4 is still exact
    reference = decompose(terms("2", "4"), CRYSTAL, max_degree=4)
    assert found.energy[2, 0] == pytest.approx(reference.energy[2, 0], rel=1e-6)
    assert found.energy_rest == pytest.approx(reference.energy[4, 0], rel=0.5)  # 4 + 4 is not


@pytest.mark.parametrize("group", ["D2", "T", "O", "I"])
def test_transmission_of_a_group_is_its_share_of_invariants(group: str) -> None:
    """Number of invariants by characters, chi_l(angle) = sin((2l+1) angle/2) / sin(angle/2)."""
    angles = Rotation.create_group(group).magnitude()
    passed = transmission(quadrature(group), 7)
    for degree in range(8):
        half = np.where(angles > 1e-9, angles / 2, 1.0)
        characters = np.where(angles > 1e-9, np.sin((2 * degree + 1) * half) / np.sin(half), 2 * degree + 1)
        invariants = round(float(characters.mean()))
        assert passed[degree, 0] == pytest.approx(invariants / (2 * degree + 1), abs=1e-9)
        assert passed[degree, 1] == pytest.approx(passed[degree, 0], abs=1e-9)


def test_transmission_of_inversion_and_of_nothing() -> None:
    assert transmission(quadrature("none"), 5) == pytest.approx(np.ones((6, 2)), abs=1e-9)
    passed = transmission(quadrature("2i"), 5)
    assert passed[:, 1] == pytest.approx(np.zeros(6), abs=1e-12)
    assert passed[:3, 0] == pytest.approx([1.0, 0.0, 0.0], abs=1e-9)
    assert passed[3, 0] > 0.01


@pytest.mark.parametrize("name", ["1", "2", "4"])
def test_difference_against_relative_angle(name: str) -> None:
    """Of a single degree: mean square difference 2 P [1 - chi_l(angle)/(2l+1)] at a relative angle."""
    degree = int(name[0])
    found = decompose(terms(name), CRYSTAL, max_degree=5)
    half = found.angles / 2
    character = np.sin((2 * degree + 1) * half) / np.sin(half) / (2 * degree + 1)
    expected = np.sqrt(2 * (1 - character)) * found.energy[degree, 0 if degree % 2 == 0 else 1]
    seen = np.isfinite(found.energy_by_angle) & (found.angles > 0.8)
    assert seen.sum() > 10
    assert found.energy_by_angle[seen] == pytest.approx(expected[seen], rel=0.15)


@pytest.mark.parametrize("degree", [1, 2])
def test_difference_of_forces_against_relative_angle(degree: int) -> None:
    """As of the energy, per component."""
    found = decompose(terms(str(degree)), CRYSTAL, max_degree=3)
    half = found.angles / 2
    character = np.sin((2 * degree + 1) * half) / np.sin(half) / (2 * degree + 1)
    expected = np.sqrt(2 * (1 - character)) * found.forces[degree, degree % 2]
    seen = np.isfinite(found.forces_by_angle) & (found.angles > 0.8)
    assert seen.sum() > 10
    assert found.forces_by_angle[seen] == pytest.approx(expected[seen], rel=0.15)


def test_mean_is_the_root_mean_square() -> None:
    parts = [decompose(terms(name), CRYSTAL, 3) for name in ("2", "3")]
    mean = mean_decomposition(parts)
    assert mean.energy[2, 0] == pytest.approx(parts[0].energy[2, 0] / np.sqrt(2))
    assert mean.energy[3, 1] == pytest.approx(parts[1].energy[3, 1] / np.sqrt(2))


def test_what_an_average_leaves() -> None:
    """A mean over the orientations of the structure (Q) and of the grid (S), all rotations S R_k Q evaluated."""
    potential = terms("2")
    orientations = quadrature("3")  # of degree 4: exact for squares of l = 2
    exact = potential.exact_average().predict(MOLECULE).forces
    mean_square = 0.0
    for turn, weight in zip(orientations.rotations, orientations.weights, strict=True):
        turned = replace(quadrature("D2"), rotations=turn @ quadrature("D2").rotations, identity=None)
        forces = RotationalAverage(potential, turned).evaluate([MOLECULE], orientations.rotations).forces[0]
        mean_square += weight * (orientations.weights @ ((forces - exact) ** 2).mean(axis=(1, 2)))
    found = decompose(potential, MOLECULE, max_degree=2)
    assert residual_force(found, quadrature("D2")) == pytest.approx(np.sqrt(mean_square), rel=1e-6)
    assert residual_force(found, quadrature("T")) < 1e-9


@pytest.mark.parametrize(("average", "n_independent"), [("none", 1), ("i", 1), ("T", 12), ("Th", 12)])
def test_what_is_not_resolved_is_left_as_by_independent_rotations(average: str, n_independent: int) -> None:
    """Of even degree: the inverted rotations of a grid repeat the others and take nothing away."""
    potential = terms("4")
    exact = potential.exact_average().predict(MOLECULE).forces
    rotations = Rotation.random(4800, rng=np.random.default_rng(0)).as_matrix()
    deviations = potential.evaluate([MOLECULE], rotations).forces[0] - exact
    means = deviations.reshape(-1, n_independent, 3, 3).mean(axis=1)
    resolved = decompose(potential, MOLECULE, max_degree=4)
    found = replace(resolved, forces=np.zeros((5, 2)), forces_rest=resolved.forces[4, 0])
    expected = np.sqrt((means**2).mean())
    assert residual_force(found, quadrature(average)) == pytest.approx(expected, rel=0.1)
