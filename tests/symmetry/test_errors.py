"""Errors of averages, shared rotations and the recommendation, on potentials whose exact average is known."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import atomic_masses
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials.anisotropic import AnisotropicPotential, Term
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.chunks import RotationChunks
from ipi_driver.rotations import RotationalAverage, quadrature, quadratures
from ipi_driver.rotations.pool import RotationPool
from ipi_driver.structure import FloatArray, RotatedResults, Structure
from ipi_driver.symmetry.errors import AverageError, symmetry_errors, time_averages
from ipi_driver.symmetry.recommend import recommend
from ipi_driver.units import DALTON, GPA

RNG = np.random.default_rng(0)
POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
CELL = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 2.9]])
NUMBERS = np.array([8, 1, 1])
MOLECULES = [Structure(NUMBERS, POSITIONS + 0.05 * RNG.standard_normal((3, 3))) for _ in range(3)]
CRYSTALS = [Structure(NUMBERS, s.positions, CELL, np.ones(3, dtype=bool)) for s in MOLECULES]


class Counting(Potential):
    def __init__(self, inner: Potential) -> None:
        self.inner, self.rotations = inner, 0

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        self.rotations += len(structures) * len(rotations)
        return self.inner.evaluate(structures, rotations)


def terms(*names: str) -> AnisotropicPotential:
    return AnisotropicPotential([Term.parse(name, 0.1) for name in names], cutoff=3.5)


def test_rotations_shared_by_averages_are_evaluated_once() -> None:
    subgroups = [quadrature(n) for n in ("none", "i", "D2", "D2h", "T", "Th", "I", "Ih")]
    assert RotationPool(subgroups).n_evaluations == 120
    assert RotationPool([quadrature("2"), quadrature("2i")]).n_evaluations == 36
    potential = Counting(terms("2"))
    symmetry_errors(
        potential, {"a": CRYSTALS}, quadratures(["none", "i", "D2", "T", "Th", "I"]), quadrature("Ih")
    )
    assert potential.rotations == 3 * 120


def test_a_progress_bar_does_not_limit_the_rotations_of_a_call() -> None:
    """A molecule has few edges: all 120 rotations go to the model at once, and are reported."""
    sizes, reported = [], []

    class Sizes(Counting):
        def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
            sizes.append(len(rotations))
            return super()._evaluate(structures, rotations)

    symmetry_errors(
        Sizes(terms("2")),
        {"a": MOLECULES[:1]},
        quadratures(["none"]),
        quadrature("Ih"),
        progress=reported.append,
    )
    assert sizes == reported == [120]


def test_shared_rotations_give_the_averages_themselves() -> None:
    names = ["none", "i", "D2", "T", "2i", "O", "random", "random-T", "Ih"]
    pool = RotationPool([quadrature(n) for n in names], seed=5)
    from ipi_driver.potentials.chunks import RotationChunks

    potential = terms("2", "3e", "4")
    results = pool.averages(RotationChunks(potential), CRYSTALS[0])
    for name, result in zip(names, results, strict=True):
        direct = RotationalAverage(potential, name, seed=5).predict(CRYSTALS[0])
        assert result.energy == pytest.approx(direct.energy, abs=1e-12)
        assert result.forces == pytest.approx(direct.forces, abs=1e-12)
        assert result.virial == pytest.approx(direct.virial, abs=1e-12)
        assert result.n_rotations == direct.n_rotations


def test_errors_are_the_differences_from_the_exact_average() -> None:
    """Terms up to l = 5 average to zero over Ih, so that the reference is exact."""
    potential = terms("1", "2", "4")
    exact = potential.exact_average()
    rows = symmetry_errors(
        potential, {"gas": MOLECULES, "ice": CRYSTALS}, quadratures(["none", "T"]), quadrature("Ih")
    )
    for data_set, structures in (("gas", MOLECULES), ("ice", CRYSTALS)):
        for average in ("none", "T"):
            row = next(r for r in rows if r.data_set == data_set and r.average == average)
            averaged = [RotationalAverage(potential, average).predict(s) for s in structures]
            true = [exact.predict(s) for s in structures]
            energies = [abs(a.energy - t.energy) for a, t in zip(averaged, true, strict=True)]
            forces = np.abs([a.forces - t.forces for a, t in zip(averaged, true, strict=True)])
            assert row.energy_mae == pytest.approx(np.mean(energies))
            assert row.energy_max == pytest.approx(np.max(energies))
            assert row.energy_mae_per_atom == pytest.approx(np.mean(energies) / 3)
            assert row.force_mae == pytest.approx(forces.mean())
            assert row.force_max == pytest.approx(forces.max())
            assert (row.n_structures, row.n_rotations) == (3, {"none": 1, "T": 12}[average])
            virials = np.array([a.virial - t.virial for a, t in zip(averaged, true, strict=True)])
            if data_set == "gas":
                assert row.stress_mae is None
                torques = [np.cross(s.positions, a.forces).sum(axis=0) for s, a in zip(structures, averaged)]  # noqa: B905
                assert row.torque == pytest.approx(np.linalg.norm(torques, axis=1).mean())
            else:
                assert row.torque is None
                assert row.stress_mae == pytest.approx(np.abs(virials).mean() / CRYSTALS[0].volume * GPA)
    reference = [r for r in rows if r.average == "Ih"]
    assert all(r.is_reference and r.force_max == 0.0 for r in reference)


def test_times_grow_with_the_rotations() -> None:
    seconds = time_averages(terms("2"), CRYSTALS[0], quadratures(["none", "T", "3i"]), rotation_batch=1)
    assert 0 < seconds["none"] < seconds["T"] < seconds["3i"]
    scaled = time_averages(terms("2"), CRYSTALS[0], quadratures(["none", "T", "3i"]), longest=0.0)
    assert scaled["3i"] == pytest.approx(150 * scaled["T"] / 12)


def row(data_set: str, average: str, error: float, is_reference: bool = False) -> AverageError:
    n_rotations = len(quadrature(average))
    return AverageError(
        data_set, average, 1, n_rotations, 0, 0, 0, error, error, None, None, 0.0, 1.0, is_reference
    )


def test_recommendation_is_the_cheapest_below_the_tolerance_on_all_data_sets() -> None:
    rows = [row("gas", n, e) for n, e in (("none", 9.0), ("D2", 0.9), ("T", 0.5), ("2i", 0.1))]
    rows += [row("liquid", n, e) for n, e in (("none", 5.0), ("D2", 1.1), ("T", 0.8), ("2i", 0.2))]
    rows += [row("gas", "Ih", 0.0, True), row("liquid", "Ih", 0.0, True)]
    assert recommend(rows, 1.0).average == "T"
    assert recommend(rows, 1.0).force_mae == 0.8
    assert recommend(rows, 10.0).average == "none"
    assert "No average is needed" in recommend(rows, 10.0).text
    assert recommend(rows, 0.2).average == "2i"
    insufficient = recommend(rows, 0.01)
    assert (insufficient.average, insufficient.sufficient) == ("2i", False)
    assert "4i" in insufficient.text


def test_what_is_not_finite_on_one_data_set_is_not_recommended() -> None:
    rows = [row("gas", n, e) for n, e in (("none", 0.9), ("T", 0.5), ("2i", 0.1))]
    rows += [row("liquid", n, e) for n, e in (("none", np.nan), ("T", np.nan), ("2i", 0.2))]
    assert recommend(rows, 1.0).average == "2i"
    with pytest.raises(UserError, match=r"no finite force errors for any average \(liquid\)"):
        recommend([r for r in rows if r.average != "2i"], 1.0)


def test_random_frames_are_no_cheaper_than_what_is_exact() -> None:
    """The error of one random frame is the raw one, drawn again: by chance it is smaller in half of the cases."""
    rows = [row("gas", n, e) for n, e in (("none", 0.9), ("random", 0.8), ("T", 0.3), ("random-T", 0.29))]
    assert recommend(rows, 1.0).average == "none"
    assert recommend(rows, 0.85).average == "T"
    assert recommend(rows, 0.1).average == "random-T"


def test_unknown_average() -> None:
    with pytest.raises(UserError, match="unknown average"):
        quadratures(["none", "T2"])


def test_random_frames_heat_as_the_raw_deviations_say() -> None:
    """Kicks of the deviations alone, in a new rotation at every step: the kinetic energy that atoms at rest gain."""
    potential = terms("1", "2", "3", "4")
    rng = np.random.default_rng(3)
    molecules = [Structure(NUMBERS, s.positions @ random_rotation(rng)) for s in MOLECULES * 30]
    raw = symmetry_errors(potential, {"a": molecules}, quadratures(["none"]), quadrature("I"))[0]
    step, n_steps = 0.4, 30
    masses = DALTON * atomic_masses[NUMBERS][:, None]
    gained = []
    for structure in molecules:
        average = RotationalAverage(potential, "random", seed=int(rng.integers(1 << 31)))
        mean = RotationalAverage(potential, "I").predict(structure).forces  # exact up to degree 5
        velocities = np.zeros((3, 3))
        for k in range(n_steps):
            moved = Structure(
                NUMBERS, structure.positions + 1e-6 * k
            )  # the same positions have the same rotation
            velocities += step * (average.predict(moved).forces - mean) / masses
        gained.append(0.5 * float((masses * velocities**2).sum()))
    rate = np.array(gained) / (structure.n_atoms * n_steps * step)
    error = rate.std() / np.sqrt(len(rate))
    assert abs(rate.mean() - raw.heating * step) < 3 * error
    assert error < 0.15 * rate.mean()


def random_rotation(rng: np.random.Generator) -> FloatArray:
    return Rotation.random(rng=rng).as_matrix()


def test_averages_without_a_fixed_grid() -> None:
    potential, structure = AnisotropicPotential([Term.parse("2", 0.1)]), MOLECULES[0]
    (found,) = RotationPool([quadrature("random")]).averages(RotationChunks(potential), structure)
    assert found.n_rotations == 1
    (own,) = RotationPool([quadrature("ecse")]).averages(RotationChunks(potential, 2), structure)
    assert own.n_rotations > 1
