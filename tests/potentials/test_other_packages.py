"""Models of other packages, where these are installed: the contract, and against their own ASE calculators."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from ipi_driver.errors import UserError
from ipi_driver.potentials import Potential, load_potential
from ipi_driver.potentials.testing import check_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure

pytestmark = pytest.mark.filterwarnings("ignore")


def salt() -> ase.Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    atoms.rattle(0.08, seed=2)
    return atoms


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for spec, module, message in (
        ("chgnet:", "chgnet.model", "chgnet: needs the package chgnet"),
        ("pet-kokkos:model", "pet_kokkos", "pet-kokkos:model needs the package pet-kokkos"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=message):
            load_potential(spec)


@pytest.fixture(scope="module")
def chgnet() -> Potential:
    pytest.importorskip("chgnet")
    return load_potential("chgnet:")


def test_chgnet_against_its_calculator(chgnet: Potential) -> None:
    from chgnet.model.dynamics import CHGNetCalculator

    atoms = salt()
    found = RotationalAverage(chgnet, "Th").predict(Structure.from_atoms(atoms))
    atoms.calc = CHGNetCalculator(use_device="cpu")
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    assert found.forces == pytest.approx(atoms.get_forces(), abs=1e-4)
    stress = atoms.get_stress(voigt=False)
    assert np.abs(stress).max() * atoms.get_volume() > 0.1
    assert found.virial == pytest.approx(-atoms.get_volume() * stress, abs=2e-3)
    assert found.virial_std is not None
    assert found.virial_std < 1e-3


@pytest.mark.parametrize("periodic", [True, False])
def test_chgnet_keeps_the_contract(chgnet: Potential, periodic: bool) -> None:
    atoms = salt()[:4] if periodic else molecule("CH3OH")
    atoms.pbc = periodic
    check_potential(chgnet, Structure.from_atoms(atoms), 1e-3, 3e-2)


@pytest.fixture(scope="module")
def kokkos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two files of a PET with random weights."""
    pytest.importorskip("pet_kokkos")
    pytest.importorskip("metatrain.pet")
    import torch
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info
    from safetensors.torch import save_file

    torch.manual_seed(0)
    hypers = get_default_hypers("pet")["model"] | {
        "d_pet": 32,
        "d_node": 64,
        "d_head": 32,
        "d_feedforward": 64,
    }
    energy = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    model = PET(hypers, DatasetInfo("angstrom", [1, 6, 8], {"energy": energy})).eval()
    adaptive = model.hypers["num_neighbors_adaptive"]
    described = dict(model.hypers) | {
        "head_dim": model.hypers["d_pet"] // model.hypers["num_heads"],
        "num_readout_layers": 1,
        "num_neighbors_adaptive": None if adaptive is None else float(adaptive),
        "long_range_enabled": False,
    }
    described.pop("long_range")
    content = {
        "format_version": 1,
        "architecture": "pet",
        "source_model": "random",
        "target": "energy",
        "hypers": described,
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "energy_scale": 1.0,
        "n_species": 3,
        "atomic_types": [1, 6, 8],
        "species_to_index": model.backend.species_to_species_index.tolist(),
        "composition_energies": [0.0, 0.0, 0.0],
    }
    folder = tmp_path_factory.mktemp("kokkos")
    (folder / "pet.json").write_text(json.dumps(content))
    weights = {k: v.contiguous() for k, v in model.backend.state_dict().items() if v.is_floating_point()}
    save_file(weights, folder / "pet.safetensors")
    return folder / "pet"


@pytest.mark.parametrize("periodic", [True, False])
def test_pet_kokkos_keeps_the_contract(kokkos: Path, periodic: bool) -> None:
    atoms = molecule("CH3OH")
    if periodic:
        atoms.set_cell([[5.0, 0.2, 0.0], [0.0, 5.1, 0.3], [0.1, 0.0, 4.9]])
        atoms.pbc = True
    atoms.rattle(0.05, seed=3)
    potential = load_potential(f"pet-kokkos:{kokkos}")
    check_potential(potential, Structure.from_atoms(atoms), 1e-3, 3e-2)
    potential.model.close()  # type: ignore[attr-defined]


def test_pet_kokkos_without_a_file(tmp_path: Path) -> None:
    pytest.importorskip("pet_kokkos")
    with pytest.raises(UserError, match=r"no such file .*absent\.json"):
        load_potential(f"pet-kokkos:{tmp_path / 'absent'}")
