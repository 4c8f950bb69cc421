"""ASE calculators that refuse a structure or give too little."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.potentials.ase import AsePotential
from ipi_driver.potentials.registry import parse_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.structure import Structure

PAIR = ase.Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.3, 3.7]])


def test_check_of_an_element_that_the_calculator_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "iron.extxyz"
    ase.io.write(path, ase.Atoms("Fe", cell=3 * np.eye(3), pbc=True))
    command = ["check", "ase:ase.calculators.emt.EMT", str(path), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    expected = "error: ase: EMT failed on Fe (1 atom): No EMT-potential for Fe"
    assert capsys.readouterr().err.strip().endswith(expected)


class Raising(Calculator):
    """Raises for the first calls."""

    implemented_properties = ("energy", "forces")

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.times = error, times

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        self.times -= 1
        if self.times >= 0:
            raise self.error
        self.results = {"energy": 1.0, "forces": np.zeros((len(atoms), 3))}


def test_what_is_raised_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        AsePotential(Raising(KeyError("Ar"), 1)).predict(Structure.from_atoms(PAIR))
    assert str(caught.value) == "ase: Raising failed on Ar2 (2 atoms): KeyError: 'Ar'"
    with pytest.raises(UserError, match=r"^ase: Raising failed on Ar2 \(2 atoms\): one two$"):
        AsePotential(Raising(RuntimeError("one\n two"), 1)).predict(Structure.from_atoms(PAIR))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried ...")])
def test_fewer_rotations_are_still_tried_where_memory_is_short(error: Exception) -> None:
    average = RotationalAverage(AsePotential(Raising(error, 1)), "2i")
    assert average.predict(Structure.from_atoms(PAIR)).energy == pytest.approx(1.0)


class EnergyAlone(Calculator):
    implemented_properties = ("energy",)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0}


def test_a_calculator_without_forces() -> None:
    with pytest.raises(UserError, match="ase: EnergyAlone gives no forces"):
        AsePotential(EnergyAlone()).predict(Structure.from_atoms(PAIR))


class Wrong(Calculator):
    """Gives forces that are none."""

    implemented_properties = ("energy", "forces")
    forces: object

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 1.0, "forces": self.forces}


@pytest.mark.parametrize(
    ("forces", "got"),
    [
        (np.zeros((3, 3)), "shape (3, 3)"),
        (1.0, "shape ()"),
        (np.zeros(6), "shape (6,)"),
        (np.zeros((2, 3), dtype=complex), "numbers of type complex128"),
        ("text", "str"),
    ],
)
def test_forces_of_another_shape_or_kind(forces: object, got: str) -> None:
    calculator = Wrong()
    calculator.forces = forces
    with pytest.raises(UserError) as caught:
        AsePotential(calculator).predict(Structure.from_atoms(PAIR))
    assert str(caught.value) == f"ase: Wrong gives forces of {got}, expected real numbers of shape (2, 3)"


def make() -> Calculator:
    return Wrong()


def silent():  # type: ignore[no-untyped-def]
    return Wrong()


def test_only_calculators_are_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType("mine")
    module.make, module.silent, module.Wrong = make, silent, Wrong  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    for name in ("mine.make", "mine.Wrong"):
        assert isinstance(AsePotential.from_spec(parse_potential(f"ase:{name}")).calculator, Wrong)
    for name in ("mine.silent", "subprocess.getoutput", "subprocess.Popen", "os.system"):
        with pytest.raises(UserError, match=f"ase: {name} is not an ASE calculator"):
            AsePotential.from_spec(parse_potential(f"ase:{name}?cmd=touch {tmp_path}/made&args=true"))
    assert not list(tmp_path.iterdir())


def test_modules_of_the_current_folder_are_found_last(tmp_path: Path) -> None:
    """Where the command line names them; a file that is called as another module hides none."""
    (tmp_path / "mycalc.py").write_text("from ase.calculators.emt import EMT as Toy")
    (tmp_path / "random.py").write_text("raise ImportError('shadowed')")
    ase.io.write(tmp_path / "a.xyz", ase.Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]]))
    command = [sys.executable, "-m", "ipi_driver", "check", "ase:mycalc.Toy", "a.xyz", "--output", "out"]
    program = command[:1] + [
        "-c",
        "import sys; sys.path.remove(''); from ipi_driver.cli import main; sys.exit(main())",
    ]
    done = subprocess.run(program + command[3:], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
