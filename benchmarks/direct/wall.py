"""A wall between oxygens closer than 2.4 Å, where a model that was trained for minutes has seen little."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

START, STIFFNESS = 2.4, 60.0
"""Å, and eV/Å²."""


class Wall(Calculator):
    """Energy k (r0 - r)² / 2 of each pair of oxygens closer than r0, in a cell of at least twice that."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energy (eV), forces (eV/Å), stress (eV/Å³) of what lies within the wall."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        oxygens = np.flatnonzero(atoms.numbers == 8)
        apart = atoms.positions[oxygens, None] - atoms.positions[oxygens]
        if atoms.pbc.all():
            apart -= np.round(apart @ np.linalg.inv(atoms.cell.array)) @ atoms.cell.array
        distances = np.linalg.norm(apart, axis=-1) + 1e3 * np.eye(len(oxygens))
        depth = np.maximum(START - distances, 0.0)
        pairs = (STIFFNESS * depth / distances)[..., None] * apart
        forces = np.zeros((len(atoms), 3))
        forces[oxygens] = pairs.sum(axis=1)
        self.results = {"energy": 0.25 * STIFFNESS * float((depth**2).sum()), "forces": forces}
        if atoms.cell.rank == 3:
            virial = 0.5 * np.einsum("ija,ijb->ab", pairs, apart)
            self.results["stress"] = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
