"""Every shipped model: complete, small, its forces the derivative of its energy, sane on the shipped structures."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from ipi_driver.potentials import load_potential
from ipi_driver.rotations.average import RotationalAverage
from ipi_driver.shipped import shipped_folder, shipped_names
from ipi_driver.structure import Structure

MODELS = shipped_names("models")


def test_names_are_those_of_what_can_be_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip compiles the scripts among the inputs of an installed package."""
    for name in ("gas-nvt", "__pycache__"):
        (tmp_path / "inputs" / name).mkdir(parents=True)
    monkeypatch.setattr("ipi_driver.shipped.shipped_folder", lambda kind: tmp_path / kind)
    assert shipped_names("inputs") == ["gas-nvt"]
    assert shipped_names("models") == []


def liquid() -> Structure:
    atoms = ase.io.read(shipped_folder("inputs") / "liquid-nvt" / "init.xyz", format="xyz")
    edge = float(
        (shipped_folder("inputs") / "liquid-nvt" / "init.xyz")
        .read_text()
        .split("CELL(abcABC):")[1]
        .split()[0]
    )
    return Structure(atoms.numbers, atoms.positions, np.eye(3) * edge, np.ones(3, dtype=bool))


def test_a_model_is_shipped() -> None:
    assert "pet-water-s" in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_folder_is_complete(name: str) -> None:
    folder = shipped_folder("models") / name
    for file in ("README.md", "train.yaml", "log.csv", "split.yaml", "evaluation.json"):
        assert (folder / file).is_file(), file
    assert (folder / "weights.safetensors").stat().st_size < 10e6
    split = yaml.safe_load((folder / "split.yaml").read_text())
    parts = [set(split[part]) for part in ("train", "validation", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize("name", MODELS)
def test_forces_are_the_derivative_of_the_energy(name: str) -> None:
    potential = load_potential(name, dtype="float64")
    structure = liquid()
    prediction = potential.predict(structure)
    h = 1e-4
    for atom, axis in ((0, 0), (100, 2)):
        energies = []
        for sign in (1, -1):
            positions = structure.positions.copy()
            positions[atom, axis] += sign * h
            energies.append(
                potential.predict(
                    Structure(structure.numbers, positions, structure.cell, structure.pbc)
                ).energy
            )
        assert prediction.forces[atom, axis] == pytest.approx(
            -(energies[0] - energies[1]) / (2 * h), abs=1e-5
        )


@pytest.mark.parametrize("name", MODELS)
def test_liquid_is_at_rest_and_an_average_lowers_the_symmetry_error(name: str) -> None:
    """Thermal forces at 300 K are below 2 eV/Å; T (12 rotations) is nearer to I (60) than the raw model is.

    An equivariant or invariant model has no symmetry error.
    """
    potential = load_potential(name)
    forces = potential.predict(liquid()).forces
    assert 0.2 < np.sqrt(np.mean(forces**2)) < 2.0
    molecule = Structure([8, 1, 1], [[0.0, 0.0, 0.0], [0.95, 0.1, 0.0], [-0.3, 0.9, 0.1]])
    reference = RotationalAverage(potential, "I").predict(molecule).forces
    raw = np.abs(potential.predict(molecule).forces - reference).mean()
    if name in ("e3nn-water-s", "pet-water-sym3"):
        assert raw < 1e-5  # eV/Å: rounding of float32 alone
        return
    averaged = np.abs(RotationalAverage(potential, "T").predict(molecule).forces - reference).mean()
    assert averaged < 0.5 * raw
