"""The shipped cells of ice: sizes, ice rules, no net dipole, different from each other."""

from pathlib import Path

import numpy as np
import pytest

from ipi_driver.analysis.recognition import recognize, tetrahedral_order
from ipi_driver.ipi_files import TrajectoryFile
from ipi_driver.ipi_files.input import read_input
from ipi_driver.observables.molecules import find_molecules, minimum_image
from ipi_driver.shipped import shipped_folder
from ipi_driver.structure import Structure

INPUTS = shipped_folder("inputs")
FILES = sorted((INPUTS / "ice" / "cells").glob("*.xyz"))
SIZES = {"096-a": 96, "096-b": 96, "096-c": 96, "192-a": 192, "192-b": 192, "360-a": 360, "360-b": 360}
SIZES |= {"432-a": 432, "768-a": 768}


def load(path: Path) -> Structure:
    file = TrajectoryFile(path)
    snapshot = next(iter(file))
    numbers = np.array([{"O": 8, "H": 1}[symbol] for symbol in file.symbols])
    return Structure(numbers, snapshot.values, snapshot.cell, np.full(3, True))


def test_all_are_there():
    assert {path.stem for path in FILES} == set(SIZES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_cell(path):
    structure = load(path)
    water = find_molecules(structure)
    assert (water.n_molecules, water.formula) == (SIZES[path.stem], "H2O")
    assert water.indices.size == structure.n_atoms
    assert structure.volume / water.n_molecules == pytest.approx(32.37, abs=0.01)
    oxygens = structure.positions[water.indices[:, 0]]
    assert tetrahedral_order(oxygens, structure.cell).min() > 0.9999
    assert recognize(structure, water) == "ice"
    dipole = water.vectors(structure.positions, structure.cell, water.weights()).sum(axis=0)
    assert np.abs(dipole).max() < 1e-3
    # ice rules: each oxygen has two hydrogens at 1 Å and two at 1.76 Å
    hydrogens = structure.positions[water.indices[:, 1:].ravel()]
    accepted = np.zeros(water.n_molecules, dtype=int)
    for k, hydrogen in enumerate(hydrogens):
        distances = np.linalg.norm(minimum_image(oxygens - hydrogen, structure.cell), axis=1)
        distances[k // 2] = np.inf
        assert distances.min() == pytest.approx(1.76, abs=0.02)
        accepted[distances.argmin()] += 1
    assert (accepted == 2).all()


def test_cells_of_one_size_are_disordered_differently():
    for stems in (("096-a", "096-b", "096-c"), ("192-a", "192-b")):
        positions = [load(INPUTS / "ice" / "cells" / f"{stem}.xyz").positions for stem in stems]
        for k in range(1, len(positions)):
            assert np.abs(positions[k] - positions[0]).max() > 0.5


@pytest.mark.parametrize(("name", "motion"), [("ice", "minimize"), ("replay", "replay")])
def test_inputs_are_understood(name, motion):
    settings = read_input(INPUTS / name / "input.xml")
    assert settings.motion == motion
    assert "positions" in {output.quantity for output in settings.outputs}
