"""The exact symmetrization: invariance to rounding, smoothness, forces against finite differences."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.api.checking import check
from ipi_driver.errors import UserError
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.rotations import RotationalAverage
from ipi_driver.rotations.ecse import CUTOFF, ExactSymmetrization, frames_of
from ipi_driver.structure import Structure


@pytest.fixture(scope="module")
def raw() -> Potential:
    # large errors of two degrees, one of them odd
    return load_potential("anisotropic?l=3&amplitude=0.2")


def molecule(name: str, seed: int = 0) -> Structure:
    atoms = ase.build.molecule(name)
    atoms.positions += np.random.default_rng(seed).normal(0.0, 0.08, atoms.positions.shape)
    return Structure.from_atoms(atoms)


@pytest.mark.parametrize(("name", "most"), [("H2O", 4), ("CH3OH", 60), ("C2H6", 160)])
def test_energy_and_forces_do_not_depend_on_the_orientation(raw: Potential, name: str, most: int) -> None:
    structure, exact = molecule(name), ExactSymmetrization(raw)
    reference = exact.predict(structure)
    assert reference.n_rotations <= most
    turned = raw.evaluate([structure], Rotation.random(20, rng=9).as_matrix())
    assert turned.energies.std() > 1e-3  # the raw energies do depend on it
    for seed in range(3):
        rotation = Rotation.random(rng=seed).as_matrix() * (-1.0) ** seed
        found = exact.predict(structure.rotated(rotation))
        assert found.energy == pytest.approx(reference.energy, abs=1e-11)
        np.testing.assert_allclose(found.forces, reference.forces @ rotation.T, atol=1e-10)
    assert reference.net_torque is not None
    np.testing.assert_allclose(reference.net_torque, 0.0, atol=1e-11)
    np.testing.assert_allclose(reference.forces.sum(axis=0), 0.0, atol=1e-11)


def finite_differences(exact: ExactSymmetrization, structure: Structure, h: float = 2e-5) -> np.ndarray:
    forces = np.zeros_like(structure.positions)
    for index in np.ndindex(forces.shape):
        energies = []
        for sign in (1.0, -1.0):
            moved = structure.positions.copy()
            moved[index] += sign * h
            energies.append(exact.predict(Structure(structure.numbers, moved)).energy)
        forces[index] = (energies[1] - energies[0]) / (2.0 * h)
    return forces


@pytest.mark.parametrize("name", ["H2O", "CH3OH"])
def test_forces_are_derivatives(raw: Potential, name: str) -> None:
    structure, exact = molecule(name, 3), ExactSymmetrization(raw)
    np.testing.assert_allclose(
        exact.predict(structure).forces, finite_differences(exact, structure), atol=3e-7
    )


def path(exact: ExactSymmetrization, positions: np.ndarray, atom: int, points: np.ndarray) -> np.ndarray:
    """Energy minus the work of the forces along a path of one atom, by Simpson's rule: constant if all is smooth."""
    energies, forces = [], []
    for point in points:
        moved = positions.copy()
        moved[atom] = point
        found = exact.predict(Structure(np.array([8, 1, 1, 1][: len(positions)]), moved))
        energies.append(found.energy)
        forces.append(found.forces[atom])
    steps = points[2::2] - points[:-2:2]
    work = (
        (np.array(forces[:-2:2]) + 4.0 * np.array(forces[1:-1:2]) + np.array(forces[2::2])) / 6.0 * steps
    ).sum(1)
    return np.diff(np.array(energies)[::2]) + work


def test_nothing_jumps_where_a_pair_becomes_collinear(raw: Potential) -> None:
    exact = ExactSymmetrization(raw)
    # atom 2 moves through the line of atoms 1 and 0; atom 3 keeps other pairs alive
    positions = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.9, 0.0, 0.1], [0.2, 0.3, 1.3]])
    t = np.linspace(-0.3, 0.3, 121)
    points = np.stack([np.full_like(t, -0.9), t, np.zeros_like(t)], axis=1)
    assert np.abs(path(exact, positions, 2, points)).max() < 2e-7


def test_nothing_jumps_where_an_atom_leaves_the_cutoff(raw: Potential) -> None:
    exact = ExactSymmetrization(raw)
    positions = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [0.0, 0.0, 3.0]])
    t = np.linspace(CUTOFF - 1.4, CUTOFF + 0.3, 201)
    points = np.stack([0.1 * t, np.zeros_like(t), t], axis=1)
    assert np.abs(path(exact, positions, 3, points)).max() < 2e-7


def test_weights_do_not_depend_on_the_order_of_atoms(raw: Potential) -> None:
    structure, exact = molecule("CH3OH", 5), ExactSymmetrization(raw)
    order = np.random.default_rng(1).permutation(structure.n_atoms)
    other = exact.predict(Structure(structure.numbers[order], structure.positions[order]))
    reference = exact.predict(structure)
    assert other.energy == pytest.approx(reference.energy, abs=1e-11)
    np.testing.assert_allclose(other.forces, reference.forces[order], atol=1e-10)


def test_the_average_by_name(raw: Potential) -> None:
    structure = molecule("H2O")
    named, exact = RotationalAverage(raw, "ecse"), ExactSymmetrization(raw)
    np.testing.assert_array_equal(named.predict(structure).forces, exact.predict(structure).forces)
    rotations = Rotation.random(2, rng=4).as_matrix()
    results = named.evaluate([structure], rotations)
    np.testing.assert_allclose(results.energies[0], exact.predict(structure).energy, atol=1e-11)
    np.testing.assert_allclose(results.forces[0][1], exact.predict(structure).forces, atol=1e-10)


def test_check_finds_it_exact() -> None:
    water = Structure.from_atoms(ase.build.molecule("H2O"))
    result = check("anisotropic?l=3&amplitude=0.2", water, averages=["T", "ecse"], max_degree=3)
    found = {row.average: row for row in result.errors}
    # Oh is exact for degree 3; Ih, the reference, too
    assert found["ecse"].torque < 1e-9
    assert found["none"].torque > 1e-3
    assert found["ecse"].n_rotations == 4


def test_frames_are_orthogonal_and_of_both_parities() -> None:
    import torch

    positions = torch.tensor(molecule("CH3OH").positions, requires_grad=True)
    pairs = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 3]])
    _, frames = frames_of(positions, pairs)
    matrices = frames.detach().numpy()
    identity = np.broadcast_to(np.eye(3), matrices.shape)
    np.testing.assert_allclose(matrices @ matrices.swapaxes(-1, -2), identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrices), [[1.0, -1.0]] * 3)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (Structure(np.array([8, 6, 8]), np.array([[0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])), "linear"),
        (Structure(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, 0.74]])), "3 to 30 atoms, got 2"),
        (Structure(np.ones(3), np.eye(3), 10.0 * np.eye(3), True), "periodic"),
    ],
)
def test_structures_without_frames_are_refused(raw: Potential, structure: Structure, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ExactSymmetrization(raw).predict(structure)


def test_extras_are_averaged() -> None:
    """Those of a committee: its members by themselves have the mean energies."""
    members = ["anisotropic?l=2&amplitude=0.2", "anisotropic?l=3&amplitude=0.1"]
    structure = molecule("H2O")
    found = ExactSymmetrization(load_potential("committee:" + ",".join(members))).predict(structure)
    alone = [ExactSymmetrization(load_potential(member)).predict(structure).energy for member in members]
    assert found.extras["energy_ensemble"] == pytest.approx(np.array(alone), abs=1e-10)
    assert found.energy == pytest.approx(np.mean(alone), abs=1e-10)
