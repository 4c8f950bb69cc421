"""Orientational free energy by perturbation: an analytic field, brute force, and no error where there is none."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.base import Potential
from ipi_driver.structure import RotatedResults, Structure
from ipi_driver.symmetry.orientation import (
    is_molecule,
    orientational_free_energy,
    orientational_free_energy_in_liquid,
)
from ipi_driver.units import KB


class DipoleInField(Potential):
    """Energy -a u_z of water, u from O to the midpoint of the H: an external field along z."""

    def __init__(self, amplitude: float) -> None:
        self.amplitude = amplitude

    def _evaluate(self, structures, rotations):
        (structure,) = structures
        positions = np.einsum("rxy,ay->rax", rotations, structure.positions)
        u = positions[:, 1:].mean(axis=1) - positions[:, 0]
        energies = -self.amplitude * u[:, 2] / np.linalg.norm(u, axis=1)
        n = len(rotations)
        return RotatedResults(energies[None], (np.zeros((n, 3, 3)),), None)


def snapshots(n: int, seed: int = 0) -> list[Structure]:
    rng = np.random.default_rng(seed)
    water = molecule("H2O")
    turned = Rotation.random(n, rng=seed).as_matrix()
    return [
        Structure(water.numbers, (water.positions + rng.normal(size=(3, 3)) * 0.02) @ matrix.T)
        for matrix in turned
    ]


def test_a_field_gives_its_own_potential():
    """F = -a cos theta / kT up to the constant ln(sinh(a) / a), whatever the snapshots."""
    a = 1.3
    found = orientational_free_energy(DipoleInField(a * KB * 300.0), snapshots(6), 300.0, shape=(12, 24, 2))
    exact = -a * found.cos_theta[:, None] + np.log(np.sinh(a) / a)
    np.testing.assert_allclose(found.free_energy, np.broadcast_to(exact, (12, 24)), atol=3e-3)
    assert found.noise < 1e-12
    assert found.rms == pytest.approx(np.sqrt((exact**2).mean()), abs=3e-3)
    hotter = orientational_free_energy(DipoleInField(a * KB * 300.0), snapshots(6), 600.0, shape=(12, 24, 2))
    np.testing.assert_allclose(hotter.free_energy, 0.5 * (found.free_energy), atol=0.1)


def test_agrees_with_random_rotations_by_brute_force():
    """Of a potential of degrees 1 to 4 that depends on the geometry: Boltzmann factors of random frames by cell."""
    potential = load_potential("anisotropic?l=3&amplitude=0.03")
    structures = snapshots(4, 1)
    found = orientational_free_energy(potential, structures, 300.0, shape=(12, 18, 6))
    coarse = -np.log(np.exp(-found.free_energy).reshape(4, 3, 6, 3).mean(axis=(1, 3)))
    sums = np.zeros((2, 4, 6))
    for structure in structures:
        matrices = Rotation.random(6000, rng=7).as_matrix()
        energies = potential.evaluate([structure], matrices).energies[0]
        factors = np.exp(-(energies - energies.mean()) / (KB * 300.0))
        u = structure.positions[1:].mean(axis=0) - structure.positions[0]
        u = matrices @ (u / np.linalg.norm(u))
        i = np.clip(((u[:, 2] + 1) * 2).astype(int), 0, 3)
        j = np.clip(((np.arctan2(u[:, 1], u[:, 0]) + np.pi) * 3 / np.pi).astype(int), 0, 5)
        np.add.at(sums, (0, i, j), factors)
        np.add.at(sums, (1, i, j), 1.0)
    brute = -np.log(sums[0] / sums[1] * sums[1].sum() / sums[0].sum())
    assert found.rms > 0.1
    # each cell holds 1000 random frames, whose factors scatter by some 0.4
    assert np.sqrt(np.mean((brute - coarse) ** 2)) < 0.025
    assert np.corrcoef(brute.ravel(), coarse.ravel())[0, 1] > 0.97


def test_an_invariant_potential_has_none():
    found = orientational_free_energy(
        load_potential("anisotropic?l=2&amplitude=0"), snapshots(5), shape=(6, 8, 2)
    )
    assert np.abs(found.free_energy).max() < 1e-9
    assert found.rms < 1e-9


def test_the_noise_of_the_snapshots_is_said_and_taken_out():
    """Halves of the snapshots scatter by the error that is given."""
    potential = load_potential("anisotropic?l=1&amplitude=0.02")
    parts = [orientational_free_energy(potential, snapshots(8, seed), shape=(6, 8, 3)) for seed in range(6)]
    scatter = np.std([part.free_energy for part in parts], axis=0, ddof=1)
    said = np.sqrt(np.mean([part.error**2 for part in parts], axis=0))
    assert np.sqrt((scatter**2).mean()) == pytest.approx(np.sqrt((said**2).mean()), rel=0.5)
    values = np.array([part.rms for part in parts])
    assert values.std(ddof=1) < 3.0 * np.mean([part.rms_error for part in parts])


def test_what_has_no_orientation_is_refused():
    potential = load_potential("anisotropic?l=2")
    water = molecule("H2O")
    box = Structure(water.numbers, water.positions, np.eye(3) * 10.0, np.full(3, True))
    for structures, message in (
        (snapshots(1), "at least 2 snapshots"),
        ([box, box], "isolated molecule"),
    ):
        with pytest.raises(UserError, match=message):
            orientational_free_energy(potential, structures)
    assert is_molecule(snapshots(1)[0])
    assert not is_molecule(box)


class DipolesInField(Potential):
    """The same of every molecule of a box."""

    def __init__(self, amplitude: float) -> None:
        self.amplitude = amplitude

    def _evaluate(self, structures, rotations):
        (structure,) = structures
        atoms = structure.positions.reshape(-1, 3, 3)
        u = atoms[:, 1:].mean(axis=1) - atoms[:, 0]
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        energies = -self.amplitude * np.einsum("ry,my->r", rotations[:, 2], u)
        n = len(rotations)
        return RotatedResults(energies[None], (np.zeros((n, structure.n_atoms, 3)),), None)


def boxes(n: int, n_molecules: int = 8) -> list[Structure]:
    """Molecules of random orientations on a lattice."""
    water, turns = molecule("H2O"), Rotation.random(n * n_molecules, rng=3).as_matrix()
    places = 4.0 * np.stack(np.unravel_index(np.arange(n_molecules), (2, 2, 2)), axis=1)
    atoms = (water.positions @ turns.transpose(0, 2, 1)).reshape(n, n_molecules, 3, 3) + places[:, None]
    numbers = np.tile(water.numbers, n_molecules)
    return [Structure(numbers, a.reshape(-1, 3), np.eye(3) * 8.0, np.full(3, True)) for a in atoms]


def test_molecules_of_a_box_that_do_not_see_each_other_have_the_map_of_one():
    a = 0.4
    found = orientational_free_energy_in_liquid(
        DipolesInField(a * KB * 300.0), boxes(60), shape=(6, 4), n_rotations=300
    )
    # of a cell between two cosines the mean of exp(a cos theta)
    edges = np.linspace(-1.0, 1.0, 7)
    exact = -np.log(np.diff(np.exp(a * edges)) / np.diff(edges) / np.sinh(a))
    deviation = found.free_energy - exact[:, None]
    assert np.sqrt((deviation**2).mean()) < 1.5 * found.noise < 0.06
    assert found.rms == pytest.approx(np.sqrt((exact**2).mean()), abs=3.0 * found.rms_error)
    assert (found.n_structures, found.n_rotations) == (60, 300)


def test_a_box_needs_molecules_in_every_cell_of_the_map():
    with pytest.raises(UserError, match="too few snapshots, rotations and molecules"):
        orientational_free_energy_in_liquid(DipolesInField(0.01), boxes(2, 1), shape=(12, 24), n_rotations=4)
    with pytest.raises(UserError, match="at least 2 snapshots"):
        orientational_free_energy_in_liquid(DipolesInField(0.01), boxes(1))
