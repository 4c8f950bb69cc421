"""Every kind of potential through `check_potential`, and that each of its checks can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from ipi_driver.potentials import Potential, load_potential
from ipi_driver.potentials.testing import ConformanceError, check_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import FloatArray, Prediction, RotatedResults, Structure

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05], [2.1, 1.6, 1.2]])
CELL = np.array([[3.6, 0.0, 0.0], [0.4, 3.8, 0.0], [0.1, -0.3, 3.5]])
NUMBERS = np.array([8, 1, 1, 8])
MOLECULE = Structure(NUMBERS, POSITIONS)
CRYSTAL = Structure(NUMBERS, POSITIONS, CELL, np.ones(3, dtype=bool))
SLAB = Structure(NUMBERS, POSITIONS, CELL, np.array([True, True, False]))


def copper() -> Structure:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return Structure.from_atoms(atoms)


def pairs(folder: Path) -> Path:
    pytest.importorskip("metatomic.torch")
    from metatomic_pairs import export_pairs

    return export_pairs(folder / "pairs.pt")


LENNARD_JONES = "ase:ase.calculators.lj.LennardJones?sigma=1.2&epsilon=0.02&rc=3.3&smooth=true"


@pytest.mark.parametrize("structure", [MOLECULE, CRYSTAL, SLAB], ids=["molecule", "crystal", "slab"])
@pytest.mark.parametrize("kind", ["anisotropic", "network", "metatomic", "ase", "average"])
def test_every_kind(kind: str, structure: Structure, tmp_path: Path) -> None:
    makers: dict[str, Callable[[], Potential]] = {
        "anisotropic": lambda: load_potential("anisotropic?l=1,2,3e&amplitude=0.1"),
        "network": lambda: load_potential("pet-water-s", dtype="float64"),
        "metatomic": lambda: load_potential(pairs(tmp_path)),
        "ase": lambda: load_potential(LENNARD_JONES),
        "average": lambda: RotationalAverage(load_potential("anisotropic?l=2,3e&amplitude=0.1"), "D2"),
    }
    deviations = check_potential(makers[kind](), structure)
    expected = {"results", "forces", "rotations", "permutation", "translation", "batch", "chunks", "input"}
    assert expected <= set(deviations)
    assert ("lattice" in deviations) == structure.periodic
    assert ("virial" in deviations) == (kind != "ase" or structure is not SLAB or "virial" in deviations)


def test_single_precision_and_a_metal() -> None:
    check_potential(load_potential("pet-water-s"), CRYSTAL, 1e-4, 1e-2)
    check_potential(load_potential("ase:ase.calculators.emt.EMT"), copper(), derivative_tolerance=1e-4)


GOOD = load_potential("anisotropic?l=1,2,3e&amplitude=0.1")


class Broken(Potential):
    """A good potential with one fault."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.name = f"broken {fault}"

    def predict(self, structure: Structure) -> Prediction:
        found = super().predict(structure)
        return replace(found, energy=found.energy + 0.1) if self.fault == "results" else found

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        fault = self.fault
        seen = [self._seen(structure) for structure in structures]
        if fault == "rotations":  # leaves the structures as they are
            rotations = np.tile(np.eye(3), (len(rotations), 1, 1))
        found = GOOD.evaluate(seen, rotations)
        energies, forces, virials = found.energies, found.forces, found.virials
        if fault == "forces":
            forces = tuple(1.01 * values for values in forces)
        if fault == "virial" and virials is not None:
            virials = 1.01 * virials
        if fault == "batch" and len(structures) > 1:
            energies = energies[::-1]
        if fault == "chunks" and len(rotations) == 2:
            energies = energies + 0.1
        if fault == "permutation":
            energies = energies + np.array([[s.positions[0] @ np.ones(3)] for s in structures])
        if fault == "translation":
            energies = energies + np.array([[s.positions.sum()] for s in structures])
        if fault == "input":
            structures[0].positions[0] += 0.1
        if fault == "not finite":
            energies = energies * np.nan
        if fault == "shape":
            forces = tuple(values[:1] for values in forces)
        return RotatedResults(energies, forces, virials)

    def _seen(self, structure: Structure) -> Structure:
        if self.fault != "lattice":
            return structure
        return replace(structure, pbc=np.zeros(3, dtype=bool), cell=np.zeros((3, 3)))


@pytest.mark.parametrize(
    "fault",
    [
        "results",
        "forces",
        "virial",
        "rotations",
        "permutation",
        "translation",
        "lattice",
        "batch",
        "chunks",
        "input",
    ],
)
def test_each_check_can_fail(fault: str) -> None:
    # what depends on place or order is a fault of more than one kind: the named one must be among them
    structure = replace(CRYSTAL)
    with pytest.raises(ConformanceError, match=f"{fault}: "):
        check_potential(Broken(fault), structure)


@pytest.mark.parametrize(("fault", "message"), [("not finite", "not finite"), ("shape", "must be float64")])
def test_bad_results(fault: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        check_potential(Broken(fault), CRYSTAL)


def test_forces_that_are_no_derivatives() -> None:
    deviations = check_potential(Broken("forces"), CRYSTAL, skip=("forces",))
    assert "forces" not in deviations
