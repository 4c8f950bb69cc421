"""Orb models with random weights of small size: the contract, orb-models' own calculator, skewed cells, charge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_structures import random_structure

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.testing import check_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure

pytest.importorskip("orb_models", reason="Orb needs the package orb-models")
from orb_models.forcefield import pretrained
from orb_models.forcefield.atomic_system import SystemConfig
from orb_models.forcefield.calculator import ORBCalculator

from ipi_driver.potentials.orb import OrbPotential

pytestmark = pytest.mark.filterwarnings("ignore")
ISOLATED, SKEWED = random_structure(n=7, pbc=False, seed=4), random_structure(n=9, seed=1)


def small_model(kind: str, neighbors: int = 120, **options: Any) -> Any:
    torch.manual_seed(0)
    make = getattr(pretrained, f"orb_v3_{kind}_architecture")
    return make(
        latent_dim=16,
        base_mlp_hidden_dim=16,
        head_mlp_hidden_dim=16,
        num_message_passing_steps=2,
        system_config=SystemConfig(radius=4.0, max_num_neighbors=neighbors),
        device="cpu",
        **options,
    ).eval()


@pytest.mark.parametrize("kind", ["conservative", "direct"])
@pytest.mark.parametrize("structure", [ISOLATED, SKEWED], ids=["isolated", "skewed"])
def test_the_contract(kind: str, structure: Structure) -> None:
    skip = ("forces", "virial") if kind == "direct" else ()  # no derivatives
    check_potential(OrbPotential(small_model(kind), dtype="float64"), structure, skip=skip)


@pytest.mark.parametrize("neighbors", [6, 120])
@pytest.mark.parametrize("kind", ["conservative", "direct"])
def test_against_its_own_calculator(kind: str, neighbors: int) -> None:
    """Raw, and averaged over rotations one after the other, in a cell whose neighbors orb-models finds."""
    structure = replace(ISOLATED, cell=np.diag([5.0, 5.5, 6.0]), pbc=np.ones(3, dtype=bool))
    found = OrbPotential(small_model(kind, neighbors), dtype="float32")
    calculator = ORBCalculator(small_model(kind, neighbors), device="cpu")
    energies, forces, virials = [], [], []
    rotations = np.array([np.eye(3), np.eye(3)[[1, 2, 0]], -np.eye(3)])
    for rotation in rotations:
        atoms = structure.rotated(rotation).to_atoms()
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces() @ rotation)
        stress = rotation.T @ atoms.get_stress(voigt=False) @ rotation
        virials.append(-structure.volume * stress)
    results = found.evaluate([structure], rotations)
    assert results.virials is not None
    np.testing.assert_allclose(results.energies[0], energies, rtol=2e-6)
    np.testing.assert_allclose(results.forces[0], forces, atol=2e-6)
    np.testing.assert_allclose(results.virials[0], virials, atol=2e-5)
    assert np.ptp(energies) > 1e-5 or kind == "direct"  # these rotations matter


def test_direct_forces_are_no_derivatives_and_check_sees_it() -> None:
    with pytest.raises(AssertionError, match="forces"):
        check_potential(OrbPotential(small_model("direct"), dtype="float64"), ISOLATED)


def test_the_stress_of_a_direct_model_is_none_of_a_slab() -> None:
    """Times a volume with vacuum it was any number: thousands of eV for a lone atom."""
    slab = Structure([8], np.zeros((1, 3)), np.diag([20.0, 20.0, 0.0]), np.array([True, True, False]))
    assert OrbPotential(small_model("direct")).predict(slab).virial is None
    assert np.abs(OrbPotential(small_model("conservative")).predict(slab).virial).max() < 1e-6


def test_charge_and_spin() -> None:
    potential = OrbPotential(small_model("conservative", has_charge_spin_cond=True, has_stress=False))
    assert potential.conditions == ("charge", "spin")
    neutral = potential.predict(ISOLATED).energy
    assert potential.predict(replace(ISOLATED, charge=0.0, spin=1)).energy == neutral
    assert potential.predict(replace(ISOLATED, charge=1.0, spin=2)).energy != neutral
    assert RotationalAverage(potential, "T").predict(SKEWED).virial is None  # it was trained without stress


def test_weights_of_a_file_by_the_name_of_their_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("direct")
    torch.save(model.state_dict(), tmp_path / "tuned.ckpt")

    def made(weights_path: str, device: str, compile: bool) -> Any:
        return pretrained.load_model(small_model("direct"), weights_path, device, compile=compile)

    monkeypatch.setitem(pretrained.ORB_PRETRAINED_MODELS, "orb-small", made)
    again = load_potential(f"orb:{tmp_path / 'tuned.ckpt'}?model=orb-small", dtype="float64")
    expected = OrbPotential(model, dtype="float64").predict(ISOLATED)
    assert again.predict(ISOLATED).energy == pytest.approx(expected.energy, rel=1e-6)
    for wrong in (f"orb:{tmp_path / 'tuned.ckpt'}", "orb:orb-v9"):
        with pytest.raises(UserError, match="NAME one of orb-v3"):
            load_potential(wrong)
