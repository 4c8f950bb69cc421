"""Relatives among structures: snapshots of one trajectory, or copies displaced a little.

Two structures with the same elements in the same order and cells that agree along the periodic directions are
relatives where the root mean square over atoms of the minimum-image displacement, less a common translation, is below
a threshold. A **family** holds all that are connected by such steps. A model tested on relatives of its training
structures is tested on what it has seen; a split by similarity keeps every family in one part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase.geometry import complete_cell
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray, IntArray, Structure

THRESHOLD = 1.5
"""Å: liquid water of one density moved this far in about a picosecond; independent snapshots are 3 Å apart."""

_CELLS = 0.3  # Å: largest difference of an entry of the cells


def distances(structure: Structure, others: Sequence[Structure]) -> FloatArray:
    """(n_others,) root mean square displacements from one structure to others of the same elements, Å.

    Cells may differ a little: the displacements are those of fractional coordinates, in the mean of the cells.
    """
    if not structure.pbc.any():
        moved = np.array([other.positions for other in others]) - structure.positions
        return _rms(moved - moved.mean(1, keepdims=True))
    cell = complete_cell(_periodic_part(structure))
    cells = np.array([np.where(structure.pbc[:, None], other.cell, cell) for other in others])
    positions = np.array([other.positions for other in others])
    fractional = positions @ np.linalg.inv(cells) - structure.positions @ np.linalg.inv(cell)
    # along a periodic direction the mean is that of angles
    angle = np.angle(np.exp(2j * np.pi * fractional).mean(1, keepdims=True)) / (2 * np.pi)
    moved = fractional - np.where(structure.pbc, angle, fractional.mean(1, keepdims=True))
    moved = moved - np.where(structure.pbc, np.round(moved), 0.0)
    return _rms((moved - moved.mean(1, keepdims=True)) @ (0.5 * (cells + cell)))


def _periodic_part(structure: Structure) -> FloatArray:
    """The cell, zero along directions without images, where what a file has means nothing."""
    return np.where(structure.pbc[:, None], structure.cell, 0.0)


def _rms(displacements: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.square(displacements).sum(2).mean(1)))


def relatives(structures: Sequence[Structure], threshold: float = THRESHOLD) -> tuple[IntArray, FloatArray]:
    """All pairs of relatives.

    Returns
    -------
    pairs, distances
        (n_pairs, 2) indices, the smaller first, and (n_pairs,) in Å.
    """
    groups = _groups(structures)
    pairs, found = [np.zeros((0, 2), dtype=np.int64)], [np.zeros(0)]
    for group in groups.values():
        members = np.array(group)
        cells = np.array([_periodic_part(structures[k]) for k in group])
        for place, k in enumerate(group[:-1]):
            near = np.abs(cells[place + 1 :] - cells[place]).max((1, 2)) < _CELLS
            candidates = members[place + 1 :][near]
            if len(candidates) == 0:
                continue
            apart = distances(structures[k], [structures[j] for j in candidates])
            close = apart < threshold
            pairs.append(np.stack([np.full(close.sum(), k), candidates[close]], axis=1))
            found.append(apart[close])
    return np.concatenate(pairs), np.concatenate(found)


def _kind(structure: Structure) -> tuple[bytes, bytes]:
    """What relatives have in common beside their cells."""
    return structure.numbers.tobytes(), structure.pbc.tobytes()


def _groups(structures: Sequence[Structure]) -> dict[tuple[bytes, bytes], list[int]]:
    """Indices of the structures of each kind."""
    groups: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for k, structure in enumerate(structures):
        groups[_kind(structure)].append(k)
    return groups


def families(structures: Sequence[Structure], threshold: float = THRESHOLD) -> IntArray:
    """(n_structures,) number of the family of each structure, from 0 in the order of their first members."""
    pairs, _ = relatives(structures, threshold)
    n = len(structures)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse], dtype=np.int64)


def nearest(
    structures: Sequence[Structure], others: Sequence[Structure], threshold: float = THRESHOLD
) -> FloatArray:
    """(n_structures,) distance in Å to the nearest relative among ``others``, infinity where there is none."""
    groups = _groups(others)
    result = np.full(len(structures), np.inf)
    for k, structure in enumerate(structures):
        members = groups.get(_kind(structure), [])
        cell = _periodic_part(structure)
        near = [others[j] for j in members if np.abs(_periodic_part(others[j]) - cell).max() < _CELLS]
        closest = distances(structure, near).min() if near else np.inf
        if closest < threshold:
            result[k] = closest
    return result


def family_order(labels: IntArray, n_validation: int, n_test: int, seed: int) -> IntArray:
    """An order of the structures whose last ``n_test``, and ``n_validation`` before them, have no relative elsewhere.

    Families are drawn at random for the test and the validation part; one that is larger than the room left in a part
    is passed over. All others follow in random order as training structures.

    Parameters
    ----------
    labels
        (n_structures,) from `families`.
    n_validation, n_test
        Sizes of the parts.
    seed
        Of the draw.

    Raises
    ------
    UserError
        If the families do not fill the parts.
    """
    generator = np.random.default_rng(seed)
    sizes = np.bincount(labels)
    left = generator.permutation(len(sizes)).tolist()
    parts = []
    for name, wanted in (("test", n_test), ("validation", n_validation)):
        chosen: list[int] = []
        room = wanted
        for family in list(left):
            if sizes[family] <= room and len(left) > 1:
                chosen.append(family)
                left.remove(family)
                room -= int(sizes[family])
        if room:
            raise UserError(
                f"`split: similarity` finds {wanted - room} of {wanted} structures for the {name} part: the "
                f"{len(labels)} structures are {len(sizes)} families of relatives, the largest of {sizes.max()}; "
                "ask for fewer, lower `similarity_threshold`, or use `split: random`"
            )
        parts.append(generator.permutation(np.flatnonzero(np.isin(labels, chosen))))
    rest = generator.permutation(np.flatnonzero(np.isin(labels, left)))
    return np.concatenate([rest, parts[1], parts[0]])
