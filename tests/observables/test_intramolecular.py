"""Bond lengths and angles of water and of a chain, against ASE."""

import numpy as np
import pytest
from ase.build import molecule

from ipi_driver.observables.intramolecular import InternalCoordinates
from ipi_driver.observables.molecules import find_molecules
from ipi_driver.structure import Structure


@pytest.mark.parametrize("name", ["H2O", "CH3OH"])
def test_bonds_and_angles_are_those_of_ase(name: str) -> None:
    rng = np.random.default_rng(2)
    atoms = molecule(name)
    molecules = find_molecules(Structure(atoms.numbers, atoms.positions))
    coordinates = InternalCoordinates(molecules)
    order = molecules.indices[0]
    bonds: dict[str, list[float]] = {}
    angles: dict[str, list[float]] = {}
    for _ in range(200):
        moved = atoms.copy()
        moved.positions += rng.normal(size=moved.positions.shape) * 0.03
        coordinates.add(molecules.whole(moved.positions, np.zeros((3, 3))))
        for i in range(len(atoms)):
            near = [j for j in range(len(atoms)) if j != i and atoms.get_distance(i, j) < 1.6]
            near = [j for j in near if {atoms.symbols[i], atoms.symbols[j]} != {"H"}]
            for a in near:
                if order.tolist().index(i) < order.tolist().index(a):
                    bonds.setdefault(f"{atoms.symbols[i]}–{atoms.symbols[a]}", []).append(
                        moved.get_distance(i, a)
                    )
                for b in near:
                    if a < b:
                        ends = sorted((atoms.symbols[a], atoms.symbols[b]))
                        key = f"{ends[0]}–{atoms.symbols[i]}–{ends[1]}"
                        angles.setdefault(key, []).append(moved.get_angle(a, i, b))
    assert set(coordinates.bonds) == set(bonds)
    assert set(coordinates.angles) == set(angles)
    for found, expected in ((coordinates.bonds, bonds), (coordinates.angles, angles)):
        for key, distribution in found.items():
            density, mean = distribution.result(10.0)
            assert float(mean.value) == pytest.approx(np.mean(expected[key]), rel=1e-9)
            counts, _ = np.histogram(expected[key], distribution.edges)
            np.testing.assert_allclose(
                density.value * np.diff(distribution.edges), counts / counts.sum(), atol=1e-12
            )


@pytest.mark.parametrize(("name", "bond"), [("CO2", "O–C"), ("CCl4", "Cl–C"), ("BF3", "F–B")])
def test_like_bonds_are_one_kind_whichever_atom_comes_first(name: str, bond: str) -> None:
    """The walk through a molecule begins at its heaviest atom and meets the other bonds from the atom in the middle."""
    atoms = molecule(name)
    atoms.positions *= 1.0 + 0.01 * np.arange(len(atoms))[:, None]  # bonds of different lengths
    molecules = find_molecules(Structure(atoms.numbers, atoms.positions))
    coordinates = InternalCoordinates(molecules)
    for _ in range(60):
        coordinates.add(molecules.whole(atoms.positions, np.zeros((3, 3))))
    assert list(coordinates.bonds) == [bond]
    (center,) = np.flatnonzero(atoms.numbers == min(set(atoms.numbers)))
    lengths = [atoms.get_distance(center, k) for k in range(len(atoms)) if k != center]
    assert coordinates.bonds[bond].result(1.0)[1].value == pytest.approx(np.mean(lengths))
