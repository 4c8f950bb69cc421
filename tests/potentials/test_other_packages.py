"""Models of other packages, where these are installed: the contract, and against their own ASE calculators."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from ipi_driver.cli import main
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
    """A PET with random weights, two energies, a scale and atomic energies, converted by the command."""
    pytest.importorskip("pet_kokkos")
    pytest.importorskip("metatrain.pet")
    from metatrain_models import random_model, save_checkpoint

    folder = tmp_path_factory.mktemp("kokkos")
    model = random_model(
        {"d_pet": 32, "d_node": 64, "num_neighbors_adaptive": 3, "cutoff": 5.0},
        ("energy", "energy/r2scan"),
        (1, 6, 8),
    )
    save_checkpoint(model, folder / "model.ckpt")
    for name in ("energy", "r2scan"):
        arguments = ["import-pet", str(folder / "model.ckpt"), str(folder / name), "--target", name]
        assert main([*arguments, "--kokkos"]) == 0
        assert main([*arguments, "--force"]) == 0
    return folder / "energy"


def test_pet_kokkos_converted_by_a_command(kokkos: Path) -> None:
    """Both energies of a checkpoint, against the import into this package's network."""
    structure = Structure.from_atoms(molecule("CH3OH"))
    energies = []
    for name in ("energy", "r2scan"):
        potential = load_potential(f"pet-kokkos:{kokkos.parent / name}")
        found = RotationalAverage(potential, "T").predict(structure)
        expected = RotationalAverage(load_potential(str(kokkos.parent / name)), "T").predict(structure)
        assert found.energy == pytest.approx(expected.energy, rel=1e-5)
        scale = np.abs(expected.forces).max()
        assert found.forces == pytest.approx(expected.forces, abs=1e-4 * scale)
        energies.append(found.energy)
        potential.model.close()  # type: ignore[attr-defined]
    assert abs(energies[0] - energies[1]) > 1e-2


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


def test_pet_kokkos_of_slabs_and_wires(kokkos: Path) -> None:
    """Also where the cell vector without images is zero, as in files of slabs."""
    atoms = molecule("CH3OH", cell=[[3.1, 0.2, 0.0], [0.0, 3.6, 0.3], [0.1, 0.0, 4.9]])
    ours, theirs = (load_potential(text) for text in (str(kokkos), f"pet-kokkos:{kokkos}"))
    for pbc in ([True, True, False], [False, True, False]):
        for cell in (atoms.cell.array, np.diag(pbc) @ atoms.cell.array):
            structure = Structure(atoms.numbers, atoms.positions, cell, np.array(pbc))
            found, expected = theirs.predict(structure), ours.predict(structure)
            assert found.energy == pytest.approx(expected.energy, rel=1e-5)
            assert found.forces == pytest.approx(expected.forces, abs=1e-4 * np.abs(expected.forces).max())
    theirs.model.close()  # type: ignore[attr-defined]


def test_pet_kokkos_of_a_charge_that_it_does_not_know(kokkos: Path) -> None:
    """It takes the largest for a larger one, and the integer below for a fraction."""
    from metatrain_models import random_model, save_checkpoint

    file = save_checkpoint(random_model({"system_conditioning": True}), kokkos.parent / "ions.ckpt")
    assert main(["import-pet", str(file), str(kokkos.parent / "ions"), "--kokkos"]) == 0
    potential = load_potential(f"pet-kokkos:{kokkos.parent / 'ions'}")
    water = Structure.from_atoms(molecule("H2O"))
    potential.predict(water.conditioned(-1.0, 2))
    for charge, spin in ((11.0, 2), (0.5, 2), (1.0, 11)):
        with pytest.raises(UserError, match="must be a whole number of at most 10, got"):
            potential.predict(water.conditioned(charge, spin))
    potential.model.close()  # type: ignore[attr-defined]


def test_pet_kokkos_without_a_file(tmp_path: Path) -> None:
    pytest.importorskip("pet_kokkos")
    with pytest.raises(UserError, match=r"no such file .*absent\.json"):
        load_potential(f"pet-kokkos:{tmp_path / 'absent'}")
