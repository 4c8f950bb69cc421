"""Exported metatomic models: against the same energy as a plain loop over images, and finite differences."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential, load_precise
from ipi_driver.structure import Structure

HAS_METATOMIC = importlib.util.find_spec("metatomic") is not None


def test_missing_package_or_file_is_one_clear_line(tmp_path: Path) -> None:
    expected = "no such model file" if HAS_METATOMIC else r"ipi-driver\[metatomic\]"
    with pytest.raises(UserError, match=expected):
        load_potential(str(tmp_path / "absent.pt"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `metatomic_pairs`, written to a file."""
    pytest.importorskip("metatomic.torch")
    from metatomic_pairs import export_pairs

    return export_pairs(tmp_path_factory.mktemp("metatomic") / "pairs.pt")


def energy_of(structure: Structure) -> float:
    """The same energy by a plain double loop over images."""
    total = 0.0
    images = range(-2, 3) if structure.periodic else range(1)
    for i in range(structure.n_atoms):
        for j in range(structure.n_atoms):
            for a in images:
                for b in images:
                    for c in images:
                        d = (
                            structure.positions[j]
                            - structure.positions[i]
                            + np.array([a, b, c]) @ structure.cell
                        )
                        r = np.linalg.norm(d)
                        if 1e-9 < r < 3.0:
                            total += 0.5 * (1 - r / 3.0) ** 2 * (1 + 0.1 * d[2] ** 2)
    return total


def test_another_precision_than_that_of_the_export_is_refused(exported: Path) -> None:
    with pytest.raises(UserError, match=r"pairs\.pt was exported in float64.*got --dtype float32"):
        load_potential(str(exported), dtype="float32")
    positions = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
    structure = Structure(np.array([8, 1, 1]), positions)
    expected = pytest.approx(energy_of(structure), abs=1e-10)
    assert load_potential(str(exported), dtype="float64").predict(structure).energy == expected
    precise = load_precise(str(exported), load_potential(str(exported)))
    assert precise.predict(structure).energy == expected


@pytest.mark.parametrize("periodic", [False, True])
def test_energies_forces_virials_in_every_rotation(exported: Path, periodic: bool) -> None:
    potential = load_potential(str(exported))
    cell = np.array([[3.1, 0.0, 0.0], [0.4, 3.3, 0.0], [0.1, -0.3, 2.9]]) if periodic else np.zeros((3, 3))
    positions = np.array([[0.0, 0.0, 0.0], [0.97, 0.02, 0.1], [-0.24, 0.93, 0.05]])
    structure = Structure(np.array([8, 1, 1]), positions, cell, np.full(3, periodic))
    rotations = Rotation.random(2, random_state=3).as_matrix() * np.array([1.0, -1.0])[:, None, None]
    results = potential.evaluate([structure, structure], rotations)
    assert results.virials is not None
    h = 1e-5
    for k, rotation in enumerate(rotations):
        assert results.energies[1, k] == pytest.approx(energy_of(structure.rotated(rotation)), abs=1e-10)
        shift = np.zeros_like(positions)
        shift[1] = (h, -2 * h, 0.5 * h)
        plus = Structure(structure.numbers, positions + shift, cell, structure.pbc).rotated(rotation)
        minus = Structure(structure.numbers, positions - shift, cell, structure.pbc).rotated(rotation)
        slope = (energy_of(plus) - energy_of(minus)) / 2
        assert -np.sum(results.forces[1][k] * shift) == pytest.approx(slope, abs=1e-12)
        strain = h * np.array([[0.3, 0.5, -0.2], [0.1, -0.4, 0.7], [0.2, 0.6, 0.9]])
        energies = []
        for sign in (1, -1):
            deform = np.eye(3) + sign * strain
            strained = Structure(structure.numbers, positions @ deform.T, cell @ deform.T, structure.pbc)
            energies.append(energy_of(strained.rotated(rotation)))
        assert -np.sum(results.virials[1, k] * strain) == pytest.approx(
            (energies[0] - energies[1]) / 2, abs=1e-12
        )


def test_bad_input(exported: Path, tmp_path: Path) -> None:
    from metatomic_pairs import export_pairs

    with pytest.raises(UserError, match="supports the devices cuda, got --device cpu"):
        load_potential(str(export_pairs(tmp_path / "cuda.pt", "cuda")))
    with pytest.raises(UserError, match="elements H, O"):
        load_potential(str(exported)).evaluate([Structure(np.array([6]), np.zeros((1, 3)))], np.eye(3)[None])
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.pt cannot be loaded"):
        load_potential(str(broken))
