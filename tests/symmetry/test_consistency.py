"""Finite differences and turned rotations find what is wrong with a potential."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from ase.calculators.emt import EMT

from ipi_driver.potentials.anisotropic import AnisotropicPotential
from ipi_driver.potentials.ase import AsePotential
from ipi_driver.potentials.base import Potential
from ipi_driver.potentials.derivatives import jacobian_asymmetry
from ipi_driver.report.check_sentences import consistency_text
from ipi_driver.structure import FloatArray, RotatedResults, Structure
from ipi_driver.symmetry.consistency import check_consistency

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
CELL = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 2.9]])
CRYSTAL = Structure(np.array([8, 1, 1]), POSITIONS, CELL, np.ones(3, dtype=bool))
GOOD = AnisotropicPotential.from_options({"l": "1,2,3e", "amplitude": "0.1"})


class Broken(Potential):
    """Forces or virial 5 % too large, or rotations that forget to turn the cell."""

    def __init__(self, what: str) -> None:
        self.what = what

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        if self.what == "cell":
            (s,) = structures
            turned = [Structure(s.numbers, s.positions @ r.T, s.cell, s.pbc) for r in rotations]
            results = GOOD.evaluate(turned, np.eye(3)[None])
            forces = np.array([f[0] @ r for f, r in zip(results.forces, rotations, strict=True)])
            return RotatedResults(results.energies.T, (forces,), None)
        results = GOOD.evaluate(structures, rotations)
        assert results.virials is not None
        f = 1.05 if self.what == "forces" else 1.0
        v = 1.05 if self.what == "virial" else 1.0
        return RotatedResults(results.energies, tuple(f * x for x in results.forces), v * results.virials)


def test_a_good_potential_passes() -> None:
    for structure in (CRYSTAL, Structure(CRYSTAL.numbers, POSITIONS)):
        found = check_consistency(GOOD, structure)
        assert found.conservative
        assert found.virial_consistent
        assert found.rotations_turn_everything
        assert found.force_deviation < 1e-6 * found.force_scale


@pytest.mark.parametrize("what", ["forces", "virial", "cell"])
def test_each_fault_is_found(what: str) -> None:
    found = check_consistency(Broken(what), CRYSTAL)
    assert found.conservative == (what != "forces")
    assert found.rotations_turn_everything == (what != "cell")
    assert found.virial_consistent == {"forces": True, "virial": False, "cell": None}[what]
    if what == "forces":
        assert found.force_deviation == pytest.approx(0.05 * found.force_scale, rel=1.0)


def test_an_ase_calculator() -> None:
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    found = check_consistency(AsePotential(EMT()), Structure.from_atoms(atoms))
    assert found.conservative
    assert found.virial_consistent
    assert found.rotations_turn_everything


class Linear(Potential):
    """Forces that are a matrix times the coordinates; the energy is that of its symmetric part."""

    def __init__(self, matrix: FloatArray) -> None:
        self.matrix = matrix

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        energies, forces = [], []
        for structure in structures:
            x = structure.positions.ravel()
            energies.append([-0.5 * float(x @ self.matrix @ x)] * len(rotations))
            forces.append(np.tile((self.matrix @ x).reshape(-1, 3), (len(rotations), 1, 1)))
        return RotatedResults(np.array(energies), tuple(forces), None)


def test_asymmetry_of_the_jacobian() -> None:
    """Of forces that are no derivatives: all vectors, and a few random ones, against the norms of the matrix."""
    molecule = Structure(CRYSTAL.numbers, POSITIONS)
    matrix = np.random.default_rng(5).standard_normal((9, 9))
    expected = np.linalg.norm(matrix - matrix.T) / 2 / np.linalg.norm(matrix)
    rng = np.random.default_rng(0)
    assert jacobian_asymmetry(Linear(matrix), molecule, rng, 9) == pytest.approx(expected, rel=1e-6)
    few = [jacobian_asymmetry(Linear(matrix), molecule, rng, 4) ** 2 for _ in range(200)]
    assert np.sqrt(np.mean(few)) == pytest.approx(expected, rel=0.1)
    assert jacobian_asymmetry(Linear(matrix + matrix.T), molecule, rng) < 1e-10
    assert jacobian_asymmetry(GOOD, CRYSTAL, rng) < 1e-4  # steps of 1e-3 Å, to second order
    found = check_consistency(Linear(matrix), molecule)
    assert not found.conservative
    assert "% of their Jacobian is antisymmetric" in consistency_text(found)
    assert "Jacobian" not in consistency_text(check_consistency(GOOD, molecule))
