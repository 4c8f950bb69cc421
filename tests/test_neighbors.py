"""Pairs of atoms that are very far from each other, against all distances."""

from __future__ import annotations

import numpy as np
import pytest

from ipi_driver.errors import UserError
from ipi_driver.neighbors import NeighborList, all_pairs
from ipi_driver.structure import FloatArray, Structure

CUTOFF = 3.5


def pairs_of_all_distances(
    positions: FloatArray, lattice: FloatArray
) -> set[tuple[int, int, tuple[int, ...]]]:
    """(i, j, S) within the cutoff; ``lattice`` are the vectors along which there are images."""
    found = set()
    counts = [range(-2, 3) if row.any() else range(1) for row in lattice]
    for shift in np.stack(np.meshgrid(*counts, indexing="ij"), -1).reshape(-1, 3):
        with np.errstate(over="ignore"):
            vectors = positions[None] - positions[:, None] + shift @ lattice
            near = np.linalg.norm(vectors, axis=-1) < CUTOFF
        found |= {(i, j, tuple(shift)) for i, j in np.argwhere(near) if i != j or shift.any()}
    return found


@pytest.mark.parametrize("far", [30.0, 5e5, 1e9, 1e200])
@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False), (False, True, False)])
def test_far_atoms(far: float, pbc: tuple[bool, bool, bool]) -> None:
    """The cells of a neighbor list in which these atoms lie cannot be counted."""
    if any(pbc) and far > 1e100:
        far = 1e8
    positions = np.random.default_rng(3).uniform(0.0, 6.0, size=(12, 3))
    for axis in np.flatnonzero(~np.array(pbc)):
        positions[axis, axis] += far
        positions[axis + 3, axis] -= 2.0 * far
    cell = np.diag([6.0, 7.0, 8.0]) + 0.5 * np.eye(3, k=1)
    cell[~np.array(pbc)] = 0.0
    structure = Structure(np.full(12, 18), positions, cell, np.array(pbc))
    i, j, shifts = all_pairs(structure, CUTOFF)
    found = {(a, b, tuple(s)) for a, b, s in zip(i, j, shifts * np.array(pbc), strict=True)}
    assert found == pairs_of_all_distances(positions, cell)
    edges = NeighborList(CUTOFF).edges(structure)
    assert len(edges.centers) == len(found)
    assert np.linalg.norm(edges.vectors, axis=1).max() < CUTOFF


def test_atoms_beyond_all_cells_are_refused() -> None:
    positions = np.array([[0.0, 0, 0], [1e10, 0, 0]])
    structure = Structure(np.full(2, 18), positions, 5.0 * np.eye(3), np.ones(3, dtype=bool))
    with pytest.raises(UserError, match=r"atom 1 lies 2e\+09 cells away from the origin"):
        all_pairs(structure, CUTOFF)


def water(places: FloatArray) -> Structure:
    """A molecule at each place, in vacuum."""
    atoms = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    positions = (places[:, None] + atoms).reshape(-1, 3)
    return Structure(np.tile([8, 1, 1], len(places)), positions)


def test_pairs_of_a_flying_molecule_stay_the_same_set() -> None:
    """The list is built again on the way, but what was made of its set of edges stays; other pairs are another set."""
    neighbors = NeighborList(CUTOFF)
    first = neighbors.edges(water(np.zeros((1, 3))))
    builds = neighbors.builds
    for k in range(1, 11):
        flown = water(np.full((1, 3), 0.4 * k))
        assert neighbors.edges(flown).topology == first.topology
        np.testing.assert_allclose(neighbors.edges(flown).vectors, first.vectors, atol=1e-14)
    assert neighbors.builds == builds + 10
    turned = Structure([1, 8, 1], water(np.zeros((1, 3))).positions)
    assert neighbors.edges(turned).topology != first.topology
    two = NeighborList(CUTOFF)
    apart = two.edges(water(np.array([[0.0, 0.0, 0.0], [5.5, 0.0, 0.0]])))
    near = two.edges(water(np.array([[0.0, 0.0, 0.0], [4.5, 0.0, 0.0]])))
    assert near.topology != apart.topology
    assert len(near.centers) > len(apart.centers)
