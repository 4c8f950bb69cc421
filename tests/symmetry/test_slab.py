"""Heating of a slab that has no third cell vector."""

from __future__ import annotations

import ase
import numpy as np
import pytest

from ipi_driver.structure import Structure
from ipi_driver.symmetry.heating import power_of_correction


def slab(slant: float, snapshots: int = 80) -> list[ase.Atoms]:
    """Hydrogen atoms that vibrate in a layer, one of them across its boundary."""
    cell = np.array([[8.0, 0.0, 0.0], [slant, 8.0, 0.0], [0.0, 0.0, 0.0]])
    images = []
    for k in range(snapshots):
        positions = np.array([[0.0, 0.1, 0.0], [3.0, 3.0, 1.0], [0.0, 4.0, -1.0]])
        positions += 0.05 * np.sin(0.3 * k + np.arange(9).reshape(3, 3))
        atoms = ase.Atoms("H3", positions, cell=cell, pbc=(True, True, False))
        atoms.wrap(eps=0.0)
        images.append(atoms)
    return images


@pytest.mark.parametrize("slant", [0.0, 2.0])
def test_a_slab_heats_as_in_a_tall_cell(slant: float) -> None:
    snapshots = [Structure.from_atoms(a) for a in slab(slant)]
    tall = [Structure(s.numbers, s.positions, s.cell + np.diag([0, 0, 50.0]), s.pbc) for s in snapshots]
    corrections = np.random.default_rng(0).normal(size=(len(snapshots), 3, 3))
    power, temperature = power_of_correction(corrections, snapshots, 0.5)
    expected, warm = power_of_correction(corrections, tall, 0.5)
    assert np.abs(expected).max() > 0.0
    assert power == pytest.approx(expected)
    assert temperature == pytest.approx(warm)
