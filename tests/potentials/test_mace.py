"""MACE models with random weights of small size: the contract, MACE's own calculator, heads, charge, bad files."""

from __future__ import annotations

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

pytest.importorskip("mace", reason="MACE needs the package mace-torch")
from e3nn import o3
from mace.calculators import MACECalculator
from mace.modules import MACE, interaction_classes

from ipi_driver.potentials.mace import MacePotential

pytestmark = pytest.mark.filterwarnings("ignore")
ISOLATED, SKEWED = random_structure(n=7, pbc=False, seed=4), random_structure(n=9, seed=1)
SPECIES = sorted({int(z) for s in (ISOLATED, SKEWED) for z in s.numbers} | {6})


def small_model(**options: Any) -> Any:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        block = interaction_classes["RealAgnosticResidualInteractionBlock"]
        return MACE(
            r_max=4.0,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=len(SPECIES),
            hidden_irreps=o3.Irreps("4x0e + 4x1o"),
            MLP_irreps=o3.Irreps("4x0e"),
            atomic_energies=np.linspace(-2.0, 1.0, len(SPECIES)),
            avg_num_neighbors=6.0,
            atomic_numbers=SPECIES,
            correlation=2,
            gate=torch.nn.functional.silu,
            **options,
        )
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mace") / "small.model"
    torch.save(small_model(), path)
    return path


@pytest.mark.parametrize("structure", [ISOLATED, SKEWED], ids=["isolated", "skewed"])
def test_the_contract(structure: Structure) -> None:
    check_potential(MacePotential(small_model()), structure)


@pytest.mark.parametrize("structure", [ISOLATED, SKEWED], ids=["isolated", "skewed"])
def test_against_its_own_calculator(structure: Structure, file: Path) -> None:
    """Raw and turned, several structures in one batch."""
    calculator = MACECalculator(model_paths=str(file), device="cpu", default_dtype="float64")
    rotations = np.array([np.eye(3), np.eye(3)[[1, 2, 0]], -np.eye(3)])
    results = load_potential(f"mace:{file}").evaluate([structure, structure.rotated(rotations[1])], rotations)
    assert results.virials is not None
    for s, start in enumerate((structure, structure.rotated(rotations[1]))):
        for k, rotation in enumerate(rotations):
            atoms = start.rotated(rotation).to_atoms()
            atoms.calc = calculator
            assert results.energies[s, k] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
            np.testing.assert_allclose(results.forces[s][k], atoms.get_forces() @ rotation, atol=1e-10)
            if structure.periodic:
                stress = rotation.T @ atoms.get_stress(voigt=False) @ rotation
                np.testing.assert_allclose(results.virials[s, k], -structure.volume * stress, atol=1e-9)
    assert np.abs(results.forces[0]).max() > 1e-2


def test_it_is_equivariant_and_takes_the_precision_that_is_asked_for(file: Path) -> None:
    single = load_potential(f"mace:{file}", dtype="float32")
    double = load_potential(f"mace:{file}", dtype="float64")
    assert RotationalAverage(double, "Th").predict(SKEWED).forces_std == pytest.approx(0.0, abs=1e-10)
    forces = [p.predict(SKEWED).forces for p in (single, double)]
    difference = np.abs(forces[0] - forces[1]).max()
    assert 0.0 < difference < 1e-4


def test_one_of_several_heads(tmp_path: Path) -> None:
    from mace.modules import MACE as Model

    model = small_model()
    assert isinstance(model, Model)
    model.heads = ["a", "b"]
    with pytest.raises(UserError, match=r"choose a head with \?head=NAME, one of a, b; no head was named"):
        MacePotential(model)
    with pytest.raises(UserError, match="got 'c'"):
        MacePotential(model, head="c")


def test_charge_and_spin_where_the_model_asks_for_them() -> None:
    specs = {
        "total_charge": {
            "type": "categorical",
            "per": "graph",
            "emb_dim": 4,
            "num_classes": 21,
            "offset": 10,
        },
        "total_spin": {"type": "categorical", "per": "graph", "emb_dim": 4, "num_classes": 9},
    }
    potential = MacePotential(small_model(embedding_specs=specs))
    assert potential.conditions == ("charge", "spin")
    energies = [
        potential.predict(ISOLATED.conditioned(charge, spin)).energy
        for charge, spin in ((None, None), (0, 1), (1, 2), (-1, 2))
    ]
    assert energies[0] == energies[1]
    assert len({round(e, 8) for e in energies}) == 3
    strange = {"temperature": {"type": "continuous", "per": "graph", "emb_dim": 4, "in_dim": 1}}
    with pytest.raises(UserError, match="asks for 'temperature'"):
        MacePotential(small_model(embedding_specs=strange))


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected mace:FILE"):
        load_potential("mace:missing.model")
    text = tmp_path / "text.model"
    text.write_text("no model")
    with pytest.raises(UserError, match="cannot be loaded as a MACE model"):
        load_potential(f"mace:{text}")
    torch.save({"a": 1}, tmp_path / "other.model")
    with pytest.raises(UserError, match="holds a dict"):
        load_potential(f"mace:{tmp_path / 'other.model'}")
