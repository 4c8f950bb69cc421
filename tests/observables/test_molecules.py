import numpy as np
import pytest
from ase.build import bulk, molecule

from ipi_driver.analysis.recognition import recognize
from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import find_molecules, largest_radius, minimum_image
from ipi_driver.structure import Structure

TRICLINIC = np.array([[9.0, 0.0, 0.0], [2.5, 8.0, 0.0], [-1.5, 2.0, 10.0]])
WATER = np.array([[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.23999, 0.92663, 0.0]])


def water_box(cell: np.ndarray, n: int, seed: int) -> tuple[Structure, np.ndarray, np.ndarray]:
    """Waters turned at random, wrapped into the cell, atoms shuffled; molecule of each atom, dipoles."""
    rng = np.random.default_rng(seed)
    from scipy.spatial.transform import Rotation

    shape = np.array(np.unravel_index(np.arange(27), (3, 3, 3))).T[rng.permutation(27)[:n]]
    centers = (shape + 0.5) / 3 @ cell
    turned = np.einsum("mxy,ky->mkx", Rotation.random(n, rng=seed).as_matrix(), WATER)
    dipoles = turned[:, 1:].mean(axis=1) - turned[:, 0]
    positions = (centers[:, None] + turned).reshape(-1, 3)
    fractional = positions @ np.linalg.inv(cell) + rng.uniform(size=3)
    positions = (fractional % 1.0) @ cell
    numbers, label = np.tile([8, 1, 1], n), np.repeat(np.arange(n), 3)
    order = rng.permutation(3 * n)
    return Structure(numbers[order], positions[order], cell, True), label[order], dipoles


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_wrapped_water_in_a_triclinic_cell(seed):
    structure, label, dipoles = water_box(TRICLINIC, 20, seed)
    found = find_molecules(structure)
    assert (found.n_molecules, found.n_sites, found.formula) == (20, 3, "H2O")
    assert found.numbers.tolist() == [8, 1, 1]
    members = label[found.indices]
    assert (members == members[:, :1]).all()
    assert sorted(found.indices.ravel()) == list(range(60))
    sites = found.whole(structure.positions, structure.cell)
    bonds = np.linalg.norm(sites[:, 1:] - sites[:, :1], axis=-1)
    np.testing.assert_allclose(bonds, 0.9572, atol=1e-4)
    vectors = found.vectors(structure.positions, structure.cell, found.weights("O->H"))
    np.testing.assert_allclose(vectors, dipoles[members[:, 0]], atol=1e-12)
    np.testing.assert_allclose(found.weights(), found.weights("O->H"))
    np.testing.assert_allclose(found.weights(), found.weights("O18->D"))


def test_minimum_image_is_the_shortest_up_to_the_largest_radius():
    rng = np.random.default_rng(2)
    vectors = rng.uniform(-30, 30, size=(3000, 3))
    images = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]) @ TRICLINIC
    wrapped = minimum_image(vectors, TRICLINIC)
    shortest = np.linalg.norm(wrapped[:, None] + images[None], axis=-1).min(axis=1)
    ours = np.linalg.norm(wrapped, axis=-1)
    near = shortest < largest_radius(TRICLINIC)
    assert 300 < near.sum() < 3000
    np.testing.assert_allclose(ours[near], shortest[near], atol=1e-12)
    assert (ours[~near] >= largest_radius(TRICLINIC) - 1e-12).all()
    np.testing.assert_allclose(
        np.rint((wrapped - vectors) @ np.linalg.inv(TRICLINIC)) @ TRICLINIC, wrapped - vectors
    )


def test_isolated_molecule_without_cell():
    atoms = molecule("H2O")
    found = find_molecules(Structure(atoms.numbers[::-1], atoms.positions[::-1]))
    assert found.indices.tolist() == [[2, 0, 1]]


def test_chain_longer_than_half_the_cell_is_made_whole():
    """Bond by bond, not from the first atom: hexane is longer than half of this cell."""
    atoms = molecule("trans-butane")
    atoms.positions -= atoms.positions.min(axis=0)
    length = np.ptp(atoms.positions, axis=0).max()
    cell = np.eye(3) * (length + 1.9)
    extent = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=-1)
    wrapped = (atoms.positions + length / 2) % np.diag(cell)
    found = find_molecules(Structure(atoms.numbers, wrapped, cell, True))
    assert found.n_molecules == 1
    assert extent.max() > cell[0, 0] / 2
    sites = found.whole(wrapped, cell)[0]
    order = found.indices[0]
    ours = np.linalg.norm(sites[:, None] - sites[None], axis=-1)
    np.testing.assert_allclose(ours, extent[order][:, order], atol=1e-10)


def test_chosen_molecule_and_vector():
    water, ammonia = molecule("H2O"), molecule("NH3")
    positions = np.concatenate([water.positions, ammonia.positions + 5, ammonia.positions + 10])
    numbers = np.concatenate([water.numbers, ammonia.numbers, ammonia.numbers])
    structure = Structure(numbers, positions, np.eye(3) * 20, True)
    assert find_molecules(structure).formula == "H3N"
    assert find_molecules(structure, "NH3").n_molecules == 2
    assert find_molecules(structure, "D2O").n_molecules == 1
    np.testing.assert_allclose(find_molecules(structure, "NH3").weights("H->N"), [1, -1 / 3, -1 / 3, -1 / 3])
    with pytest.raises(UserError, match="no CH4 molecule found"):
        find_molecules(structure, "CH4")
    with pytest.raises(UserError, match="has no O"):
        find_molecules(structure, "NH3").weights("N->O")
    with pytest.raises(UserError, match="must read `A->B`"):
        find_molecules(structure, "NH3").weights("dipole")


def test_vectors_and_formulas_that_are_none():
    water = molecule("H2O")
    structure = Structure(water.numbers, water.positions)
    with pytest.raises(UserError, match="ends where it begins"):
        find_molecules(structure).weights("H->H")
    assert find_molecules(structure, "T2O").n_molecules == 1
    for formula in ("Q", "H2Q", ""):
        with pytest.raises(UserError, match="must be a chemical formula"):
            find_molecules(structure, formula)


def test_a_framework_of_bonds_is_no_molecule():
    with pytest.raises(UserError, match="the bonds of Cu4 go on from cell to cell"):
        find_molecules(Structure.from_atoms(bulk("Cu", cubic=True)))
    chain = Structure(
        np.full(8, 6), np.arange(8.0)[:, None] * [1.3, 0, 0], np.diag([10.4, 9, 9]), np.full(3, True)
    )
    with pytest.raises(UserError, match="it is a framework"):
        find_molecules(chain)


def test_a_molecule_among_others_is_no_gas():
    water, methanol = molecule("H2O"), molecule("CH3OH")
    places = 4.0 * np.array(np.unravel_index(np.arange(8), (2, 2, 2))).T
    positions = [water.positions + place for place in places[1:]]
    numbers = np.concatenate([methanol.numbers, *[water.numbers] * 7])
    structure = Structure(
        numbers, np.concatenate([methanol.positions, *positions]), np.eye(3) * 8, np.full(3, True)
    )
    assert recognize(structure, find_molecules(structure, "CH4O")) == "liquid"
    assert recognize(structure, find_molecules(structure)) == "liquid"
    alone = Structure(methanol.numbers, methanol.positions, np.eye(3) * 8, np.full(3, True))
    assert recognize(alone, find_molecules(alone)) == "gas"


def test_atoms_have_no_orientation():
    structure = Structure(np.array([18, 18]), np.array([[0.0, 0, 0], [4.0, 0, 0]]), np.eye(3) * 10, True)
    with pytest.raises(UserError, match="single atom"):
        find_molecules(structure).weights()
