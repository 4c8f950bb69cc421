"""Structures computed on purpose far from equilibrium, beside others and alone, and units that the user has chosen."""

from __future__ import annotations

import logging
from pathlib import Path

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from ipi_driver.cli import main
from ipi_driver.errors import UserError
from ipi_driver.training.data import read_dataset

HARD = 170.0
"""eV/Å, of two atoms at half their bond length."""


def water() -> Atoms:
    atoms = molecule("H2O")
    forces = np.array([[0.0, 0.0, 1.2], [0.0, 0.9, -0.6], [0.0, -0.9, -0.6]])
    atoms.calc = SinglePointCalculator(atoms, energy=-10.0, forces=forces)
    return atoms


def pair(force: float = HARD) -> Atoms:
    atoms = Atoms("O2", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.6]])
    forces = force * np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    atoms.calc = SinglePointCalculator(atoms, energy=90.0, forces=forces)
    return atoms


def stretched() -> Atoms:
    """As long as if bohr had been taken for Å."""
    atoms = water()
    calculator = atoms.calc
    atoms.positions /= ase.units.Bohr
    atoms.calc = SinglePointCalculator(atoms, **calculator.results)
    return atoms


def write(folder: Path, frames: list[Atoms]) -> Path:
    ase.io.write(folder / "data.extxyz", frames)
    return folder / "data.extxyz"


def test_a_few_hard_collisions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, [water() for _ in range(5)] + [pair(), pair(2 * HARD)])
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset([path])) == 7
    (record,) = caplog.records
    assert "2 of 7 structures have a force RMS above 30 eV/Å, up to 196 (structure 6)" in record.getMessage()
    caplog.clear()
    assert len(read_dataset([path], units="ev-angstrom")) == 7
    assert not caplog.records


def test_hard_collisions_alone_need_the_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, [water(), pair(), pair()])
    command = ["evaluate", "ase:ase.calculators.emt.EMT", str(path), "--reference", "none"]
    command += ["--output", str(tmp_path / "out")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "structure 1: the force RMS is 98.1 eV/Å" in line
    assert line.endswith("check the units of the file; if they are right, set units: ev-angstrom")
    assert main([*command, "--units", "ev-angstrom"]) == 0


def test_stretched_structures_among_others_where_the_units_are_said(tmp_path: Path) -> None:
    path = write(tmp_path, [water(), water(), water(), stretched()])
    with pytest.raises(UserError, match="structure 3: bonds are"):
        read_dataset([path])
    assert len(read_dataset([path], units="ev-angstrom")) == 4
    # a whole file of them is another matter
    path = write(tmp_path, [stretched()] * 3)
    with pytest.raises(UserError, match="set units: atomic"):
        read_dataset([path], units="ev-angstrom")


def test_small_forces_are_accepted_where_the_units_are_said(tmp_path: Path) -> None:
    relaxed = [water() for _ in range(3)]
    for atoms in relaxed:
        atoms.calc.results["forces"] *= 5e-5
    path = write(tmp_path, relaxed)
    with pytest.raises(UserError, match="or set units: ev-angstrom if the forces are as small"):
        read_dataset([path])
    assert len(read_dataset([path], units="ev-angstrom")) == 3
