"""The water data of Cheng et al. are in bohr, or redistributed in Å: whatever reads them finds out which."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.errors import UserError
from ipi_driver.ipi_files.start import read_start
from ipi_driver.ipi_files.structures import read_data_set
from ipi_driver.structure import Structure
from ipi_driver.training.data import read_dataset
from ipi_driver.training.unlabelled import read_unlabelled
from ipi_driver.units import BOHR


def water_data(path: Path, scale: float) -> Path:
    """Two molecules with the names of the water data, in lengths of ``scale`` Å."""
    images = []
    for k in range(2):
        atoms = molecule("H2O", cell=np.diag([8.0, 9.0, 10.0]), pbc=True)
        atoms.rattle(0.02, seed=k)
        atoms.set_cell(atoms.cell.array / scale, scale_atoms=True)
        atoms.info["TotEnergy"] = -17.2
        atoms.arrays["force"] = np.random.default_rng(k).normal(
            scale=0.03 if scale < 1.0 else 1.0, size=(3, 3)
        )
        images.append(atoms)
    ase.io.write(path, images, format="extxyz")
    return path


@pytest.mark.parametrize("scale", [1.0, BOHR])
def test_every_reader_finds_the_lengths(tmp_path: Path, scale: float) -> None:
    """Of training, `symmetrize`, `check` and the start of a run."""
    path = water_data(tmp_path / "water.xyz", scale)
    start = Structure.from_atoms(read_start(path, periodic=True))
    read = {
        "train": [item.structure for item in read_dataset([path])],
        "symmetrize": read_unlabelled([path]),
        "check": list(read_data_set(path).structures),
        "run": [start, start],
    }
    assert all(len(structures) == 2 for structures in read.values())
    for name, structures in read.items():
        found = structures[-1]
        np.testing.assert_allclose(found.cell, np.diag([8.0, 9.0, 10.0]), rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(found.positions, read["train"][-1].positions, atol=1e-6, err_msg=name)


def test_structures_without_labels_keep_charge_and_spin(tmp_path: Path) -> None:
    """A model that was imported for others refuses them."""
    atoms = molecule("OH")
    atoms.info.update(charge=-1, spin=1)
    ase.io.write(tmp_path / "ion.extxyz", atoms)
    (ion,) = read_unlabelled([tmp_path / "ion.extxyz"])
    assert (ion.charge, ion.spin) == (-1.0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\nProperties=species:S:1:pos:R:3\n", "structure 1: the structure has no atoms"),
        ('1\nProperties=species:S:1:pos:R:3 pbc="T T T"\nO 0 0 0\n', "structure 1: periodic without a cell"),
        ("1\nProperties=species:S:1:pos:R:3\nO 0 nan 0\n", "structure 1: positions must be finite"),
    ],
)
def test_structures_without_labels_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.extxyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3\nO 0 0 0\n" + text)
    with pytest.raises(UserError, match=rf"bad\.extxyz, {message}"):
        read_unlabelled([path])
