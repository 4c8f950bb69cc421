"""Neighbor lists of periodic and isolated structures (vesin), reused with a skin between time steps.

An edge e goes from its center i to the image of its neighbor j shifted by S lattice vectors:
``vector = positions[j] - positions[i] + S @ cell``. Every edge (i, j, S) has its reverse (j, i, -S) in the list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import vesin
from ase.geometry import complete_cell

from ipi_driver.errors import UserError
from ipi_driver.structure import BoolArray, FloatArray, IntArray, Structure

_WIDE = 1000.0
"""Cutoffs between the outermost atoms above which gaps are closed: vesin's cells are counted in 32 bits."""
_MOST_CELLS = 1e9
"""Cells between an atom and the origin, whose number vesin holds in 32 bits."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges shorter than the cutoff, sorted by center, neighbor and image.

    Attributes
    ----------
    centers, neighbors
        (n_edges,) atom indices.
    reverse
        (n_edges,) index of the reversed edge.
    vectors
        (n_edges, 3) from center to neighbor, Å.
    topology
        A number that changes when the set of edges changes; equal numbers mean equal index arrays.
    """

    centers: IntArray
    neighbors: IntArray
    reverse: IntArray
    vectors: FloatArray
    topology: int


def all_pairs(structure: Structure, cutoff: float) -> tuple[IntArray, IntArray, IntArray]:
    """Directed pairs within ``cutoff`` (Å), images included: centers, neighbors (n,), lattice shifts (n, 3).

    Raises
    ------
    UserError
        If a periodic structure has no cell, or an atom lies so many cells away that they cannot be counted.
    """
    periodic = structure.cell[structure.pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise UserError(
            f"a structure periodic along {len(periodic)} directions needs as many independent cell vectors, got "
            f"{periodic.tolist()}; give it a cell, or take it as isolated (--no-pbc)"
        )
    cell = structure.cell if structure.periodic else np.zeros((3, 3))
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True)
    points = structure.positions
    if not structure.periodic:
        points = _without_gaps(points, np.eye(3), cutoff)
    elif not structure.pbc.all():
        directions = _free_directions(structure)
        points = _without_gaps(points, directions, cutoff)
        cell = _roomy_cell(structure, points, directions, cutoff)
    if structure.periodic:
        _check_near_the_cell(points, cell)
    box = cell if structure.periodic else np.eye(3)
    i, j, shifts = finder.compute(points=points, box=box, periodic=structure.periodic, quantities="ijS")
    return i.astype(np.int64), j.astype(np.int64), shifts.astype(np.int64)


def _check_near_the_cell(points: FloatArray, cell: FloatArray) -> None:
    """`UserError` where an atom is too far from the cell for its place in it to be known."""
    cells = np.abs(np.linalg.solve(cell.T, points.T))
    if not cells.size or cells.max() < _MOST_CELLS:
        return
    atom = int(cells.max(axis=0).argmax())
    raise UserError(
        f"atom {atom} lies {cells.max():.3g} cells away from the origin, expected less than {_MOST_CELLS:.0e}: the "
        "simulation has come apart, or its atoms were not wrapped for too long"
    )


def _free_directions(structure: Structure) -> FloatArray:
    """(n, 3) unit vectors along which a slab or wire is not periodic, at right angles to those along which it is."""
    cell = structure.cell.copy()
    cell[~structure.pbc] = 0.0
    free = np.asarray(complete_cell(cell))[~structure.pbc]
    return np.asarray(free / np.linalg.norm(free, axis=1)[:, None])


def roomy_cell(structure: Structure, cutoff: float) -> FloatArray:
    """(3, 3) cell, so long along directions without images that none comes within the cutoff, Å."""
    return _roomy_cell(structure, structure.positions, _free_directions(structure), cutoff)


def _roomy_cell(
    structure: Structure, points: FloatArray, directions: FloatArray, cutoff: float
) -> FloatArray:
    """Cell of a slab or wire with the non-periodic directions so long that no image comes within the cutoff."""
    cell = structure.cell.copy()
    long = [direction * (np.ptp(points @ direction) + 2.0 * cutoff + 1.0) for direction in directions]
    cell[~structure.pbc] = np.reshape(long, (-1, 3))
    return cell


def _without_gaps(points: FloatArray, directions: FloatArray, cutoff: float) -> FloatArray:
    """Positions with the same pairs within the cutoff, and no atom far from the others.

    Along a direction without images, atoms on both sides of a gap that is wider than the cutoff are no pair, however
    wide it is: it is made narrower. The positions serve to find pairs; what is computed of these takes the real ones.

    Parameters
    ----------
    points
        (n_atoms, 3), Å.
    directions
        (n, 3) unit vectors at right angles to each other.
    cutoff
        Å.
    """
    for direction in directions:
        along = points @ direction
        if not len(along) or not np.isfinite(along).all() or np.ptp(along) <= _WIDE * cutoff:
            continue
        order = np.argsort(along, kind="stable")
        steps = np.minimum(np.diff(along[order]), cutoff + 1.0)
        narrow = np.empty_like(along)
        narrow[order] = np.concatenate([[0.0], np.cumsum(steps)])
        points = points - np.outer(along, direction) + np.outer(narrow, direction)
    return points


def reverse_index(centers: IntArray, neighbors: IntArray, shifts: IntArray) -> IntArray:
    """(n_edges,) position of (j, i, -S) for each (i, j, S), of edges sorted by these."""
    backward = np.lexsort((-shifts[:, 2], -shifts[:, 1], -shifts[:, 0], centers, neighbors))
    reverse = np.empty(len(centers), dtype=np.int64)
    # the k-th edge equals the k-th smallest key of the reversed ones
    reverse[backward] = np.arange(len(centers))
    return reverse


class NeighborList:
    """Neighbor list of one evolving structure.

    The list is built for ``cutoff + skin`` and kept until an atom has moved by half the skin or the cell or the
    atoms have changed; between, only the edge vectors are computed again.

    Parameters
    ----------
    cutoff
        Å.
    skin
        Å; 0 builds the list at every call.
    """

    def __init__(self, cutoff: float, skin: float = 0.6) -> None:
        if cutoff <= 0:
            raise ValueError(f"`cutoff` must be positive, got {cutoff}")
        self.cutoff = cutoff
        self.skin = skin
        self.builds = 0
        self._topology = 0
        self._i = self._j = np.empty(0, dtype=np.int64)
        self._shifts = np.empty((0, 3))
        self._built_for: Structure | None = None
        self._inside: BoolArray | None = None
        self._last: tuple[tuple[bytes, ...], Edges] | None = None

    def edges(self, structure: Structure) -> Edges:
        """Edges of ``structure``, computed once for bitwise equal configurations."""
        # compared by value: the arrays of a structure may be changed in place
        parts = (structure.positions, structure.cell, structure.numbers, structure.pbc)
        configuration = tuple(part.tobytes() for part in parts)
        if self._last is not None and self._last[0] == configuration:
            return self._last[1]
        if not self._still_valid(structure):
            self._build(structure)
        vectors = structure.positions[self._j] - structure.positions[self._i]
        if self._has_shifts:
            vectors += self._shifts @ structure.cell
        inside = np.einsum("ij,ij->i", vectors, vectors) < self.cutoff**2
        if self._inside is None or not np.array_equal(inside, self._inside):
            self._select(inside)
        edges = Edges(self._sel_i, self._sel_j, self._sel_rev, vectors[self._selected], self._topology)
        self._last = (configuration, edges)
        return edges

    def _still_valid(self, structure: Structure) -> bool:
        built = self._built_for
        if (
            built is None
            or not np.array_equal(built.numbers, structure.numbers)
            or not np.array_equal(built.pbc, structure.pbc)
            or not np.array_equal(built.cell, structure.cell)
        ):
            return False
        moved = structure.positions - built.positions
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < (0.5 * self.skin) ** 2)

    def _build(self, structure: Structure) -> None:
        i, j, shifts = all_pairs(structure, self.cutoff + self.skin)
        # by center, neighbor and image: edges, and with them the rounding of every sum over them, are then a function
        # of the structure alone, not of when the list was built
        order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))
        i, j, shifts = i[order], j[order], shifts[order]
        before, self._built_for = self._built_for, replace(structure)  # with arrays of its own
        same = (
            before is not None
            and np.array_equal(before.numbers, structure.numbers)
            and np.array_equal(i, self._i)
            and np.array_equal(j, self._j)
            and np.array_equal(shifts, self._shifts)
        )
        if not same:  # a molecule that flies keeps its pairs: what was made of them, and recorded, stays
            self._i, self._j = i, j
            self._shifts = shifts.astype(np.float64)
            self._has_shifts = bool(shifts.any())
            self._reverse = reverse_index(i, j, shifts)
            self._inside = None  # what was selected belongs to the old list, even where the new one is empty
        self.builds += 1

    def _select(self, inside: BoolArray) -> None:
        """Index arrays of the edges inside the cutoff. A vector and its reverse have bitwise equal length."""
        self._inside = inside
        self._selected = np.flatnonzero(inside)
        renumbered = np.cumsum(inside) - 1
        self._sel_i, self._sel_j = self._i[self._selected], self._j[self._selected]
        self._sel_rev = renumbered[self._reverse[self._selected]]
        self._topology += 1
