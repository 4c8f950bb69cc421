"""The contract of every potential: structures × rotations in, results in the laboratory frame out.

A rotation R acts as ``positions @ R.T``, ``cell @ R.T``; the forces and the virial of the rotated structure come
back as ``forces @ R`` and ``R.T @ virial @ R``. For an equivariant potential the result does not depend on R.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.structure import FloatArray, Prediction, RotatedResults, Structure


class Potential(ABC):
    """An energy function of atoms, evaluated under many rotations at once.

    Attributes
    ----------
    name
        For logs and reports.
    cutoff
        Range of the neighbour list in Å, or None.
    species
        Atomic numbers that the potential knows, or None for any.
    warm_up
        Evaluations of a new size after which the next one takes its usual time.
    conditions
        Which of "charge" and "spin" of a structure it depends on; None: whatever its code reads of them.
    """

    name: str = "potential"
    cutoff: float | None = None
    species: tuple[int, ...] | None = None
    conditions: tuple[str, ...] | None = ()
    warm_up: int = 1

    def evaluate(self, structures: Sequence[Structure], rotations: ArrayLike) -> RotatedResults:
        """Energies, forces and virials of every structure under every rotation, turned back to the laboratory frame.

        Parameters
        ----------
        structures
            n_structures structures, which may differ in size.
        rotations
            (n_rotations, 3, 3) matrices in O(3).

        Returns
        -------
        RotatedResults
            energies (n_structures, n_rotations) in eV, forces n_structures × (n_rotations, n_atoms, 3) in eV/Å,
            virials (n_structures, n_rotations, 3, 3) in eV.

        Raises
        ------
        UserError
            If an element is unknown or a matrix is not orthogonal.
        """
        matrices = np.asarray(rotations, dtype=np.float64)
        if matrices.ndim != 3 or matrices.shape[1:] != (3, 3):
            raise UserError(f"`rotations` must have shape (n_rotations, 3, 3), got {matrices.shape}")
        if np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0) > 1e-8:
            raise UserError("`rotations` must be orthogonal matrices, got one with R R^T != 1")
        for structure in structures:
            self.check_species(structure)
        return self._evaluate(list(structures), matrices)

    @abstractmethod
    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        """`evaluate` after validation."""

    def predict(self, structure: Structure) -> Prediction:
        """Result for one structure as it stands (for a wrapper: with its averaging)."""
        self.check_species(structure)
        return self._evaluate([structure], np.eye(3)[None]).prediction()

    def check_species(self, structure: Structure) -> None:
        """Raise `UserError` where the structure holds an element that the potential does not know."""
        if self.species is None:
            return
        unknown = sorted(set(structure.numbers.tolist()) - set(self.species))
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.species)
            got = ", ".join(chemical_symbols[z] for z in unknown)
            raise UserError(
                f"the model {self.name} knows the elements {known}, but the structure holds {got}"
            )

    def check_conditions(self, charge: float | None = None, spin: int | None = None) -> None:
        """Raise `UserError` where a charge or spin is asked for that the potential does not depend on."""
        for name, value in (("charge", charge), ("spin", spin)):
            if value is not None and self.conditions is not None and name not in self.conditions:
                raise UserError(
                    f"the model {self.name} does not depend on the {name}, got --{name} {value:g}; leave it out, or "
                    "take a model that was trained with it"
                )
