"""Bond lengths and angles within molecules, as distributions over a run.

Bonds are those along which molecules are made whole (`Molecules.parents`): every bond of a molecule without rings, of a
ring all but one. Angles are those between two such bonds of one atom. Densities ``p(d)`` per Å and ``p(angle)`` per
degree integrate to 1 over the kinds of bond (O-H) and of angle (H-O-H) each.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from ase.data import chemical_symbols

from ipi_driver.observables.blocks import Blocks
from ipi_driver.observables.molecules import Molecules
from ipi_driver.observables.statistics import Estimate
from ipi_driver.structure import FloatArray, IntArray

LONGEST = 3.0
"""Å: bonds between light elements are shorter."""


class Distribution:
    """Histogram and mean of one internal coordinate, streamed."""

    def __init__(self, lowest: float, highest: float, n_bins: int) -> None:
        self.edges = np.linspace(lowest, highest, n_bins + 1)
        self.centers = np.asarray(0.5 * (self.edges[1:] + self.edges[:-1]))
        self._density, self._mean = Blocks(), Blocks()

    def add(self, values: FloatArray) -> None:
        """Add the values of one snapshot."""
        counts, _ = np.histogram(values, self.edges)
        self._density.add(counts / (len(values) * np.diff(self.edges)))
        self._mean.add(values.mean())

    def result(self, spacing: float) -> tuple[Estimate, Estimate]:
        """Density at `centers` and mean; ``spacing`` is the time between snapshots in fs.

        Raises
        ------
        UserError
            If the trajectory is too short for a block average.
        """
        return self._density.estimate(spacing, short_blocks=True), self._mean.estimate(
            spacing, short_blocks=True
        )


class InternalCoordinates:
    """Bonds and angles of molecules of one kind, by the elements that they join, streamed.

    Molecules whose atoms stand in another order, so that other columns are bonded than in the first, are left out.

    Attributes
    ----------
    bonds, angles
        `Distribution` by name, such as ``"O–H"`` (Å) and ``"H–O–H"`` (degrees).
    """

    def __init__(self, molecules: Molecules) -> None:
        symbols = [chemical_symbols[z] for z in molecules.numbers]
        self._as_the_first = (molecules.parents == molecules.parents[0]).all(axis=1)
        pairs = [(int(parent), k) for k, parent in enumerate(molecules.parents[0]) if k > 0]
        self._bonds = _by_name(_bond_names(pairs, symbols))
        around: dict[int, list[int]] = {}
        for first, second in pairs:
            around.setdefault(first, []).append(second)
            around.setdefault(second, []).append(first)
        triples = [
            (a, center, b) for center, ends in around.items() for a, b in combinations(sorted(ends), 2)
        ]
        self._angles = _by_name({triple: _angle_name(triple, symbols) for triple in triples})
        self.bonds = {name: Distribution(0.0, LONGEST, 300) for name in self._bonds}
        self.angles = {name: Distribution(0.0, 180.0, 180) for name in self._angles}

    def add(self, whole: FloatArray) -> None:
        """Add the (n_molecules, n_sites, 3) positions in Å of one snapshot, molecules whole."""
        whole = whole[self._as_the_first]
        for name, pairs in self._bonds.items():
            lengths = np.linalg.norm(whole[:, pairs[:, 0]] - whole[:, pairs[:, 1]], axis=-1)
            self.bonds[name].add(lengths.ravel())
        for name, triples in self._angles.items():
            arms = [whole[:, triples[:, end]] - whole[:, triples[:, 1]] for end in (0, 2)]
            cosines = np.einsum("mkx,mkx->mk", *arms) / np.prod(
                [np.linalg.norm(a, axis=-1) for a in arms], axis=0
            )
            self.angles[name].add(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).ravel())


def _by_name(names: dict[tuple[int, ...], str]) -> dict[str, IntArray]:
    """Site indices by name, (n, 2) or (n, 3)."""
    return {
        name: np.array([sites for sites, known in names.items() if known == name])
        for name in dict.fromkeys(names.values())
    }


def _bond_names(pairs: list[tuple[int, int]], symbols: list[str]) -> dict[tuple[int, ...], str]:
    """Names of bonds, one for each pair of elements: C–O of carbon dioxide is its O–C, whichever atom comes first."""
    names: dict[tuple[int, ...], str] = {}
    for first, second in pairs:
        name, other = f"{symbols[first]}–{symbols[second]}", f"{symbols[second]}–{symbols[first]}"
        names[first, second] = other if other in names.values() else name
    return names


def _angle_name(triple: tuple[int, int, int], symbols: list[str]) -> str:
    first, last = sorted((symbols[triple[0]], symbols[triple[2]]))
    return f"{first}–{symbols[triple[1]]}–{last}"
