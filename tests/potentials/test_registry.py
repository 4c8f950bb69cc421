"""Options of a potential's specification."""

from __future__ import annotations

import ase
import pytest
import torch
from ase.calculators.lj import LennardJones

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.ase import AsePotential
from ipi_driver.potentials.network import NetworkPotential
from ipi_driver.shipped import find_shipped
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


def test_an_option_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"the option 'l' is given twice"):
        load_potential("anisotropic?l=2&seed=1&l=4")
    load_potential("sum:anisotropic?l=2&seed=1+anisotropic?l=4&seed=2")


def test_tf32_is_for_gpus() -> None:
    with pytest.raises(UserError, match="--dtype tf32 is for GPUs, got --device cpu: give --device cuda"):
        load_potential("pet-water-s", dtype="tf32")
    with pytest.raises(UserError, match=r"for networks of this package, and mace:my\.model is none of them"):
        load_potential("mace:my.model", device="cuda", dtype="tf32")


def test_tf32_changes_its_own_potential_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no GPU is, the setting alone is seen: it holds during the network, and not after."""
    seen = []
    potential = NetworkPotential.load(find_shipped("models", "pet-water-s"), dtype="tf32")
    monkeypatch.setattr(
        NetworkPotential,
        "_network_as_set",
        lambda self, vectors, graph, *_: (
            seen.append(torch.get_float32_matmul_precision()),
            *self.network.gradient_function()(vectors, graph),
        )[1:],
    )
    water = Structure([8, 1, 1], [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    potential.predict(water)
    load_potential("pet-water-s").predict(water)
    assert seen == ["high", "highest"]
    assert potential.name == "pet-water-s, TF32"
