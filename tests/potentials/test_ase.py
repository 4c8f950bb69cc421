"""ASE calculators as potentials."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential, load_precise
from ipi_driver.potentials.ase import AsePotential, parse_value
from ipi_driver.structure import Structure

ROTATIONS = Rotation.random(3, random_state=2).as_matrix() * np.array([1.0, -1.0, 1.0])[:, None, None]


class Field(Calculator):
    """Bonds in a field along z: E = sum over pairs of z_ij^2 r_ij^-2; no stress. Keeps what it was shown."""

    implemented_properties = ("energy", "forces")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[ase.Atoms] = []

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        self.seen.append(atoms.copy())
        d = atoms.positions[None] - atoms.positions[:, None]
        r2 = (d**2).sum(axis=2) + np.eye(len(atoms))
        z = d[..., 2]
        slope = 2 * z[..., None] * np.array([0, 0, 1.0]) / r2[..., None]
        slope = slope - 2 * (z**2 / r2**2)[..., None] * d
        self.results = {"energy": 0.5 * (z**2 / r2).sum(), "forces": slope.sum(axis=1)}


def test_invariant_calculator_is_the_same_in_every_rotation() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    results = AsePotential(EMT()).evaluate([Structure.from_atoms(atoms)], ROTATIONS)
    atoms.calc = EMT()
    assert results.virials is not None
    expected = -atoms.get_volume() * atoms.get_stress(voigt=False)
    for k in range(3):
        assert results.energies[0, k] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert results.forces[0][k] == pytest.approx(atoms.get_forces(), abs=1e-9)
        assert results.virials[0, k] == pytest.approx(expected, abs=1e-8)


def test_the_cell_turns_with_the_atoms() -> None:
    calculator = Field()
    structure = Structure(
        np.array([8, 1]), np.array([[0, 0, 0], [0.5, 0.6, 0.7]]), np.diag([3.0, 4.0, 5.0]), np.ones(3)
    )
    AsePotential(calculator).evaluate([structure], ROTATIONS)
    for shown, rotation in zip(calculator.seen, ROTATIONS, strict=True):
        sign = np.linalg.det(rotation)  # a mirrored cell with all vectors reversed is right-handed
        assert np.asarray(shown.cell) == pytest.approx(sign * structure.cell @ rotation.T)
        assert shown.cell.scaled_positions(shown.positions) == pytest.approx(
            sign * structure.to_atoms().cell.scaled_positions(structure.positions), abs=1e-12
        )


def test_forces_and_virial_of_an_anisotropic_molecule() -> None:
    """Without a stress from the calculator: against finite differences of the energy in every rotation."""
    potential = AsePotential(Field())
    structure = Structure.from_atoms(molecule("CH3OH"))
    results = potential.evaluate([structure], ROTATIONS)
    assert results.virials is not None
    assert np.ptp(results.energies) > 0.1
    h = 1e-5
    rng = np.random.default_rng(0)
    shift, strain = rng.standard_normal(structure.positions.shape), rng.standard_normal((3, 3))

    def energies(positions: np.ndarray) -> np.ndarray:
        return potential.evaluate([Structure(structure.numbers, positions)], ROTATIONS).energies[0]

    slope = (energies(structure.positions + h * shift) - energies(structure.positions - h * shift)) / (2 * h)
    assert -(results.forces[0] * shift).sum(axis=(1, 2)) == pytest.approx(slope, abs=1e-7)
    plus, minus = (structure.positions @ (np.eye(3) + s * h * strain).T for s in (1, -1))
    slope = (energies(plus) - energies(minus)) / (2 * h)
    assert -(results.virials[0] * strain).sum(axis=(1, 2)) == pytest.approx(slope, abs=1e-7)


def test_periodic_without_stress_has_no_virial() -> None:
    structure = Structure(np.array([8, 1]), np.array([[0, 0, 0], [0.5, 0.6, 0.7]]), 5 * np.eye(3), np.ones(3))
    potential = AsePotential(Field())
    assert potential.evaluate([structure], ROTATIONS).virials is None
    assert potential.predict(structure).virial is None


def test_specification() -> None:
    potential = load_potential(
        "ase:ase.calculators.lj.LennardJones?sigma=1.2&epsilon=0.01&rc=4.0&smooth=true"
    )
    assert potential.name == "LennardJones"
    atoms = molecule("H2O")
    atoms.calc = LennardJones(sigma=1.2, epsilon=0.01, rc=4.0, smooth=True)
    result = potential.predict(Structure.from_atoms(atoms))
    assert result.energy == pytest.approx(atoms.get_potential_energy())
    assert result.forces == pytest.approx(atoms.get_forces())


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("3.5", 3.5), ("1e-3", 1e-3), ("True", True), ("none", None), ("medium", "medium"), ("", "")],
)
def test_values(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("EMT", "expected module.Class"),
        ("no_such_package.Calculator", "is its package installed"),
        ("ase.calculators.emt.NoSuch", "cannot import"),
        ("ase.Atoms", "not an ASE calculator"),
        ("ase.calculators.vdwcorrection.vdWTkatchenko09prl?wrong=1", "failed"),
    ],
)
def test_bad_specifications_are_one_line(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_potential(f"ase:{spec}")
    assert "\n" not in str(caught.value)


def test_device_and_precision_are_options_of_the_calculator() -> None:
    with pytest.raises(UserError, match="--device cuda is for models in torch"):
        load_potential("ase:ase.calculators.emt.EMT", device="cuda")
    with pytest.raises(UserError, match=r"--dtype float64 is for models in torch.*EMT\?dtype=float64"):
        load_potential("ase:ase.calculators.emt.EMT", dtype="float64")
    atoms = ase.Atoms("Au2", [[0.0, 0.0, 0.0], [0.0, 0.1, 2.6]], calculator=EMT())
    emt = "ase:ase.calculators.emt.EMT"
    found = load_precise(emt, load_potential(emt)).predict(Structure(atoms.numbers, atoms.positions))
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
