"""Molecules recognized from a structure, made whole across the boundary, and their orientation.

Two atoms are bonded where their distance is below 1.25 times the sum of their covalent radii (1.21 Å for O-H,
well below the 1.5 Å of the shortest hydrogen bonds); molecules are the connected components. The minimum
image of a vector shorter than half the smallest height of the cell follows from rounding its fractional
coordinates, also in a triclinic cell.

The orientation of a molecule is ``u = sum_k w_k r_k / |sum_k w_k r_k|`` with site weights w that sum to zero;
for water, by default, from O to the midpoint of the two H.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols, covalent_radii
from ase.geometry import complete_cell
from ase.neighborlist import neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ipi_driver.elements import element_of
from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray, IntArray, Structure

BOND_TOLERANCE = 1.25

_SHORT = 0.1
"""Orientation vectors below this part of the distances in a molecule are those of vibrations (water: 0.6)."""


def minimum_image(vectors: FloatArray, cell: FloatArray) -> FloatArray:
    """Vectors (..., 3) in Å wrapped to the image whose fractional coordinates lie in [-1/2, 1/2].

    This is the shortest image wherever that is shorter than half the smallest height of the cell. Along a missing
    cell vector (a zero row, of a slab or a wire) nothing is wrapped; without a cell vectors come back as they are.
    """
    given = cell.any(axis=1)
    if not given.any():
        return vectors
    if not (cell - np.diag(np.diag(cell))).any():
        lengths = np.diag(cell)
        return np.asarray(vectors - lengths * np.rint(vectors / np.where(given, lengths, np.inf)))
    return np.asarray(vectors - np.rint(vectors @ np.linalg.inv(complete_cell(cell))) @ cell)


def heights(cell: FloatArray) -> FloatArray:
    """(3,) distances between opposite faces of a cell, Å."""
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0))


def largest_radius(cell: FloatArray) -> float:
    """Half the smallest height of the cell, Å: up to there `minimum_image` gives each pair once.

    Missing cell vectors (zero rows) do not limit it.
    """
    given = cell.any(axis=1)
    if not given.any():
        return np.inf
    return float(heights(np.asarray(complete_cell(cell)))[given].min() / 2.0)


@dataclass(frozen=True, eq=False)
class Molecules:
    """Molecules of one kind.

    Attributes
    ----------
    indices
        (n_molecules, n_sites) atoms of each molecule, heaviest element first.
    parents
        (n_molecules, n_sites) column of the site, before it, that each site is bonded to; 0 for the first.
    numbers
        (n_sites,) atomic numbers.
    n_all
        Molecules in the structure, those of other kinds as well.
    """

    indices: IntArray
    parents: IntArray
    numbers: IntArray
    n_all: int

    @property
    def n_molecules(self) -> int:
        return len(self.indices)

    @property
    def n_sites(self) -> int:
        return self.indices.shape[1]

    @property
    def formula(self) -> str:
        """Hill-like formula, heaviest element first for molecules without carbon (OH2 reads H2O)."""
        return _formula(self.numbers)

    def whole(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """(n_molecules, n_sites, 3) positions in Å, every bond at its minimum image."""
        sites = positions[self.indices]
        rows = np.arange(self.n_molecules)
        for k in range(1, self.n_sites):
            parent = sites[rows, self.parents[:, k]]
            sites[:, k] = parent + minimum_image(sites[:, k] - parent, cell)
        return sites

    def weights(self, vector: str | None = None) -> FloatArray:
        """(n_sites,) weights of the orientation vector, which sum to zero.

        Parameters
        ----------
        vector
            ``"O->H"``: from the mean of the O to the mean of the H, isotopes count as their element; None: from the
            first site to the mean of the others.

        Raises
        ------
        UserError
            If the vector names an element that the molecule does not have, or the molecule is one atom.
        """
        if self.n_sites == 1:
            raise UserError(
                f"{self.formula} is a single atom and has no orientation: choose another molecule"
            )
        if vector is None:
            weights = np.full(self.n_sites, 1.0 / (self.n_sites - 1))
            weights[0] = -1.0
            return weights
        ends = [end.strip() for end in vector.split("->")]
        if len(ends) != 2:
            raise UserError(f"orientation vector must read `A->B` with two elements, got {vector!r}")
        weights = np.zeros(self.n_sites)
        for end, sign in zip(ends, (-1.0, 1.0), strict=True):
            chosen = self.numbers == (element_of(end) or -1)
            if not chosen.any():
                raise UserError(f"orientation vector {vector!r}: {self.formula} has no {end}")
            weights += sign * chosen / chosen.sum()
        if not weights.any():
            raise UserError(f"orientation vector {vector!r} ends where it begins: expected two elements")
        return weights

    def vectors(self, positions: FloatArray, cell: FloatArray, weights: FloatArray) -> FloatArray:
        """(n_molecules, 3) vectors ``sum_k w_k r_k`` in Å (not normalized)."""
        return np.einsum("k,mkx->mx", weights, self.whole(positions, cell))

    def have_orientation(self, structure: Structure, weights: FloatArray) -> bool:
        """Whether the vectors of a structure are more than what vibrations leave of a sum that symmetry makes zero."""
        sites = self.whole(structure.positions, structure.cell)
        lengths = np.linalg.norm(np.einsum("k,mkx->mx", weights, sites), axis=1)
        extent = np.linalg.norm(sites[:, 1:] - sites[:, :1], axis=2).mean()
        return bool(lengths.mean() > _SHORT * extent)

    def orientations(self, positions: FloatArray, cell: FloatArray, weights: FloatArray) -> FloatArray:
        """(n_molecules, 3) unit vectors."""
        vectors = self.vectors(positions, cell, weights)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def find_molecules(structure: Structure, formula: str | None = None) -> Molecules:
    """The molecules of one kind in a structure.

    Parameters
    ----------
    structure
        Atoms in any order; molecules may be split by the boundary.
    formula
        Such as ``"H2O"``; None takes the kind with the most molecules.

    Raises
    ------
    UserError
        If the structure holds no such molecule.
    """
    bonds = _bonds(structure)
    n = structure.n_atoms
    labels = _labels(bonds, n)
    n_molecules = int(labels.max()) + 1
    masses = np.asarray(atomic_masses)[structure.numbers]
    order = np.lexsort((np.arange(n), -masses, labels))
    members = np.split(order, np.cumsum(np.bincount(labels, minlength=n_molecules))[:-1])
    kinds: dict[str, list[IntArray]] = {}
    for atoms in members:
        kinds.setdefault(_formula(structure.numbers[atoms]), []).append(atoms)
    wanted = max(kinds, key=lambda kind: len(kinds[kind])) if formula is None else _normalized(formula)
    if wanted not in kinds:
        found = ", ".join(f"{len(found)} {kind}" for kind, found in list(kinds.items())[:5])
        raise UserError(
            f"no {formula} molecule found in the structure, it holds {found}: check formula, cell and units"
        )
    chosen = sorted(kinds[wanted], key=lambda atoms: int(atoms[0]))
    if structure.periodic and len(chosen[0]) > 1 and _is_framework(structure, chosen[0]):
        raise UserError(
            f"the bonds of {wanted} go on from cell to cell: it is a framework, and the observables are of molecules"
        )
    neighbors: list[set[int]] = [set() for _ in range(n)]
    for i, j in bonds:
        neighbors[i].add(int(j))
    ordered, parents = zip(*(_walk(atoms, neighbors) for atoms in chosen), strict=True)
    indices = np.array(ordered)
    if (structure.numbers[indices] != structure.numbers[indices[0]]).any():
        raise UserError(
            f"molecules of formula {wanted} are bonded differently: expected one kind, choose another formula"
        )
    return Molecules(indices, np.array(parents), structure.numbers[indices[0]], n_molecules)


def vanishing(molecules: Molecules) -> str:
    """The note on molecules that have no orientation."""
    return (
        f"the orientation vector of {molecules.formula} vanishes by symmetry; choose another (--vector A->B)"
    )


def farthest_within(structure: Structure, first: str, second: str) -> float:
    """Largest distance in Å between two atoms of these elements in one molecule, 0 where there are none."""
    groups = bonded_groups(structure)
    a, b = (np.flatnonzero(structure.numbers == atomic_numbers[symbol]) for symbol in (first, second))
    i, j = np.nonzero((groups[a][:, None] == groups[b][None, :]) & (a[:, None] != b[None, :]))
    if not len(i):
        return 0.0
    vectors = minimum_image(structure.positions[b[j]] - structure.positions[a[i]], structure.cell)
    return float(np.linalg.norm(vectors, axis=1).max())


def bonded_groups(structure: Structure) -> IntArray:
    """(n_atoms,) number of the molecule that each atom belongs to, from 0; a framework of bonds is one molecule."""
    return _labels(_bonds(structure), structure.n_atoms)


def _labels(bonds: IntArray, n_atoms: int) -> IntArray:
    graph = coo_matrix((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _bonds(structure: Structure) -> IntArray:
    """(n_bonds, 2) bonded pairs, each in both directions."""
    radii = covalent_radii[structure.numbers] * BOND_TOLERANCE
    i, j = neighbor_list("ij", structure.to_atoms(), cutoff=radii)
    return np.stack([i, j], axis=1).astype(np.int64)


def _is_framework(structure: Structure, atoms: IntArray) -> bool:
    """Whether bonds lead from an atom to its own image: then no shift makes the molecule whole."""
    group = structure.to_atoms()[atoms]
    radii = covalent_radii[structure.numbers[atoms]] * BOND_TOLERANCE
    i, j, shifts = neighbor_list("ijS", group, cutoff=radii)
    place: dict[int, IntArray] = {0: np.zeros(3, dtype=np.int64)}
    waiting = [0]
    while waiting:
        atom = waiting.pop()
        for bond in np.flatnonzero(i == atom):
            image = place[atom] + shifts[bond]
            if (known := place.get(int(j[bond]))) is None:
                place[int(j[bond])] = image
                waiting.append(int(j[bond]))
            elif (known != image).any():
                return True
    return False


def _walk(atoms: IntArray, neighbors: list[set[int]]) -> tuple[list[int], list[int]]:
    """Atoms of a molecule by decreasing mass, and for each the column of a bonded atom before it.

    Where no bond leads to an atom yet, it waits; in water none has to.
    """
    order, parents, waiting = [int(atoms[0])], [0], [int(a) for a in atoms[1:]]
    while waiting:
        for atom in waiting:
            touching = [k for k, placed in enumerate(order) if placed in neighbors[atom]]
            if touching:
                order.append(atom)
                parents.append(touching[0])
                waiting.remove(atom)
                break
    return order, parents


def _formula(numbers: IntArray) -> str:
    """Formula with the elements in alphabetical order (Hill's order without carbon): H2O."""
    symbols = sorted({chemical_symbols[z] for z in numbers})
    if "C" in symbols:
        symbols = ["C", *(["H"] if "H" in symbols else []), *(s for s in symbols if s not in ("C", "H"))]
    counts = [int((numbers == atomic_numbers[symbol]).sum()) for symbol in symbols]
    return "".join(
        symbol + (str(count) if count > 1 else "") for symbol, count in zip(symbols, counts, strict=True)
    )


def _normalized(formula: str) -> str:
    """A user's formula in the order used here; isotopes count as their element."""
    from ase.formula import Formula

    message = f"molecule must be a chemical formula such as H2O, got {formula!r}"
    try:
        counts = Formula(formula).count()
    except ValueError as error:
        raise UserError(message) from error
    numbers = [element_of(symbol) for symbol, count in counts.items() for _ in range(count)]
    if not numbers or None in numbers:
        raise UserError(message)
    return _formula(np.array(numbers))
