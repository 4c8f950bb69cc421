"""The ASE calculator of a model and an average, and the client of ASE's own server."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.socketio import SocketIOCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from ipi_driver import Calculator, RotationalAverage, Structure, load_potential
from ipi_driver.errors import UserError

MODEL = "anisotropic?l=2,3e&amplitude=0.1"
WATER = [[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]]


def test_results_are_those_of_the_average() -> None:
    atoms = ase.Atoms("OH2", WATER, cell=[[3.6, 0, 0], [0.4, 3.8, 0], [0.1, -0.3, 3.5]], pbc=True)
    atoms.calc = Calculator(MODEL, average="D2")
    expected = RotationalAverage(load_potential(MODEL), "D2").predict(Structure.from_atoms(atoms))
    assert expected.virial is not None
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(expected.energy)
    assert atoms.get_forces() == pytest.approx(expected.forces)
    assert atoms.get_stress(voigt=False) * atoms.get_volume() == pytest.approx(
        -0.5 * (expected.virial + expected.virial.T)
    )
    assert atoms.calc.results["energy_std"] == pytest.approx(expected.energy_std)
    assert atoms.calc.results["forces_std"] == pytest.approx(expected.forces_std)
    assert atoms.calc.results["n_rotations"] == 4


def test_optimization_of_atoms_and_cell() -> None:
    """The averaged crystal relaxes to the cube that it was strained from; the raw one is left distorted."""
    cells = {}
    for average in ("none", "I"):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.diag([1, -1, 0.5])), scale_atoms=True)
        atoms.calc = Calculator("anisotropic?l=4&amplitude=0.03&cutoff=3.5", average=average)
        assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=100)
        cells[average] = atoms.cell.cellpar()
    assert np.ptp(cells["I"][:3]) < 1e-3
    assert cells["I"][3:] == pytest.approx([90.0] * 3, abs=0.01)
    assert np.ptp(cells["none"][:3]) > 0.01


def test_a_charge_that_changes_is_seen() -> None:
    class Charged(type(load_potential(MODEL))):  # type: ignore[misc]
        """Adds the charge to the energy."""

        conditions = ("charge",)

        def _evaluate(self, structures, rotations):  # type: ignore[no-untyped-def]
            found = super()._evaluate(structures, rotations)
            found.energies[:] += np.array([[s.charge or 0.0] for s in structures])
            return found

    atoms = ase.Atoms("OH2", WATER)
    atoms.calc = Calculator(Charged())
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    assert atoms.get_potential_energy() == pytest.approx(neutral + 1.0)


def test_a_loaded_potential_keeps_its_own_precision() -> None:
    with pytest.raises(UserError, match="give them to `load_potential`"):
        Calculator(load_potential(MODEL), dtype="float64")


def test_an_extra_that_is_called_energy_does_not_replace_the_energy() -> None:
    class Naming(type(load_potential(MODEL))):  # type: ignore[misc]
        """Adds an extra with the name of a result."""

        def _evaluate(self, structures, rotations):  # type: ignore[no-untyped-def]
            found = super()._evaluate(structures, rotations)
            extras = {"energy": tuple(np.full(len(rotations), 99.0) for _ in structures)}
            return replace(found, extras=extras)

    atoms = ase.Atoms("OH2", WATER)
    atoms.calc = Calculator(Naming())
    expected = load_potential("anisotropic").predict(Structure.from_atoms(atoms)).energy
    assert atoms.get_potential_energy() == expected


def test_client_of_the_server_of_ase(tmp_path: Path) -> None:
    """ASE closes the connection without EXIT: after answers that is the end, with status 0."""
    atoms = ase.Atoms("OH2", WATER)
    ase.io.write(tmp_path / "water.extxyz", atoms)
    name = f"ipi-driver-test-{tmp_path.name}"
    command = [
        sys.executable,
        "-m",
        "ipi_driver",
        "serve",
        MODEL,
        "--structure",
        "water.extxyz",
        "--unix",
        f"{name}=T",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        with SocketIOCalculator(unixsocket=name, timeout=120) as calculator:
            atoms.calc = calculator
            BFGS(atoms, logfile=None).run(fmax=0.05, steps=3)
            served = atoms.get_potential_energy()
        _, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "closed the connection" in log
    atoms.calc = Calculator(MODEL, average="T")
    assert served == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
