"""Harmonic springs between all atoms, stiffer along z: a potential of another package."""

from __future__ import annotations

import numpy as np

from ipi_driver import UserError
from ipi_driver.potentials import Potential, PotentialSpec
from ipi_driver.structure import FloatArray, RotatedResults, Structure

STIFFNESS = {"soft": 0.1, "hard": 1.0}


class Springs(Potential):
    """E = k/2 sum over pairs of (x² + y² + (1 + a) z²), in eV and Å."""

    options = ("anisotropy",)

    def __init__(self, stiffness: float, anisotropy: float) -> None:
        self.name = "springs"
        self.k = stiffness * np.diag([1.0, 1.0, 1.0 + anisotropy])

    @classmethod
    def from_spec(cls, spec: PotentialSpec, device: str = "cpu", dtype: str | None = None) -> Springs:
        """From ``springs:soft?anisotropy=0.1``."""
        cls.check_spec(spec)
        return cls(STIFFNESS[spec.name], float(spec.options.get("anisotropy", "0.1")))

    @classmethod
    def check_spec(cls, spec: PotentialSpec) -> None:
        """Refuse unknown names."""
        if spec.name not in STIFFNESS:
            raise UserError(f"springs: expected soft or hard, got {spec.name!r}")

    def _evaluate(self, structures: list[Structure], rotations: FloatArray) -> RotatedResults:
        energies, forces, virials = [], [], []
        for structure in structures:
            # positions @ R.T in the frame: k there is R.T k R in the laboratory
            turned = rotations.transpose(0, 2, 1) @ self.k @ rotations
            relative = structure.positions - structure.positions.mean(axis=0)
            force = -structure.n_atoms * relative @ turned
            energies.append(-0.5 * np.einsum("kia,ia->k", force, relative))
            forces.append(force)
            virials.append(np.einsum("kia,ib->kab", force, relative))
        return RotatedResults(np.array(energies), tuple(forces), np.array(virials))
