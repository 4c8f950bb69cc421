"""Options of a potential's specification."""

from __future__ import annotations

import ase
import pytest
from ase.calculators.lj import LennardJones

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.ase import AsePotential
from ipi_driver.structure import Structure

PAIR = ase.Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.3, 3.7]])


def test_a_plus_is_no_blank() -> None:
    for text in ("a+b", "a%2Bb"):
        potential = load_potential(f"ase:ase.calculators.emt.EMT?label={text}")
        assert isinstance(potential, AsePotential)
        assert potential.calculator.label == "a+b"
    potential = load_potential("ase:ase.calculators.lj.LennardJones?sigma=3.4&epsilon=1e+1")
    atoms = PAIR.copy()
    atoms.calc = LennardJones(sigma=3.4, epsilon=10.0)
    assert potential.predict(Structure.from_atoms(PAIR)).energy == pytest.approx(atoms.get_potential_energy())


def test_tf32_is_for_gpus() -> None:
    with pytest.raises(UserError, match="--dtype tf32 is for GPUs, got --device cpu: give --device cuda"):
        load_potential("pet-water-s", dtype="tf32")
