"""Charge and spin: from the structure, the command line, the settings and the plug-in to the model."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import yaml
from ase.calculators.calculator import Calculator, all_changes

from ipi_driver.cli import main
from ipi_driver.client.in_process import InProcess
from ipi_driver.errors import UserError
from ipi_driver.ipi_files.units import BOHR, HARTREE
from ipi_driver.potentials import load_potential
from ipi_driver.potentials.ase import AsePotential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
CENTERED = float(((POSITIONS - POSITIONS.mean(axis=0)) ** 2).sum())


def export(path: Path, asked: str = "charge") -> Path:
    pytest.importorskip("metatomic.torch")
    from metatomic_charged import export_charged

    return export_charged(path, asked)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("charged") / "charged.pt")


@pytest.mark.parametrize("average", ["none", "Th"])
@pytest.mark.parametrize(("charge", "spin"), [(None, None), (1.0, 2), (-1.0, 1)])
def test_a_model_of_charge_and_spin(
    model: Path, average: str, charge: float | None, spin: int | None
) -> None:
    structure = Structure(np.array([8, 1, 1]), POSITIONS, charge=charge, spin=spin)
    found = RotationalAverage(load_potential(model), average).predict(structure)
    assert found.energy == pytest.approx(CENTERED + 3.0 * (charge or 0.0) + 5.0 * (spin or 1), abs=1e-12)


def test_the_same_as_metatomic_in_ase(model: Path) -> None:
    calculator = pytest.importorskip("metatomic_ase").MetatomicCalculator(str(model))
    atoms = ase.Atoms("OH2", POSITIONS, info={"charge": -2, "spin": 3})
    atoms.calc = calculator
    found = load_potential(model).predict(Structure.from_atoms(atoms))
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)


def test_an_input_that_is_not_supplied(tmp_path: Path) -> None:
    path = export(tmp_path / "momenta.pt", "momentum")
    with pytest.raises(UserError, match=r"asks for the input 'momentum' \(atom\), which is not supplied"):
        load_potential(path)


def test_a_charge_that_the_model_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ion.extxyz"
    ase.io.write(path, ase.Atoms("OH2", POSITIONS))
    words = ["check", "anisotropic", str(path), "--charge", "1", "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert "anisotropic does not depend on the charge, got --charge 1" in capsys.readouterr().err
    with pytest.raises(UserError, match="does not depend on the spin"):
        InProcess(model="anisotropic", structure=str(path), spin=2)
    with pytest.raises(UserError, match="multiplicity"):
        Structure(np.array([1]), np.zeros((1, 3)), spin=0)


def test_what_is_not_a_number_in_a_file_is_no_charge() -> None:
    atoms = ase.Atoms("H", info={"charge": "unknown", "spin": [1, 2]})
    assert (Structure.from_atoms(atoms).charge, Structure.from_atoms(atoms).spin) == (None, None)


def energy_in_process(model: Path, structure: Path, **more: float) -> float:
    force_field = InProcess(model=str(model), structure=str(structure), **more)
    (reply,) = force_field.evaluate([np.zeros((3, 3))], [POSITIONS / BOHR])
    return float(reply.energy * HARTREE)


def test_plug_in(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "ion.extxyz"
    ase.io.write(path, ase.Atoms("OH2", POSITIONS, info={"charge": 1}))
    assert energy_in_process(model, path) == pytest.approx(CENTERED + 8.0, abs=1e-9)
    assert energy_in_process(model, path, charge=-1.0, spin=3) == pytest.approx(CENTERED + 12.0, abs=1e-9)


def test_run_of_an_ion(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starting structure keeps its charge, which i-PI's xyz cannot hold; the command line comes before it."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("ion.extxyz", ase.Atoms("OH2", POSITIONS, info={"charge": 1}))
    words = ["--spin", "4"]
    assert main(
        ["run", "gas-nve", "--model", str(model), "--average", "T", "--structure", "ion.extxyz", "--steps", "2",
         "--output", "run", *words]
    ) == 0  # fmt: skip
    settings = yaml.safe_load(Path("run/driver.yaml").read_text())
    assert (settings["charge"], settings["spin"]) == (1.0, 4)
    header = [line for line in Path("run/simulation.out").read_text().splitlines() if "potential" in line]
    column = int(header[0].split("column")[1].split("-->")[0]) - 1
    potential = np.atleast_2d(np.loadtxt("run/simulation.out"))[0, column]
    unit = HARTREE if "electronvolt" not in header[0] else 1.0
    assert potential * unit == pytest.approx(CENTERED + 3.0 + 20.0, rel=1e-5)


class Reads(Calculator):
    """Energy is the charge plus ten times the spin in ``info``."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        info = atoms.info
        self.results = {
            "energy": info.get("charge", 0) + 10 * info.get("spin", 1),
            "forces": np.zeros((len(atoms), 3)),
        }


def test_a_calculator_is_given_what_the_structure_has() -> None:
    structure = Structure(np.array([8, 1, 1]), POSITIONS)
    potential = AsePotential(Reads())
    assert potential.predict(structure).energy == 10.0
    assert potential.predict(structure.conditioned(-1.0, 2)).energy == 19.0
    potential.check_conditions(-1.0, 2)


class Sums(Calculator):
    """Energy is the sum of the initial charges plus ten times that of the initial magnetic moments, as TBLite reads."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        charge, moment = atoms.get_initial_charges().sum(), atoms.get_initial_magnetic_moments().sum()
        self.results = {"energy": charge + 10.0 * moment, "forces": np.zeros((len(atoms), 3))}


def test_a_calculator_that_sums_charges_of_atoms() -> None:
    structure = Structure(np.array([8, 1, 1]), POSITIONS)
    potential = AsePotential(Sums())
    assert potential.predict(structure).energy == 0.0
    assert potential.predict(structure.conditioned(-1.0, 3)).energy == pytest.approx(19.0)
