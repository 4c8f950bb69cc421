"""Lengths in Å or bohr: what the distances of structures say, and files that are known to be in bohr.

The water data of Cheng et al., PNAS 116, 1110 (2019), have ``TotEnergy`` in the comment and ``force`` columns. The
original files are in bohr and hartree, files that others redistribute in eV and Å.
"""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.data import covalent_radii

from ipi_driver.neighbors import all_pairs
from ipi_driver.structure import Structure
from ipi_driver.units import BOHR

NATIVE_ENERGY, NATIVE_FORCES = "TotEnergy", "force"

BOND_RANGE = (0.7, 1.6)
"""Plausible nearest-neighbor distances in units of the sum of the covalent radii."""

_NOBLE_GASES = (2, 10, 18, 36, 54, 86)
_LOOKED_AT = 50  # structures whose distances choose between units
_LONGEST = 8.0  # Å: an atom without a neighbor up to here gives no ratio


def is_native(atoms: ase.Atoms) -> bool:
    """Whether a snapshot has the names of the water data, whose original files are in bohr and hartree."""
    return NATIVE_ENERGY in atoms.info and NATIVE_FORCES in atoms.arrays


def in_bohr(images: Sequence[ase.Atoms]) -> list[bool]:
    """Whether each snapshot of a file is of the water data and, by the distances of all of these, in bohr."""
    native = [Structure.from_atoms(atoms) for atoms in images if is_native(atoms)]
    bohr = bool(native) and not fits_other_lengths(native)
    return [bohr and is_native(atoms) for atoms in images]


def in_angstrom(images: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """The snapshots of a file that ASE has read, with those `in_bohr` converted.

    >>> water = ase.Atoms("OHH", [[0, 0, 0], [1.81, 0, 0], [0, 1.81, 0]], info={"TotEnergy": -17.2})
    >>> water.arrays["force"] = np.zeros((3, 3))
    >>> round(float(in_angstrom([water])[0].get_distance(0, 1)), 3)
    0.958
    """
    return [_scaled(atoms) if bohr else atoms for atoms, bohr in zip(images, in_bohr(images), strict=True)]


def _scaled(atoms: ase.Atoms) -> ase.Atoms:
    scaled = atoms.copy()
    scaled.set_positions(BOHR * scaled.positions, apply_constraint=False)
    scaled.set_cell(BOHR * np.array(scaled.cell))
    return scaled


def bond_ratio(structure: Structure) -> float:
    """Median over atoms of nearest-neighbor distance / sum of covalent radii; NaN where atoms are not bonded."""
    if structure.n_atoms < 3 or np.isin(structure.numbers, _NOBLE_GASES).any():
        return float("nan")  # a pair of atoms may be drawn apart on purpose
    cutoff = _LONGEST
    if structure.volume > 0.0:  # in a close packing the nearest neighbors are at 1.12 of this length
        cutoff = min(cutoff, 1.5 * (structure.volume / structure.n_atoms) ** (1.0 / 3.0))
    i, j, shifts = all_pairs(structure, cutoff)
    vectors = structure.positions[j] - structure.positions[i] + shifts @ structure.cell
    radii = covalent_radii[structure.numbers]
    nearest = np.full(structure.n_atoms, np.inf)
    np.minimum.at(nearest, i, np.linalg.norm(vectors, axis=1) / (radii[i] + radii[j]))
    median = float(np.median(nearest))
    return median if np.isfinite(median) else float("nan")


def fits_other_lengths(structures: Sequence[Structure]) -> bool:
    """Whether lengths that are bohr by the form of the data are plausible in Å and not in bohr.

    Parameters
    ----------
    structures
        With positions and cells as the file has them, taken for Å.
    """
    sample = structures[:: -(-len(structures) // _LOOKED_AT)]
    ratios = np.array([bond_ratio(s) for s in sample])
    if not np.isfinite(ratios).any():
        return False
    ratio, (low, high) = float(np.nanmedian(ratios)), BOND_RANGE
    return low <= ratio <= high and not low <= ratio * BOHR <= high
