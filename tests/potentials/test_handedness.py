"""Improper rotations of periodic structures: every backend gets a right-handed cell of the same lattice."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

from ipi_driver.potentials import Potential, load_potential
from ipi_driver.potentials.ase import AsePotential
from ipi_driver.potentials.cells import roomy_cell
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure


def crystal() -> Structure:
    """Argon in a strained triclinic cell, displaced."""
    atoms = bulk("Ar", "fcc", a=5.2, cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return Structure.from_atoms(atoms)


class SignedVolume(LennardJones):
    """Divides by the determinant of the cell, as some published models do."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        self.results["stress"] = self.results["stress"] * np.sign(np.linalg.det(atoms.cell))


class RightHandedOnly(LennardJones):
    """Refuses a left-handed cell."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        if np.linalg.det(atoms.cell) < 0:
            raise ValueError("left-handed cell")
        super().calculate(atoms, properties, system_changes)


@pytest.mark.parametrize("calculator", [SignedVolume, RightHandedOnly])
@pytest.mark.parametrize("left", [False, True], ids=["right-handed", "left-handed"])
@pytest.mark.parametrize("average", ["i", "Th"])
def test_virial_of_calculators_with_a_signed_volume(
    calculator: type[LennardJones], left: bool, average: str
) -> None:
    structure = crystal()
    parameters = {"sigma": 3.4, "epsilon": 0.01, "rc": 8.0, "smooth": True}
    atoms = structure.to_atoms()
    atoms.calc = LennardJones(**parameters)
    expected = -atoms.get_volume() * atoms.get_stress(voigt=False)
    assert np.abs(expected).max() > 0.1
    if left:
        structure = Structure(
            structure.numbers, structure.positions, structure.cell[[1, 0, 2]], structure.pbc
        )
    found = RotationalAverage(AsePotential(calculator(**parameters)), average).predict(structure)
    assert found.virial == pytest.approx(expected, abs=1e-10)
    assert found.virial_std == pytest.approx(0.0, abs=1e-10)
    assert found.forces == pytest.approx(atoms.get_forces(), abs=1e-10)


def test_a_turned_structure_is_the_same_lattice() -> None:
    structure = crystal()
    inverted = structure.rotated(-np.eye(3))
    assert np.linalg.det(inverted.cell) > 0
    assert inverted.cell == pytest.approx(structure.cell)
    assert inverted.positions == pytest.approx(-structure.positions)
    mirror = np.diag([1.0, 1.0, -1.0])
    turned = structure.rotated(mirror)
    assert np.linalg.det(turned.cell) == pytest.approx(np.linalg.det(structure.cell))
    assert turned.cell == pytest.approx(-structure.cell @ mirror)


@pytest.fixture(params=["anisotropic?l=2,3e,1&amplitude=0.1", "pet-water-s", "pairs"])
def potential(request: pytest.FixtureRequest) -> Potential:
    if request.param != "pairs":
        return load_potential(request.param, dtype="float64" if request.param == "pet-water-s" else None)
    pytest.importorskip("metatomic.torch")
    import torch
    from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput
    from metatomic_pairs import Pairs

    from ipi_driver.potentials.metatomic import MetatomicPotential

    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV")},
        atomic_types=[1, 8],
        interaction_range=3.0,
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )
    model = AtomisticModel(Pairs().eval(), ModelMetadata(), capabilities)
    return MetatomicPotential(torch.jit.script(model))


def test_improper_rotations_of_every_backend(potential: Potential) -> None:
    """Against the structure mirrored before, with its cell as it comes and as a right-handed one."""
    positions = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
    cell = np.array([[3.6, 0.0, 0.0], [0.4, 3.8, 0.0], [0.1, -0.3, 3.5]])
    structure = Structure(np.array([8, 1, 1]), positions, cell, np.ones(3, dtype=bool))
    mirror = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    mirror *= -np.linalg.det(mirror)
    results = potential.evaluate([structure], mirror[None])
    assert results.virials is not None
    for sign in (1.0, -1.0):
        turned = Structure(structure.numbers, positions @ mirror.T, sign * cell @ mirror.T, structure.pbc)
        found = potential.predict(turned)
        assert found.virial is not None
        assert results.energies[0, 0] == pytest.approx(found.energy, abs=1e-10)
        assert results.forces[0][0] == pytest.approx(found.forces @ mirror, abs=1e-9)
        assert results.virials[0, 0] == pytest.approx(mirror.T @ found.virial @ mirror, abs=1e-9)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
def test_codes_that_know_full_periodicity_alone_get_a_right_handed_cell(pbc: tuple[bool, bool, bool]) -> None:
    cell = np.array([[0.0, 4.0, 0.5], [5.0, 0.0, 0.0], [1.0, 0.0, 6.0]])
    assert np.linalg.det(cell) < 0
    found = roomy_cell(Structure(np.array([8]), np.zeros((1, 3)), cell, np.array(pbc)), 3.0)
    assert np.linalg.det(found) > 0
    periodic = np.array(pbc)
    steps = found[periodic] @ np.linalg.pinv(cell[periodic])  # the same lattice
    assert np.abs(steps - np.round(steps)).max() < 1e-9
    assert abs(np.linalg.det(np.round(steps))) == 1
