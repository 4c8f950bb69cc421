"""Elements behind the labels of atoms, which for i-PI may be isotopes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ipi_driver.errors import UserError
from ipi_driver.structure import IntArray

ISOTOPES = {"D": 1, "T": 1, "C13": 6, "C14": 6, "O17": 8, "O18": 8, "Cl37": 17, "Br81": 35}
"""Labels of isotopes to atomic numbers."""


N_NUMBERS = len(chemical_symbols)
"""Length of a table that is indexed by atomic numbers."""


def places_in(species: Sequence[int]) -> IntArray:
    """(N_NUMBERS,) place of each atomic number among ``species``, -1 for those that are not there.

    >>> places_in([1, 8])[[8, 1, 6]].tolist()
    [1, 0, -1]
    """
    places = np.full(N_NUMBERS, -1)
    places[list(species)] = np.arange(len(species))
    return places


def element_of(label: str) -> int | None:
    """Atomic number of a label; None if the label is unknown."""
    return ISOTOPES.get(label, atomic_numbers.get(label))


def elements_of(labels: Sequence[str], source: Path) -> IntArray:
    """(n_atoms,) atomic numbers; isotopes count as their element.

    Raises
    ------
    UserError
        If a label is unknown.
    """
    unknown = sorted(label for label in set(labels) if not element_of(label))
    if unknown:
        raise UserError(f"{source}: unknown element {unknown[0]!r}; expected chemical symbols or isotopes")
    return np.array([element_of(label) for label in labels], dtype=np.int64)
