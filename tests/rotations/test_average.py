"""The averaged potential: exact averages, chunks, memory, random frames."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.potentials.base import Potential
from ipi_driver.rotations import RotationalAverage, quadrature
from ipi_driver.rotations.random import random_frame
from ipi_driver.structure import FloatArray, Prediction, RotatedResults, Structure

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
CELL = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 2.9]])
MOLECULE = Structure(np.array([8, 1, 1]), POSITIONS)
CRYSTAL = Structure(np.array([8, 1, 1]), POSITIONS, CELL, np.ones(3, dtype=bool))


class Counting(Potential):
    """Wraps a potential; counts rotations and calls, and can run out of memory."""

    def __init__(self, inner: Potential, most: int = 10**9, error: Exception | None = None) -> None:
        self.inner, self.most, self.error = inner, most, error
        self.cutoff = inner.cutoff
        self.rotations = 0
        self.sizes: list[int] = []

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        self.sizes.append(len(rotations))
        if len(rotations) > self.most and self.error is not None:
            raise self.error
        self.rotations += len(rotations)
        return self.inner.evaluate(structures, rotations)


def terms(*names: str) -> AnisotropicPotential:
    return AnisotropicPotential([Term.parse(name, 0.1) for name in names], cutoff=3.5)


def assert_equal(left: Prediction, right: Prediction, tolerance: float = 1e-12) -> None:
    assert left.virial is not None
    assert right.virial is not None
    assert left.energy == pytest.approx(right.energy, abs=tolerance)
    assert left.forces == pytest.approx(right.forces, abs=tolerance)
    assert left.virial == pytest.approx(right.virial, abs=tolerance)


@pytest.mark.parametrize("structure", [MOLECULE, CRYSTAL], ids=["molecule", "crystal"])
@pytest.mark.parametrize(
    ("average", "removed"),
    [
        ("i", ("1", "3", "2o", "4o")),
        ("D2", ("1", "1e")),
        ("D2h", ("1", "1e", "2o", "3")),
        ("T", ("1", "2", "1e", "2o")),
        ("2i", ("1", "2", "3", "1e", "2o", "4o")),
        ("Oh", ("1", "2", "3", "3e", "5")),
        ("3", ("1", "2", "3", "4", "4o")),
        ("Ih", ("1", "2", "3", "4", "5", "3e", "5e", "7", "9")),
        ("lebedev-5", ("1", "2", "3", "4", "3e")),
    ],
)
def test_exact_average_of_what_the_grid_integrates(
    structure: Structure, average: str, removed: tuple[str, ...]
) -> None:
    potential = terms(*removed)
    assert_equal(
        RotationalAverage(potential, average).predict(structure),
        potential.exact_average().predict(structure),
        1e-9,
    )


@pytest.mark.parametrize(
    ("average", "left"), [("i", "2"), ("D2", "2"), ("T", "3"), ("Th", "3e"), ("Ih", "6")]
)
def test_the_next_degree_stays(average: str, left: str) -> None:
    potential = terms(left)
    difference = (
        RotationalAverage(potential, average).predict(MOLECULE).energy
        - potential.exact_average().predict(MOLECULE).energy
    )
    assert abs(difference) > 1e-6


@pytest.mark.parametrize("structure", [MOLECULE, CRYSTAL], ids=["molecule", "crystal"])
def test_forces_and_virial_are_derivatives_of_the_averaged_energy(structure: Structure) -> None:
    averaged = RotationalAverage(terms("2", "3e"), "2")
    result = averaged.predict(structure)
    assert result.virial is not None
    h = 1e-5
    direction = np.random.default_rng(1).standard_normal((3, 3))
    moved = [
        Structure(structure.numbers, structure.positions + s * h * direction, structure.cell, structure.pbc)
        for s in (1, -1)
    ]
    slope = (averaged.predict(moved[0]).energy - averaged.predict(moved[1]).energy) / (2 * h)
    assert -np.sum(result.forces * direction) == pytest.approx(slope, abs=1e-7)
    strained = []
    for s in (1, -1):
        deform = np.eye(3) + s * h * direction
        strained.append(
            Structure(
                structure.numbers, structure.positions @ deform.T, structure.cell @ deform.T, structure.pbc
            )
        )
    slope = (averaged.predict(strained[0]).energy - averaged.predict(strained[1]).energy) / (2 * h)
    assert -np.sum(result.virial * direction) == pytest.approx(slope, abs=1e-7)


def test_group_averages_are_invariant_under_their_group() -> None:
    """The average over a group does not change when the structure, cell included, is turned by a member."""
    averaged = RotationalAverage(terms("2", "3", "1e"), "T")
    reference = averaged.predict(CRYSTAL)
    for rotation in quadrature("T").rotations:
        turned = averaged.predict(CRYSTAL.rotated(rotation))
        assert turned.energy == pytest.approx(reference.energy, abs=1e-12)
        assert turned.forces @ rotation == pytest.approx(reference.forces, abs=1e-12)


def test_spreads_and_raw() -> None:
    potential = terms("2")
    grid = quadrature("3")
    assert np.ptp(grid.weights) > 0.1 * grid.weights.max()  # plain means and spreads are others
    results = potential.evaluate([CRYSTAL], grid.rotations)
    result = RotationalAverage(potential, "3").predict(CRYSTAL)
    assert results.virials is not None
    energies, forces, virials = results.energies[0], results.forces[0], results.virials[0]
    assert result.n_rotations == 75
    assert result.raw is None
    assert result.energy_std == pytest.approx(
        np.sqrt(
            np.average((energies - np.average(energies, weights=grid.weights)) ** 2, weights=grid.weights)
        )
    )
    variance = np.average((forces - result.forces) ** 2, axis=0, weights=grid.weights).mean()
    assert result.forces_std == pytest.approx(np.sqrt(variance))
    variance = np.average((virials - result.virial) ** 2, axis=0, weights=grid.weights).mean()
    assert result.virial_std == pytest.approx(np.sqrt(variance))
    assert result.net_torque is None
    group = RotationalAverage(potential, "Th").predict(CRYSTAL)
    assert group.raw is not None
    assert_equal(group.raw, potential.predict(CRYSTAL))


def test_net_force_and_torque_of_a_molecule() -> None:
    result = RotationalAverage(terms("2"), "none").predict(MOLECULE)
    masses = np.array([15.999, 1.008, 1.008])
    center = masses @ POSITIONS / masses.sum()
    assert result.net_force == pytest.approx(result.forces.sum(axis=0))
    assert result.net_torque == pytest.approx(
        np.cross(POSITIONS - center, result.forces).sum(axis=0), abs=1e-12
    )
    assert np.linalg.norm(result.net_torque) > 1e-3
    averaged = RotationalAverage(terms("2"), "T").predict(MOLECULE)
    assert averaged.net_torque == pytest.approx(np.zeros(3), abs=1e-12)


@pytest.mark.parametrize("average", ["none", "Th", "2i"])
def test_known_raw_result_is_not_computed_again(average: str) -> None:
    potential = Counting(terms("2", "3"))
    raw = potential.inner.predict(CRYSTAL)
    averaged = RotationalAverage(potential, average)
    result = averaged.predict(CRYSTAL, raw=raw)
    assert potential.rotations == averaged.n_rotations - averaged.has_identity
    assert_equal(result, RotationalAverage(potential.inner, average).predict(CRYSTAL))
    assert result.raw is not None
    assert result.raw.energy == raw.energy


def test_chunks_do_not_change_the_result() -> None:
    potential = Counting(terms("2", "3"))
    reference = RotationalAverage(potential, "2i").predict(CRYSTAL)
    for batch in (1, 5, 36, 100):
        potential.sizes.clear()
        result = RotationalAverage(potential, "2i", rotation_batch=batch).predict(CRYSTAL)
        assert_equal(result, reference, 1e-14)
        assert potential.sizes[0] == min(batch, 36)
        assert sum(potential.sizes) == 36


def test_chunk_size_follows_the_number_of_edges() -> None:
    potential = Counting(terms("2"))
    RotationalAverage(potential, "2i").predict(MOLECULE)
    assert potential.sizes == [36]
    potential.sizes.clear()
    potential.edges_hint = lambda structure: 10**6  # type: ignore[attr-defined]
    RotationalAverage(potential, "T").predict(MOLECULE)
    assert potential.sizes == [1] * 12


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried ...")])
def test_out_of_memory_halves_the_chunk_and_remembers(error: Exception) -> None:
    potential = Counting(terms("2"), most=10, error=error)
    potential.edges_hint = lambda structure: 30  # type: ignore[attr-defined]
    averaged = RotationalAverage(potential, "2i")
    assert_equal(averaged.predict(CRYSTAL), RotationalAverage(terms("2"), "2i").predict(CRYSTAL))
    assert potential.sizes == [36, 18, 9, 9, 9, 9]
    potential.sizes.clear()
    averaged.predict(CRYSTAL)
    assert potential.sizes == [9, 9, 9, 9]


def test_other_errors_and_no_memory_at_all() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        RotationalAverage(Counting(terms("2"), 0, RuntimeError("bad shape")), "2i").predict(CRYSTAL)
    with pytest.raises(UserError, match="single rotation of 3 atoms"):
        RotationalAverage(Counting(terms("2"), 0, MemoryError("x")), "2i").predict(CRYSTAL)
    with pytest.raises(UserError, match="rotation_batch"):
        RotationalAverage(terms("2"), "2i", rotation_batch=0)


def test_random_frame_is_a_function_of_seed_and_positions() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that the global state stays is the point
    first = RotationalAverage(terms("1"), "random", seed=3)
    again = RotationalAverage(terms("1"), "random", seed=3)
    other = RotationalAverage(terms("1"), "random", seed=4)
    moved = Structure(MOLECULE.numbers, MOLECULE.positions + 1e-9)
    result = first.predict(MOLECULE)
    assert first.predict(MOLECULE).energy == result.energy == again.predict(MOLECULE).energy
    assert other.predict(MOLECULE).energy != result.energy
    assert abs(first.predict(moved).energy - result.energy) > 1e-7
    assert result.n_rotations == 1
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    strained = Structure(CRYSTAL.numbers, CRYSTAL.positions, 1.001 * CRYSTAL.cell, CRYSTAL.pbc)
    assert np.abs(random_frame(3, strained, "o3") - random_frame(3, CRYSTAL, "o3")).max() > 0.01


@pytest.mark.parametrize("group", ["o3", "so3"])
def test_random_frames_are_uniform(group: str) -> None:
    """Moments of the matrix elements and of the angle, for the rotations of 4000 configurations."""
    rng = np.random.default_rng(0)
    structures = [Structure(np.array([1]), rng.standard_normal((1, 3))) for _ in range(4000)]
    rotations = np.array([random_frame(1, s, group) for s in structures])  # type: ignore[arg-type]
    signs = np.linalg.det(rotations)
    assert np.abs(np.abs(signs) - 1).max() < 1e-12
    if group == "so3":
        assert (signs > 0).all()
    else:
        assert abs(signs.mean()) < 4 / np.sqrt(4000)
    elements = (rotations * signs[:, None, None]).reshape(-1, 9)
    error = 4.5 / np.sqrt(4000)  # 4.5 standard deviations, for 9 + 81 comparisons
    assert np.abs(elements.mean(axis=0)).max() < error / np.sqrt(3)
    assert np.abs(elements.T @ elements / 4000 - np.eye(9) / 3).max() < error / 3
    # the angle of a uniform rotation has the distribution function (angle - sin(angle)) / pi
    angles = np.sort(Rotation.from_matrix(rotations * signs[:, None, None]).magnitude())
    distance = np.abs((angles - np.sin(angles)) / np.pi - np.arange(4000) / 4000).max()
    assert distance < 1.95 / np.sqrt(4000)  # Kolmogorov-Smirnov, 0.1 %


def test_random_grid_removes_what_the_grid_removes_in_any_rotation() -> None:
    potential = terms("1", "2", "3")
    average = RotationalAverage(potential, "random-2i", seed=1)
    assert_equal(average.predict(CRYSTAL), potential.exact_average().predict(CRYSTAL), 1e-12)
    fourth = RotationalAverage(terms("4"), "random-2i", seed=1).predict(CRYSTAL).energy
    assert abs(fourth - RotationalAverage(terms("4"), "2i").predict(CRYSTAL).energy) > 1e-5


@pytest.mark.parametrize("grid", ["2", "D2"])
def test_random_grid_is_the_grid_of_the_turned_structure(grid: str) -> None:
    """The rotations are R_k Q: the structure is turned by Q first."""
    potential = terms("2", "4")
    found = RotationalAverage(potential, f"random-{grid}", seed=5).predict(CRYSTAL)
    turn = random_frame(5, CRYSTAL, "o3")
    turned = RotationalAverage(potential, grid).predict(CRYSTAL.rotated(turn))
    assert found.energy == pytest.approx(turned.energy, abs=1e-12)
    assert found.forces == pytest.approx(turned.forces @ turn, abs=1e-12)


@pytest.mark.parametrize("average", ["none", "2", "random-so3"])
def test_an_average_is_a_potential(average: str) -> None:
    """Its rotations are the results for the turned structure, turned back."""
    averaged = RotationalAverage(terms("3", "2o"), average)
    rotations: ArrayLike = Rotation.random(3, random_state=5).as_matrix()
    results = averaged.evaluate([MOLECULE, CRYSTAL], rotations)
    assert results.virials is not None
    for s, structure in enumerate((MOLECULE, CRYSTAL)):
        for k, rotation in enumerate(np.asarray(rotations)):
            turned = averaged.predict(structure.rotated(rotation))
            assert turned.virial is not None
            assert results.energies[s, k] == pytest.approx(turned.energy, abs=1e-12)
            assert results.forces[s][k] == pytest.approx(turned.forces @ rotation, abs=1e-12)
            assert results.virials[s, k] == pytest.approx(rotation.T @ turned.virial @ rotation, abs=1e-12)
