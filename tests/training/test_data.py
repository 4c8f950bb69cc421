"""Reading labelled structures: both forms, labels against ASE, bad files."""

from __future__ import annotations

from pathlib import Path

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ipi_driver.errors import UserError
from ipi_driver.training.data import LabelledStructure, read_dataset


def copper(n: int = 2, seed: int = 0) -> list[Atoms]:
    """Strained, displaced cells with ASE's energies, forces and stresses."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        calculator = EMT()
        atoms.calc = calculator
        atoms.get_stress()
        atoms.calc = SinglePointCalculator(
            atoms, **{k: calculator.results[k] for k in ("energy", "forces", "stress")}
        )
        frames.append(atoms)
    return frames


def water_lines(scale: float = 1.0, forces: float = 1.0, energy: str = "energy=-10.0") -> list[str]:
    """One molecule, lengths and forces multiplied."""
    positions = scale * (molecule("H2O").positions + 3.0)
    labels = forces * np.array([[0.0, 0.0, 1.2], [0.0, 0.9, -0.6], [0.0, -0.9, -0.6]])
    box = f'Lattice="{8 * scale} 0 0 0 {8 * scale} 0 0 0 {8 * scale}"'
    rows = zip("OHH", np.hstack([positions, labels]), strict=True)
    atoms = [f"{symbol} " + " ".join(f"{x:.8f}" for x in row) for symbol, row in rows]
    return ["3", f'{box} Properties=species:S:1:pos:R:3:forces:R:3 {energy} pbc="T T T"', *atoms]


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "data.xyz"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_labels_are_those_of_ase(tmp_path: Path) -> None:
    frames = copper(3)
    ase.io.write(tmp_path / "a.extxyz", frames[:2])
    ase.io.write(tmp_path / "b.extxyz", frames[2])
    data = read_dataset([tmp_path / "a.extxyz", tmp_path / "b.extxyz"], stress_key="stress")
    assert len(data) == 3
    for item, atoms in zip(data, frames, strict=True):
        assert item.energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(item.forces, atoms.get_forces(), atol=1e-7)
        np.testing.assert_allclose(item.structure.positions, atoms.positions, atol=1e-7)
        np.testing.assert_allclose(item.structure.cell, atoms.cell.array, atol=1e-7)


def test_charge_and_spin_of_the_comment_line(tmp_path: Path) -> None:
    """As for a run or a check: a model that depends on them is evaluated with them."""
    lines = water_lines()
    charged = [lines[0], f"{lines[1]} charge=-1 spin_multiplicity=2", *lines[2:]]
    plain, ion = (item.structure for item in read_dataset([write(tmp_path, [*lines, *charged])]))
    assert (plain.charge, plain.spin) == (None, None)
    assert (ion.charge, ion.spin) == (-1.0, 2)


def test_virial_is_the_derivative_by_the_strain(tmp_path: Path) -> None:
    """The virial made of a stress agrees with finite differences of EMT's energy."""
    (atoms,) = copper(1)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    virial = read_dataset([tmp_path / "a.extxyz"], stress_key="stress")[0].virial
    assert virial is not None
    for i, j in ((0, 0), (1, 2)):
        energies = []
        for step in (1e-4, -1e-4):
            strain = np.zeros((3, 3))
            strain[i, j] = step
            strained = Atoms(atoms.numbers, atoms.positions @ (np.eye(3) + strain).T, pbc=True)
            strained.cell = atoms.cell.array @ (np.eye(3) + strain).T
            strained.calc = EMT()
            energies.append(strained.get_potential_energy())
        assert virial[i, j] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-4)


def test_virial_key_and_other_names(tmp_path: Path) -> None:
    lines = water_lines(energy='E=-10.0 W="1 2 3 2 4 5 3 5 6"')
    lines[1] = lines[1].replace("forces:R:3", "F:R:3")
    (item,) = read_dataset([write(tmp_path, lines)], "E", "F", virial_key="W")
    np.testing.assert_allclose(item.virial, [[1, 2, 3], [2, 4, 5], [3, 5, 6]])


@pytest.mark.parametrize("units", ["auto", "atomic"])
def test_native_form_in_bohr_and_hartree(tmp_path: Path, units: str) -> None:
    plain = read_dataset([write(tmp_path, water_lines())])[0]
    lines = water_lines(1.0 / ase.units.Bohr, ase.units.Bohr / ase.units.Hartree)
    lines[1] = lines[1].replace("forces:R:3", "force:R:3")
    lines[1] = lines[1].replace("energy=-10.0", f"TotEnergy={-10.0 / ase.units.Hartree}")
    (item,) = read_dataset([write(tmp_path, lines)], units=units)
    assert item.energy == pytest.approx(plain.energy, rel=1e-7)
    np.testing.assert_allclose(item.forces, plain.forces, atol=1e-6)
    np.testing.assert_allclose(item.structure.positions, plain.structure.positions, atol=1e-6)
    np.testing.assert_allclose(item.structure.cell, plain.structure.cell, rtol=1e-7)
    assert item.structure.pbc.all()


def test_stress_in_atomic_units(tmp_path: Path) -> None:
    lines = water_lines(1.0 / ase.units.Bohr, energy='energy=-1.0 s="1e-4 2e-4 3e-4 0 0 0"')
    lines[2:] = water_lines(1.0 / ase.units.Bohr, 0.02)[2:]
    (item,) = read_dataset([write(tmp_path, lines)], stress_key="s", units="atomic")
    # dE/dstrain = stress x volume, in hartree
    volume = (8.0 / ase.units.Bohr) ** 3
    assert isinstance(item, LabelledStructure)
    expected = -np.diag([1e-4, 2e-4, 3e-4]) * volume * ase.units.Hartree
    np.testing.assert_allclose(item.virial, expected, rtol=1e-6)


def test_virial_in_atomic_units_as_ase_writes_it(tmp_path: Path) -> None:
    """Of a matrix that is not symmetric, so that rows are told from columns."""
    virial = np.arange(1.0, 10.0).reshape(3, 3)
    atoms = molecule("H2O")
    atoms.positions /= ase.units.Bohr
    forces = 0.02 * np.array([[0.0, 0.0, 1.2], [0.0, 0.9, -0.6], [0.0, -0.9, -0.6]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    atoms.info["W"] = virial
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (item,) = read_dataset([tmp_path / "a.extxyz"], virial_key="W", units="atomic")
    np.testing.assert_allclose(item.virial, virial * ase.units.Hartree, rtol=1e-6)


def _changed(old: str, new: str, line: int | None = None) -> list[str]:
    """Two frames, the second with a change in one or all lines."""
    second = water_lines()
    for k in range(len(second)) if line is None else [line]:
        second[k] = second[k].replace(old, new)
    return water_lines() + second


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            _changed("energy=-10.0", "E=-10.0", 1),
            "structure 1: no 'energy' (`energy_key`); the structure has E, forces",
        ),
        (
            _changed("forces:R:3", "F:R:3", 1),
            "structure 1: no 'forces' (`forces_key`); the structure has F, energy",
        ),
        (_changed("energy=-10.0", "energy=nan", 1), "structure 1: 'energy' must be finite"),
        (_changed("1.20000000", "nan", 2), "structure 1: 'forces' must be finite, got NaN or infinity"),
        (_changed("3.00000000", "nan", 2), "structure 1: positions must be finite"),
        (_changed("energy=-10.0", "energy=low", 1), "structure 1: 'energy' must be numbers, got 'low'"),
        (
            _changed("energy=-10.0", 'energy="1 2 3"', 1),
            "structure 1: 'energy' must have shape one number, got (3,)",
        ),
        (
            _changed("pos:R:3:forces:R:3", "pos:R:3:forces:R:2:x:R:1", 1),
            "structure 1: 'forces' must have shape (3, 3)",
        ),
        (_changed("O ", "Xx ", 2), "structure 1: unknown element 'Xx'"),
        (_changed("O ", "X ", 2), "structure 1: unknown element 'X'"),
        (_changed("1.20000000", "****", 2), "structure 1: not extended XYZ"),
        (_changed("3", "three", 0), "structure 1 (line 6): expected the number of atoms, got 'three'"),
        (_changed("3", "0", 0), "structure 1 (line 6): the structure has no atoms"),
        (water_lines()[:-1], "structure 0 (line 1): expected 3 atoms, the file ends after 2"),
        ([""], "is empty"),
    ],
)
def test_bad_files_give_one_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path, lines)
    with pytest.raises(UserError) as error:
        read_dataset([path])
    text = str(error.value)
    assert message in text
    assert str(path) in text
    assert "\n" not in text


def test_bad_arguments(tmp_path: Path) -> None:
    path = write(tmp_path, water_lines())
    with pytest.raises(UserError, match="no data file"):
        read_dataset([tmp_path / "absent.xyz"])
    with pytest.raises(UserError, match="no data files were given"):
        read_dataset([])
    with pytest.raises(UserError, match="`units` must be"):
        read_dataset([path], units="bohr")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no 'stress' "):
        read_dataset([path], stress_key="stress")
    with pytest.raises(UserError, match="not both"):
        read_dataset([path], stress_key="stress", virial_key="virial")
    (tmp_path / "binary.xyz").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="not a text file"):
        read_dataset([tmp_path / "binary.xyz"])
    lines = water_lines()
    lines[1] = 'Properties=species:S:1:pos:R:3:forces:R:3 energy=-10 stress="1 0 0 0 1 0 0 0 1"'
    with pytest.raises(UserError, match="needs a cell"):
        read_dataset([write(tmp_path, lines)], stress_key="stress")


BOHR, FORCE = ase.units.Bohr, ase.units.Hartree / ase.units.Bohr


@pytest.mark.parametrize(
    ("scale", "forces", "units", "message"),
    [
        (1 / BOHR, 1 / FORCE, "auto", "the file seems to be in bohr and hartree: set units: atomic"),
        (1.0, 1.0, "atomic", "the file seems to be in eV and Å: set units: ev-angstrom"),
        (1 / BOHR, 1.0, "atomic", "the forces seem to be in eV/Å, the lengths in bohr: convert the file"),
        (0.1, 1.0, "auto", "no choice of bohr or Å explains this"),  # nm
        (
            1.0,
            96.5,
            "auto",
            "eV/Å (expected 0.0001-15) with forces in eV/Å; no choice",
        ),  # kJ/mol
        (1.0, 0.0, "auto", "if the forces do vanish, as in a perfect crystal, set units: ev-angstrom"),
    ],
)
def test_units_that_cannot_be(tmp_path: Path, scale: float, forces: float, units: str, message: str) -> None:
    path = write(tmp_path, water_lines(scale, forces) * 3)
    with pytest.raises(UserError) as error:
        read_dataset([path], units=units)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert f"{path}, structure 0" in str(error.value)


def test_vanishing_forces_are_accepted_where_the_units_are_said(tmp_path: Path) -> None:
    path = write(tmp_path, water_lines(1.0, 0.0) * 3)
    assert len(read_dataset([path], units="ev-angstrom")) == 3


def test_one_structure_in_other_units(tmp_path: Path) -> None:
    path = write(tmp_path, water_lines() * 4 + water_lines(1 / BOHR))
    with pytest.raises(UserError, match=r"structure 4: bonds are 1\.8"):
        read_dataset([path])


def test_stretched_and_inert_structures_are_accepted(tmp_path: Path) -> None:
    """Distances far from covalent bonds that are no mistake: a dissociating pair, a noble gas."""
    rng = np.random.default_rng(0)
    for atoms in (
        Atoms("H2", [[0, 0, 0], [0, 0, 2.5]]),
        Atoms("Ar8", 3.8 * np.indices((2, 2, 2)).reshape(3, 8).T),
    ):
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=rng.normal(size=(len(atoms), 3)))
        ase.io.write(tmp_path / "x.extxyz", atoms)
        assert len(read_dataset([tmp_path / "x.extxyz"])) == 1


def test_lone_atoms_are_accepted(tmp_path: Path) -> None:
    """Reference energies of atoms come without forces."""
    path = write(tmp_path, ["1", "Properties=species:S:1:pos:R:3:forces:R:3 energy=-13.6", "H 0 0 0 0 0 0"])
    (item,) = read_dataset([path])
    assert item.energy == -13.6
    assert not item.structure.pbc.any()
